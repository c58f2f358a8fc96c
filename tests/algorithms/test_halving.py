"""Early stopping: who goes on, who stops, and what a plan makes of it."""

import pytest
from playing import CONFIGS, asks, play, stops

from eeipu import Float
from eeipu.algorithms.configurations import random
from eeipu.algorithms.halving import ASHA, Hyperband, SuccessiveHalving, geometric_rungs
from eeipu.errors import ConfigurationError

# --- successive halving ---------------------------------------------------------------------


def test_rungs_divide_the_end():
    assert geometric_rungs(1, 81) == [1, 3, 9, 27, 81]
    assert geometric_rungs(1, 1000, 10) == [1, 10, 100, 1000]
    assert geometric_rungs(7, 100, 3) == [11, 33, 100]
    assert geometric_rungs(5, 5) == [5]


@pytest.mark.parametrize("arguments", [(0, 9, 3), (9, 3, 3), (1, 9, 1.0)])
def test_rungs_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ConfigurationError, match="1 <= min_steps <= max_steps and eta > 1"):
        geometric_rungs(*arguments)


def test_the_best_third_goes_on_once_all_have_come():
    halving = SuccessiveHalving(CONFIGS, [1, 3, 9])
    assert asks(halving.start()) == [(trial, 1) for trial in range(9)]
    for trial in range(8):
        assert halving.tell(trial, 1, trial) == []
    moves = halving.tell(8, 1, 8)
    assert asks(moves) == [(8, 3), (7, 3), (6, 3)]
    assert stops(moves) == [0, 1, 2, 3, 4, 5]


def test_halving_ends_with_one():
    history = play(SuccessiveHalving(CONFIGS, [1, 3, 9]))
    assert [trial for trial, steps in history.items() if steps == [1, 3, 9]] == [8]


def test_trials_that_failed_never_go_on():
    halving = SuccessiveHalving(CONFIGS[:3], [1, 3])
    list(halving.start())
    moves = [move for trial in range(3) for move in halving.tell(trial, 1, None)]
    assert asks(moves) == []
    assert stops(moves) == [0, 1, 2]


def test_ties_go_to_the_earlier_trial():
    history = play(SuccessiveHalving(CONFIGS, [1, 3, 9]), value=lambda config, step: 0.0)
    assert history[0] == [1, 3, 9]


@pytest.mark.parametrize("algorithm", [SuccessiveHalving, ASHA])
@pytest.mark.parametrize("rungs", [[], [1, 9, 3, 20]])
def test_rungs_must_ascend(algorithm, rungs):
    with pytest.raises(ConfigurationError, match="rungs must be steps in ascending order"):
        algorithm([], rungs)


# --- hyperband ------------------------------------------------------------------------------


def test_hyperband_has_the_brackets_of_the_paper():
    # Li et al. 2018, table 1: R = 81, eta = 3.
    hyperband = Hyperband(random({"x": Float(0.0, 1.0)}, 0), 1, 81)
    first = {}
    for _, step in asks(hyperband.start()):
        first[step] = first.get(step, 0) + 1
    assert first == {1: 81, 3: 34, 9: 15, 27: 8, 81: 5}


def test_every_bracket_of_hyperband_comes_to_the_end():
    history = play(Hyperband(random({"x": Float(0.0, 1.0)}, 0), 1, 9))
    ends = [steps for steps in history.values() if steps[-1] == 9]
    assert sorted(steps[0] for steps in ends) == [1, 3, 9, 9, 9]


def test_hyperband_makes_do_with_fewer_configurations_and_says_so():
    with pytest.warns(RuntimeWarning, match=r"take 17 .* there are 9, .* steps \[3, 9\] are empty"):
        hyperband = Hyperband(CONFIGS, 1, 9)
    assert len(play(hyperband)) == 9
    with pytest.warns(
        RuntimeWarning, match=r"there are 16, so that the last brackets are smaller\."
    ):
        Hyperband([{"x": x} for x in range(16)], 1, 9)


# --- ASHA -----------------------------------------------------------------------------------


def test_asha_promotes_as_soon_as_it_can():
    asha = ASHA(CONFIGS, [1, 3, 9], concurrency=1)
    assert asks(asha.start()) == [(0, 1)]
    assert asks(asha.tell(0, 1, 5.0)) == [(1, 1)]
    assert asks(asha.tell(1, 1, 4.0)) == [(2, 1)]
    assert asks(asha.tell(2, 1, 3.0)) == [(0, 3)]
    assert asks(asha.tell(0, 3, 6.0)) == [(3, 1)]


def test_asha_keeps_its_concurrency_and_trains_everyone_a_little():
    history = play(ASHA(CONFIGS, [1, 3, 9], concurrency=4))
    assert all(steps[0] == 1 for steps in history.values())
    assert len(history) == 9
    assert history[8] == [1, 3, 9]
    # Promotions need three results at a rung.
    assert sum(len(steps) > 1 for steps in history.values()) >= 3


def test_asha_never_promotes_a_failure():
    history = play(ASHA(CONFIGS, [1, 3], concurrency=2), value=lambda config, step: None)
    assert all(steps == [1] for steps in history.values())
