"""The course of runs over the budget and over trials."""

import numpy as np
import pytest
from benchmark_toys import result

from eeipu.benchmarks.analysis.curves import (
    over_budget,
    over_iterations,
    shares,
    suggestion_seconds,
)
from eeipu.benchmarks.analysis.tables import summaries


def test_a_value_counts_from_when_it_was_paid_for():
    curve = over_budget([result([1.0, 2.0, 3.0, 4.0, 5.0], start=1.0)])
    # Each trial costs a fifth of the budget.
    assert curve.x[0] == pytest.approx(0.2, abs=0.01)
    assert curve.mean[np.searchsorted(curve.x, 0.39)] == 0.0
    assert curve.mean[np.searchsorted(curve.x, 0.41)] == 1.0
    assert (curve.x[-1], curve.mean[-1]) == (1.0, 4.0)
    assert not curve.half_width.any()


def test_a_trial_that_exceeds_the_budget_counts_at_its_end():
    curve = over_budget([result([1.0, 2.0, 9.0], start=1.0, budget=5.0)])
    assert (curve.mean[-2], curve.mean[-1]) == (1.0, 8.0)


def test_curves_over_iterations_go_as_far_as_all_runs_do():
    runs = [result([1.0, 2.0, 3.0]), result([1.0, 4.0], seed=1)]
    curve = over_iterations(runs)
    assert curve.x.tolist() == [1.0, 2.0]
    assert curve.mean.tolist() == [1.0, 3.0]
    assert curve.half_width[1] == pytest.approx(12.7062, rel=1e-5)
    assert suggestion_seconds(runs).mean.tolist() == [0.5, 0.5]


def test_a_curve_of_several_problems_is_the_mean_of_means_by_seed():
    runs = [
        result([0.0, value], seed=seed, optimum=10.0, problem=problem)
        for problem, values in (("toy", (1.0, 2.0, 3.0)), ("noisy", (9.0, 7.0, 5.0)))
        for seed, value in enumerate(values)
    ]
    row = summaries(runs)[-1]
    for curve in (over_budget(runs, shares), over_iterations(runs, shares)):
        assert curve.mean[-1] == pytest.approx(row.share.value)
        assert curve.half_width[-1] == pytest.approx(row.share.half_width)


def test_courses_in_shares_of_what_was_possible():
    runs = [result([0.0, 1.0, 2.0], optimum=4.0), result([0.0, 0.0, 2.0], optimum=2.0)]
    curve = over_iterations(runs, shares)
    assert curve.mean.tolist() == [0.0, 0.125, 0.75]
