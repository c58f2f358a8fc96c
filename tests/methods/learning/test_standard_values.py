"""The scale of the objective, and what failures count as."""

import math

import numpy as np
import pytest
from histories import models_of


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_values_are_zero_at_the_median_and_one_at_the_best(direction):
    sign = 1.0 if direction == "maximize" else -1.0
    trials = [(0.1 * i, 0.5, sign * v) for i, v in enumerate([7.0, -300.0, 5.0, 9.0, 5.0])]

    models = models_of([*trials, (0.9, 0.9, None)], direction=direction)

    assert models.standard.values[:5].tolist() == pytest.approx([0.5, -76.25, 0.0, 1.0, 0.0])
    assert math.isnan(models.standard.values[5])
    assert models.standard.unit == pytest.approx(4.0)


def test_where_most_values_are_the_best_the_unit_is_how_far_the_worst_is():
    models = models_of([(0.1 * i, 0.5, v) for i, v in enumerate([1e-9, 0.0, 1e-9, 1e-9])])

    assert models.standard.unit == pytest.approx(1e-9)


def test_equal_values_are_all_zero():
    models = models_of([(0.1 * i, 0.5, 3.0) for i in range(4)])

    assert models.standard.values.tolist() == [0.0] * 4
    assert math.isfinite(models.best_f)


def test_failures_have_no_value_wherever_they_are():
    """As the worst value they would hide what is good at the edge of a region that fails."""
    places = np.random.default_rng(0).random((24, 2))
    trials = [(x, y, x + y if x < 0.6 else None) for x, y in places]

    values = models_of([*trials, (0.1, 0.5, None)]).standard.values

    assert np.isnan(values).tolist() == [*(places[:, 0] >= 0.6).tolist(), True]
