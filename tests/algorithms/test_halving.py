"""Early stopping: who goes on, who stops, and what a plan makes of it."""

import math

import pytest

from eeipu import Categorical, Float
from eeipu.algorithms.full_training import FullTraining, grid, random
from eeipu.algorithms.halving import (
    ASHA,
    Hyperband,
    MedianStopping,
    SuccessiveHalving,
    geometric_rungs,
)
from eeipu.algorithms.moves import Ask, Stop
from eeipu.errors import ConfigurationError, SpaceError

CONFIGS = [{"x": x} for x in range(9)]


def asks(moves):
    return [(move.trial, move.step) for move in moves if isinstance(move, Ask)]


def stops(moves):
    return sorted(move.trial for move in moves if isinstance(move, Stop))


def play(algorithm, value=lambda config, step: config["x"], workers=4):
    """Answer an algorithm, oldest first; the steps that each trial was asked for, in order."""
    waiting, history, stopped = [], {}, []
    moves = list(algorithm.start())
    while moves or waiting:
        for move in moves:
            if isinstance(move, Ask):
                waiting.append(move)
                history.setdefault(move.trial, []).append(move.step)
            else:
                stopped.append(move.trial)
        if not waiting:
            break
        ask = waiting.pop(0)
        moves = list(algorithm.tell(ask.trial, ask.step, value(ask.config, ask.step)))
    assert sorted(stopped) == sorted(history)
    return history


# --- where configurations come from ---------------------------------------------------------


def test_a_grid_is_every_configuration_once():
    space = {"lr": Categorical([0.1, 0.2]), "decay": Categorical(["a", "b"])}
    assert len({tuple(config.items()) for config in grid(space)}) == 4


def test_a_grid_of_a_continuous_space_is_refused():
    with pytest.raises(SpaceError, match="finitely many values"):
        grid({"lr": Float(0.0, 1.0)})


def test_random_configurations_repeat_with_their_seed():
    space = {"lr": Float(0.0, 1.0)}
    one, same, other = (random(space, seed) for seed in (1, 1, 2))
    assert [next(one), next(one)] == [next(same), next(same)] != [next(other), next(other)]


def test_full_training_trains_everything_to_the_end():
    space = {"x": Categorical([1, 2, 3])}
    assert play(FullTraining.grid(space, 9)) == {0: [9], 1: [9], 2: [9]}
    assert play(FullTraining.random(space, 4, 9, seed=0)) == {k: [9] for k in range(4)}


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


def test_hyperband_makes_do_with_fewer_configurations():
    assert len(play(Hyperband(CONFIGS, 1, 9))) == 9


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


# --- median stopping ------------------------------------------------------------------------


def test_a_trial_below_the_median_stops():
    median = MedianStopping([{"x": x} for x in (5, 6, 1)], max_steps=2, every=1, concurrency=3)
    assert asks(median.start()) == [(0, 1), (1, 1), (2, 1)]
    for trial, value in enumerate((5.0, 6.0)):
        assert asks(median.tell(trial, 1, value)) == [(trial, 2)]
        assert stops(median.tell(trial, 2, value)) == [trial]
    assert stops(median.tell(2, 1, 1.0)) == [2]


def test_nobody_is_stopped_for_trials_that_still_run():
    median = MedianStopping([{"x": x} for x in (5, 1)], max_steps=2, every=1, concurrency=2)
    list(median.start())
    median.tell(0, 1, 5.0)
    assert asks(median.tell(1, 1, 1.0)) == [(1, 2)]


def test_a_late_best_value_counts_for_a_trial():
    median = MedianStopping([{"x": x} for x in range(2)], max_steps=3, every=1, concurrency=2)
    list(median.start())
    for step in (1, 2, 3):
        median.tell(0, step, 5.0)
    assert stops(median.tell(1, 1, 9.0)) == []
    assert stops(median.tell(1, 2, 0.0)) == []


def test_nobody_is_stopped_too_early_and_the_end_is_the_end():
    history = play(
        MedianStopping(CONFIGS, max_steps=5, every=2, min_steps=4, concurrency=9),
    )
    assert all(steps[:2] == [2, 4] for steps in history.values())
    assert history[8] == [2, 4, 5]


def test_a_failed_trial_makes_room_for_a_new_one():
    median = MedianStopping(CONFIGS, max_steps=4, every=2)
    list(median.start())
    moves = median.tell(0, 2, None)
    assert (stops(moves), asks(moves)) == ([0], [(1, 2)])


@pytest.mark.parametrize("value", [math.inf, 0.0])
def test_without_others_nobody_is_poor(value):
    assert len(play(MedianStopping(CONFIGS[:1], max_steps=4, every=2), lambda c, s: value)) == 1


@pytest.mark.parametrize("algorithm", [SuccessiveHalving, ASHA])
@pytest.mark.parametrize("rungs", [[], [1, 9, 3, 20]])
def test_rungs_must_ascend(algorithm, rungs):
    with pytest.raises(ConfigurationError, match="rungs must be steps in ascending order"):
        algorithm([], rungs)
