"""Early stopping: who goes on, who stops, and what a plan makes of it."""

import pytest
from playing import CONFIGS, asks, play, stops

from eeipu import Float
from eeipu.algorithms.configurations import random
from eeipu.algorithms.halving import ASHA, Hyperband, SuccessiveHalving, geometric_rungs
from eeipu.algorithms.moves import Ask, OtherTrial
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


# --- trials of other processes


def others(*changes):
    """News that come one batch at a call, and then no more."""
    batches = iter(changes)
    return lambda: next(batches, ())


def other(number, values, **options):
    return OtherTrial(number, {}, values, **options)


def test_asha_promotes_its_own_trials_only_if_they_are_among_the_best_of_all():
    better = [(None, other(k, {1: 9.0})) for k in range(3)]
    asha = ASHA(CONFIGS, [1, 3, 9], concurrency=1, news=others((), (), better, ()))
    assert asks(asha.start()) == [(0, 1)]
    assert asks(asha.tell(0, 1, 5.0)) == [(1, 1)]
    assert asks(asha.tell(1, 1, 4.0)) == [(2, 1)]  # alone it would promote trial 0 next
    assert asks(asha.tell(2, 1, 3.0)) == [(3, 1)]
    for trial in (3, 4, 5):  # of nine, three go on, and these are the others'
        assert asks(asha.tell(trial, 1, 1.0)) == [(trial + 1, 1)]


def test_asha_counts_the_worse_trials_of_others():
    worse = [(None, other(0, {1: 1.0})), (None, other(1, {}, has_failed=True))]
    asha = ASHA(CONFIGS, [1, 3], concurrency=1, news=others(worse))
    assert asks(asha.start()) == [(0, 1)]
    assert asks(asha.tell(0, 1, 5.0)) == [(0, 3)]


def test_asha_forgets_a_trial_of_another_process_that_counts_no_more():
    known = other(0, {1: 9.0})
    news = others([(None, known), (None, other(1, {1: 8.0}))], [(known, None)])
    asha = ASHA(CONFIGS, [1, 3], 2, concurrency=1, news=news)
    assert asks(asha.start()) == [(0, 1)]
    assert asks(asha.tell(0, 1, 8.5)) == [(0, 3)]


@pytest.mark.parametrize("eta", [2, 3])
def test_processes_that_tell_each_other_promote_about_as_many_as_one(eta):
    """Two that take turns: what each has becomes known to the other at once."""
    values = [(37 * k) % 101 for k in range(100)]

    def run(parts):
        told = {k: [] for k in range(len(parts))}
        ashas = [
            ASHA([{"x": x} for x in part], [1, 3], eta, 1, news_of(told, k))
            for k, part in enumerate(parts)
        ]
        asked = [list(asha.start()) for asha in ashas]
        promoted = 0
        while any(asked):
            for k, asha in enumerate(ashas):
                if asked[k] and isinstance(move := asked[k].pop(0), Ask):
                    promoted += move.step == 3
                    curve = {s: move.config["x"] for s in (1, 3) if s <= move.step}
                    told[k].append(other(1000 * k + move.trial, curve))
                    asked[k] += asha.tell(move.trial, move.step, curve[move.step])
        return promoted

    alone, together = run([values]), run([values[::2], values[1::2]])
    assert abs(together - alone) <= 3


def news_of(told, k):
    known, place = {}, {j: 0 for j in told if j != k}

    def news():
        for j in place:
            for now in told[j][place[j] :]:
                yield known.get(now.number), now
                known[now.number] = now
            place[j] = len(told[j])

    return news
