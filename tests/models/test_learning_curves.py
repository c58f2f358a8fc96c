"""The Gaussian process of learning curves, checked against the formulas written out."""

import math

import pytest
import torch
from torch import Tensor

from eeipu.models.learning_curves import LEVEL, MOST, LearningCurves

T = torch.tensor([0.1, 0.4, 1.0], dtype=torch.double)


def curves_of(n=5, seed=0, **options):
    """Power laws that end where the first column says, and are quick where the second is large."""
    X = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    trial = torch.arange(n).repeat_interleave(3)
    t = T.repeat(n)
    y = X[trial, 0] - (1.0 + 10.0 * t) ** -(0.5 + X[trial, 1])
    return X, trial, t, y, LearningCurves(X, trial, t, y, **options)


def kernel(raw: Tensor, x, t, s_x, s_t, *, same) -> float:
    """The covariance of two observations' values, as the module's docstring writes it."""
    d = len(x)
    scales = raw[: 3 * d].exp().reshape(3, d)
    end, any_, all_, each, late, own = raw[3 * d : 3 * d + 6].exp().tolist()
    power, of_decay, of_steps, lateness, _ = raw[3 * d + 6 :].exp().tolist()

    def matern(r):
        return (1 + math.sqrt(5) * r + 5 / 3 * r * r) * math.exp(-math.sqrt(5) * r)

    M = [matern(((x - s_x) / scale).norm().item()) for scale in scales]
    near = matern(abs(math.log(t) - math.log(s_t)) / of_steps)
    decay = (of_decay / (t + s_t + of_decay)) ** power
    total = LEVEL + (own if same else 0.0) + M[0] * (end + any_ * near)
    return total + decay * (all_ + each * M[1]) + late * (t * s_t) ** lateness * M[2]


def test_predictions_are_those_of_the_formulas():
    X, trial, t, y, model = curves_of(3)
    raw, n = model.hyperparameters, len(y)
    shift, scale = y.mean(), y.std(correction=0)
    points = [(X[k], s.item(), int(k)) for k, s in zip(trial, t, strict=True)]

    def between(one, two):
        return kernel(raw, one[0], one[1], two[0], two[1], same=one[2] == two[2] >= 0)

    C = torch.tensor([[between(a, b) for b in points] for a in points], dtype=torch.double)
    C += (raw[-1].exp() + 1e-8) * torch.eye(n, dtype=torch.double)
    x = torch.tensor([0.3, 0.6], dtype=torch.double)
    asked = [(X[0], 0.2, 0), (X[0], 1.0, 0), (x, 0.2, -1), (x, 1.0, -1)]
    cross = torch.tensor([[between(a, b) for b in points] for a in asked], dtype=torch.double)
    prior = torch.tensor([[between(a, b) for b in asked] for a in asked], dtype=torch.double)
    prior[2, 2] += raw[11].exp()  # what a new trial has of its own
    prior[3, 3] += raw[11].exp()
    prior[2, 3] += raw[11].exp()
    mean = shift + scale * (cross @ torch.linalg.solve(C, (y - shift) / scale))
    covariance = scale**2 * (prior - cross @ torch.linalg.solve(C, cross.mT))

    steps = torch.tensor([0.2, 1.0], dtype=torch.double)
    forecast = model.forecast(torch.stack([X[0], x]), steps, torch.tensor([0, -1]))
    torch.testing.assert_close(forecast.mean.flatten(), mean)
    torch.testing.assert_close(forecast.variance.flatten(), covariance.diagonal())
    ends = torch.stack([covariance[0, 1], covariance[1, 1], covariance[2, 3], covariance[3, 3]])
    torch.testing.assert_close(forecast.with_end.flatten(), ends)


