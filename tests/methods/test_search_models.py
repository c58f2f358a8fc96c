"""The models of a search and the scale of the objective."""

import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from eeipu import Float, Pipeline
from eeipu.methods.history import History
from eeipu.methods.search_models import Refits, SearchModels

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


@pytest.mark.parametrize("penalty", [-1e4, -1e30, -1.7e308])
def test_where_most_values_are_one_penalty_the_others_can_be_told_apart(penalty):
    """Half of the space is penalised, and more than half of the trials lie there."""
    x = [*np.linspace(0.55, 0.95, 13), *np.linspace(0.02, 0.5, 12)]
    trials = [(v, 0.5, penalty if v > 0.5 else -((v - 0.2) ** 2)) for v in x]

    models = models_of(trials)
    grid = torch.tensor([[[0.04 * i, 0.5]] for i in range(13)], dtype=torch.double)
    mean = models.objective.posterior(grid).mean.squeeze()

    assert grid[mean.argmax(), 0, 0].item() == pytest.approx(0.2, abs=0.05)
    assert models.best_f == pytest.approx(1.0, abs=0.1)


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


def grown(count, seed=0):
    """Histories of a study after each of its trials, up to `count`."""
    points = np.random.default_rng(seed).random((count, 2))
    whole = models_of([(x, y, float(np.sin(5 * x) + y)) for x, y in points]).history
    return [replace(whole, ended=whole.ended[:n]) for n in range(count + 1)]


def fits(refits, history):
    """Whether the models of a history are fitted, and whether that starts at the priors."""
    warm_start, grown_from = refits.start(history)
    models = SearchModels(history, warm_start, grown_from)
    assert models.objective is not None
    refits.note(models)
    return grown_from is None, not warm_start


def test_models_are_fitted_when_trials_have_grown_by_a_twentieth():
    histories, refits = grown(70), Refits()

    fitted = [n for n in range(40, 71) if fits(refits, histories[n])[0]]

    # At 50 and 63 because a fit from the priors was due.
    assert fitted == [40, 42, 45, 48, 50, 53, 56, 59, 62, 63, 67]


def test_fits_start_from_the_priors_when_trials_have_grown_by_a_quarter():
    histories, refits = grown(70), Refits()

    afresh = [n for n in range(40, 71) if fits(refits, histories[n])[1]]

    assert afresh == [40, 50, 63]


@pytest.mark.parametrize("offset", range(3))
def test_every_driver_fits_as_often(offset):
    """Each of three drivers makes every third suggestion."""
    histories, refits = grown(70), Refits()

    fitted = [fits(refits, histories[n])[0] for n in range(40 + offset, 71, 3)]

    assert fitted.count(True) in range(8, 12)


def test_another_study_is_fitted_anew():
    refits = Refits()
    fits(refits, grown(40)[40])

    assert fits(refits, grown(41, seed=1)[41]) == (True, True)


def test_between_fits_trials_count_all_the_same():
    histories, refits = grown(41), Refits()
    fits(refits, histories[40])
    warm_start, grown_from = refits.start(histories[41])

    models = SearchModels(histories[41], warm_start, grown_from)

    X = torch.from_numpy(histories[41].X[-1:])
    assert torch.equal(models.objective.hyperparameters, grown_from.objective.hyperparameters)
    before, after = (m.objective.gp.posterior(X)[1].item() for m in (grown_from, models))
    assert after < before


def test_earlier_models_are_let_go_of():
    histories, refits = grown(44), Refits()
    for history in histories[40:]:
        fits(refits, history)

    _, last = refits.start(histories[44])

    assert last.grown_from is None


def test_the_best_trials_come_first():
    models = models_of([(0.1, 0.1, 1.0), (0.2, 0.2, None), (0.3, 0.3, 3.0), (0.4, 0.4, 2.0)])

    assert models.focus == (2, 3, 0)


def test_failures_count_as_the_worst_value_only_where_they_are_the_rule():
    """All fail at a large x, and one among successes at a small one."""
    places = np.random.default_rng(0).random((24, 2))
    trials = [(x, y, x + y if x < 0.6 else None) for x, y in places]

    models = models_of([*trials, (0.1, 0.5, None)])

    large = np.append(places[:, 0] > 0.75, False)
    assert (models.values[large] == np.nanmin(models.values)).all()
    assert math.isnan(models.values[-1])
