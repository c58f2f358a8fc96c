"""The budget that reaches what another contender has at its end."""

import math

import pytest
from benchmark_toys import result

from eeipu.benchmarks.analysis.reaching import reaching, share_needed
from eeipu.benchmarks.analysis.tables import ALL


def pairs(*both, problem="toy", optimum=10.0):
    return [
        result(values, contender=contender, seed=seed, problem=problem, optimum=optimum)
        for seed, runs in enumerate(both)
        for contender, values in zip(("ei", "eeipu"), runs, strict=True)
    ]


def test_a_run_needs_the_budget_up_to_the_first_trial_that_is_good_enough():
    run = result([0.0, 3.0, 2.0, 5.0, 5.0, 9.0])  # each trial costs a fifth of the budget
    assert share_needed(run, 3.0) == 0.4
    assert share_needed(run, 4.0) == 0.8
    assert share_needed(run, 9.0) == 1.0  # by the trial that exceeds the budget
    assert share_needed(run, 10.0) == math.inf


def test_minimised_objectives_and_failures_count_as_they_do_elsewhere():
    run = result([4.0, None, 1.0], start=4.0, direction="minimize")
    assert share_needed(run, 3.0) == pytest.approx(0.6)


def test_what_rounding_alone_tells_apart_is_reached():
    assert share_needed(result([0.3]), 0.1 + 0.2) == 0.2


def test_the_median_is_over_all_pairs_and_those_that_never_get_there_count():
    early, late, never = [0.0, 4.0, 4.0], [0.0, 0.0, 0.0, 4.0], [0.0, 1.0, 3.0]
    ei = [0.0, 1.0, 4.0]
    rows = reaching(pairs((ei, early), (ei, late), (ei, never)), against="ei")
    assert [row.method for row in rows] == ["ei", "eeipu"]
    own, row = rows
    assert (own.pairs, own.reached, own.budget) == (3, 1.0, pytest.approx(0.6))
    assert (row.pairs, row.reached, row.budget) == (3, pytest.approx(2 / 3), pytest.approx(0.8))
    (row,) = reaching(pairs((ei, never), (ei, never), (ei, late)), against="ei", methods=["eeipu"])
    assert row.budget is None


def test_what_can_be_gained_at_most_is_by_how_much_the_optimum_is_better():
    (_, row) = reaching(pairs(([0.0, 8.0], [0.0, 9.0]), ([0.0, 8.0], [0.0, 9.0])), against="ei")
    assert row.larger == pytest.approx(1 / 8)
    assert row.at_most == pytest.approx(2 / 8)
    assert row.of_the_rest == pytest.approx(0.5)


def test_all_problems_together_have_means_of_ratios_and_of_shares():
    runs = [
        *pairs(([0.0, 5.0], [0.0, 10.0])),
        *pairs(([0.0, 8.0], [0.0, 8.0]), problem="noisy"),
    ]
    row = reaching(runs, against="ei", methods=["eeipu"])[-1]
    assert (row.problem, row.pairs) == (ALL, 2)
    assert row.larger == pytest.approx((1.0 + 0.0) / 2)
    assert row.at_most == pytest.approx((1.0 + 0.25) / 2)
    assert row.of_the_rest == pytest.approx((0.9 - 0.65) / 0.35)


def test_what_is_not_known_is_left_out():
    (row,) = reaching(pairs(([0.0, -1.0], [0.0, 1.0]), optimum=None), against="ei")[1:]
    assert (row.at_most, row.of_the_rest) == (None, None)
    assert row.larger is None  # the reference has not improved
    (row,) = reaching(pairs(([None, None], [0.0, 1.0])), against="ei")[1:]
    assert (row.reached, row.budget, row.of_the_rest) == (1.0, 0.2, None)


def test_contenders_without_a_pair_have_no_row():
    runs = pairs(([0.0, 1.0], [0.0, 1.0]))
    assert [
        row.method
        for row in reaching([*runs, result([0.0], contender="tpe", seed=7)], against="ei")
    ] == [
        "ei",
        "eeipu",
    ]
    assert reaching(runs, against="carbo") == []