def test_a_curve_that_was_seen_is_known_and_where_a_stopped_one_ends_is_foreseen():
    X, trial, t, y, _ = curves_of(12)
    early = (trial != 11) | (t < 0.2)  # the last trial was stopped at its first look
    model = LearningCurves(X, trial[early], t[early], y[early])
    known = model.forecast(X[:1], T, torch.tensor([0]))
    torch.testing.assert_close(known.mean[0], y[:3], atol=0.02, rtol=0.0)
    stopped = model.forecast(X[11:], T, torch.tensor([11]))
    assert abs(stopped.mean[0, -1] - y[-1]) < 0.15
    assert stopped.variance[0, -1] > known.variance[0, -1]


def test_what_only_ends_tell_is_learnt_from_ends():
    """A column that matters at the end alone does not seem to matter because early values agree."""
    X = torch.rand(12, 2, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    trial = torch.arange(12).repeat_interleave(2)
    t = torch.tensor([0.05, 1.0], dtype=torch.double).repeat(12)
    y = X[trial, 0] + t**2 * torch.sin(4.0 * X[trial, 1])
    model = LearningCurves(X, trial, t, y)
    grid = torch.tensor([[0.5, 0.1], [0.5, 0.4], [0.5, 0.9]], dtype=torch.double)
    found = model.forecast(grid, torch.tensor([0.05, 1.0], dtype=torch.double)).mean
    expected = 0.5 + torch.sin(4.0 * grid[:, 1])
    torch.testing.assert_close(found[:, 1], expected, atol=0.2, rtol=0.0)
    assert found[:, 0].max() - found[:, 0].min() < 0.2


def test_one_value_that_is_very_bad_does_not_hide_the_others():
    X, trial, t, y, model = curves_of(8)
    diverged = y.clone()
    diverged[0] = -1e6
    other = LearningCurves(X, trial, t, diverged)
    assert other.spread < 3 * model.spread
    forecast = other.forecast(X[3:], T, torch.arange(3, 8))
    torch.testing.assert_close(forecast.mean[:, -1], y[11::3], atol=0.2, rtol=0.0)


@pytest.mark.parametrize("y", [0.0, 3.0, -1e9])
def test_values_that_are_all_the_same_are_expected_everywhere(y):
    X, trial, t, _, _ = curves_of(4)
    model = LearningCurves(X, trial, t, torch.full((12,), y, dtype=torch.double))
    torch.testing.assert_close(model.forecast(X, T).mean, torch.full((4, 3), y).double())


def test_hyperparameters_are_taken_over_without_a_fit():
    X, trial, t, y, model = curves_of(6)
    again = LearningCurves(X, trial, t, y, start=model.hyperparameters, is_fitted=True)
    assert again.hyperparameters is model.hyperparameters
    torch.testing.assert_close(again.forecast(X, T).mean, model.forecast(X, T).mean)


def test_of_many_observations_those_of_the_best_and_the_latest_trials_are_kept():
    n = MOST  # three times as many observations as are kept
    X = torch.rand(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    trial, t = torch.arange(n).repeat_interleave(3), T.repeat(n)
    y = torch.where(trial == 0, 5.0, X[trial, 0]).double()
    start = curves_of(4)[-1].hyperparameters
    model = LearningCurves(X, trial, t, y, start=start, is_fitted=True)
    assert len(model._t) == MOST
    assert {0, n - 1} <= set(model._trial.tolist())


def test_categories_have_no_order():
    X = torch.tensor([[1 / 6], [0.5], [5 / 6]], dtype=torch.double)
    rows, t = torch.arange(3).repeat_interleave(3), T.repeat(3)
    y = torch.tensor([1.0, 0.0, 1.0], dtype=torch.double)[rows]
    model = LearningCurves(X, rows, t, y, categorical=[0])
    _, _, lates = model._kernels(model.hyperparameters, X, X)
    torch.testing.assert_close(lates[0, 1], lates[0, 2])


def test_first_looks_leave_open_more_than_they_tell():
    # All have been looked at after a tenth of a training: they may end further apart than that.
    X = torch.rand(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    y = 0.02 * X[:, 0]
    model = LearningCurves(X, torch.arange(8), torch.full((8,), 0.1, dtype=torch.double), y)
    forecast = model.forecast(X, T[-1:], torch.arange(8))
    assert (forecast.variance.sqrt() > y.std(correction=0)).all()
