"""The models of a search and the scale of the objective."""

import math

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from eeipu import Float, Pipeline
from eeipu.methods.history import History
from eeipu.methods.search_models import SearchModels

PIPELINE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


def models_of(trials, direction="maximize"):
    """The models of trials `(x, y, value)`; a value of `None` is a failure."""
    study = optuna.create_study(direction=direction)
    for x, y, value in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params={"prep.x": x, "fit.y": y},
                distributions=PIPELINE.space,
                value=value,
                state=TrialState.COMPLETE if value is not None else TrialState.FAIL,
            )
        )
    return SearchModels(History.of(study, PIPELINE))


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_values_are_zero_at_the_median_and_one_at_the_best(direction):
    sign = 1.0 if direction == "maximize" else -1.0
    trials = [(0.1 * i, 0.5, sign * v) for i, v in enumerate([7.0, -300.0, 5.0, 9.0, 5.0])]

    models = models_of([*trials, (0.9, 0.9, None)], direction=direction)

    assert models.values[:5].tolist() == pytest.approx([0.5, -76.25, 0.0, 1.0, 0.0])
    assert math.isnan(models.values[5])
    assert models.unit == pytest.approx(4.0)


def test_where_most_values_are_the_best_the_unit_is_how_far_the_worst_is():
    models = models_of([(0.1 * i, 0.5, v) for i, v in enumerate([1e-9, 0.0, 1e-9, 1e-9])])

    assert models.unit == pytest.approx(1e-9)


def test_equal_values_are_all_zero():
    models = models_of([(0.1 * i, 0.5, 3.0) for i in range(4)])

    assert models.values.tolist() == [0.0] * 4
    assert math.isfinite(models.best_f)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_scale_of_the_objective_does_not_matter(scale):
    rng = np.random.default_rng(0)
    points = rng.random((12, 2))
    X = torch.rand(5, 1, 2, dtype=torch.double)

    moments = [
        models_of([(x, y, s * (math.sin(6 * x) + y)) for x, y in points]).objective.posterior(X)
        for s in (1.0, scale)
    ]

    torch.testing.assert_close(moments[1].mean, moments[0].mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(moments[1].variance, moments[0].variance, rtol=1e-2, atol=1e-6)


def test_without_noise_the_best_value_is_the_best_observation():
    rng = np.random.default_rng(0)
    models = models_of([(x, y, math.sin(3 * x) - y) for x, y in rng.random((20, 2))])

    assert models.best_f == pytest.approx(1.0, abs=0.02)


def test_with_noise_the_best_value_is_not_taken_in_by_a_lucky_observation():
    rng = np.random.default_rng(0)
    points = rng.random((60, 2))
    truth = -((points[:, 0] - 0.5) ** 2)
    noisy = truth + 0.1 * rng.standard_normal(60)
    models = models_of([(x, y, v) for (x, y), v in zip(points, noisy, strict=True)])

    best = np.median(noisy) + models.unit * models.best_f

    assert abs(best - truth.max()) < 0.5 * abs(noisy.max() - truth.max())


def test_failures_count_as_the_worst_value_only_where_they_are_the_rule():
    """All fail at a large x, and one among successes at a small one."""
    places = np.random.default_rng(0).random((24, 2))
    trials = [(x, y, x + y if x < 0.6 else None) for x, y in places]

    models = models_of([*trials, (0.1, 0.5, None)])

    large = np.append(places[:, 0] > 0.75, False)
    assert (models.values[large] == np.nanmin(models.values)).all()
    assert math.isnan(models.values[-1])
