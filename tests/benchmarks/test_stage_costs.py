from dataclasses import replace

import pytest
from benchmark_toys import result

from eeipu.benchmarks.analysis.stage_costs import stage_costs


def beginning(run, *stages):
    """The run, whose trials after the warm-up begin at these stages (0 is the first)."""
    trials = [
        trial | {"stage_costs": [None if k < stage else 1.0 for k in range(2)]}
        for trial, stage in zip(run.trials, (0, 0, *stages), strict=True)
    ]
    return replace(run, trials=tuple(trials))


def test_the_cost_of_each_stage():
    first, second = stage_costs(
        [
            result([0.0, 1.0], stage_costs=(3.0, 1.0)),
            result([0.0, 1.0], seed=1, stage_costs=(None, 2.0)),
        ]
    )
    assert (first.stage, first.spent, first.executed, first.reused) == ("a", 3.0, 1.0, 1.0)
    assert (first.each, first.share) == (3.0, 0.5)
    assert (second.spent, second.executed, second.reused, second.each) == (3.0, 2.0, 0.0, 1.5)


def test_a_stage_that_never_ran_has_no_cost():
    (row, _) = stage_costs([result([0.0, 1.0], stage_costs=(None, 2.0))])
    assert row.each is None


def test_what_came_of_the_trials_that_began_at_each_stage():
    run = beginning(result([0.0, -1.0, 1.0, 0.5, 4.0]), 0, 1, 1)

    first, second = stage_costs([run])

    # The warm-up's two trials, which cost 2 each as all others do, do not count.
    assert (first.begun, first.paid, first.gained) == (1.0, pytest.approx(1 / 3), 0.25)
    assert (second.begun, second.paid, second.gained) == (2.0, pytest.approx(2 / 3), 0.75)


def test_gains_are_of_the_direction_and_in_means_over_runs():
    down = beginning(result([0.0, 1.0, -3.0, -4.0], direction="minimize"), 0, 1)
    level = beginning(result([0.0, 1.0, 0.5, 2.0], seed=1, direction="minimize"), 1, 1)

    first, second = stage_costs([down, level])

    assert (first.begun, first.gained) == (0.5, 0.75)
    assert (second.begun, second.gained) == (1.5, 0.25)


def test_nothing_gained_has_no_shares():
    run = beginning(result([0.0, -1.0, -2.0]), 0)
    assert [row.gained for row in stage_costs([run])] == [None, None]


def test_what_a_warm_up_of_ones_own_gained_was_not_gained_after_it():
    # It is behind the common warm-up's best, 0, then a trial comes up to 2.
    run = beginning(result([-5.0, -4.0, -1.0, 2.0]), 1, 0)

    first, second = stage_costs([run])

    assert (first.gained, second.gained) == (1.0, 0.0)


def test_trials_that_failed_before_any_stage_ended_or_reused_all_begin_nowhere_and_are_paid():
    run = beginning(result([0.0, 0.0, None, 1.0, 2.0]), 0, 0, 1)
    trials = list(run.trials)
    trials[2] |= {"stage_costs": None}
    trials[3] |= {"stage_costs": [None, None], "memoized": [True, True]}

    rows = stage_costs([replace(run, trials=tuple(trials))])

    assert [row.begun for row in rows] == [0.0, 1.0]
    assert [row.paid for row in rows] == [0.0, pytest.approx(1 / 3)]
    assert [row.gained for row in rows] == [0.0, 0.5]
