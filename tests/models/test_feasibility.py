"""The probability that a configuration succeeds."""

import numpy as np
import pytest
import torch

from eeipu.models.feasibility import (
    MAX_POINTS,
    FeasibilityModel,
    WeightedScore,
    _log_evidence,
    _mode,
    _rows,
    weighted,
)


def points(n, d=3, seed=0):
    return np.random.default_rng(seed).random((n, d))


def chances(model, X):
    return model.log_probability(torch.from_numpy(X)).exp().numpy()


def test_a_region_that_fails_is_learnt():
    X, T = points(40), points(300, seed=1)
    model = FeasibilityModel(X, X[:, 1] < 0.6)

    fine = T[:, 1] < 0.6
    assert ((chances(model, T) > 0.5) == fine).mean() > 0.9
    assert chances(model, T[T[:, 1] < 0.3]).mean() > 0.85
    assert chances(model, T[T[:, 1] > 0.9]).mean() < 0.15


def test_failures_at_random_do_not_guide_the_search():
    X, T = points(80), points(300, seed=1)
    failed = np.random.default_rng(2).random(80) < 0.2

    chance = chances(FeasibilityModel(X, ~failed), T)

    assert chance.mean() == pytest.approx(0.8, abs=0.06)
    assert chance.min() > 0.5


def test_choices_that_fail_are_learnt():
    X = points(40)
    X[:, 0] = np.round(X[:, 0] * 3) / 3
    model = FeasibilityModel(X, X[:, 0] != 1 / 3, categorical=[0])

    at = np.array([[0.0, 0.5, 0.5], [1 / 3, 0.5, 0.5], [2 / 3, 0.5, 0.5]])
    chance = chances(model, at)
    assert chance[1] < 0.4 < 0.7 < min(chance[0], chance[2])


@pytest.mark.parametrize("succeeded", [False, True])
def test_outcomes_that_are_all_the_same_are_fine(succeeded):
    X = points(12)
    chance = chances(FeasibilityModel(X, np.full(12, succeeded)), X)

    assert (chance > 0.5).all() if succeeded else (chance < 0.5).all()


def test_the_mode_has_no_slope():
    X = torch.from_numpy(points(15))
    K = 4.0 * (-torch.cdist(X, X).square()).exp() + 1e-8 * torch.eye(15)
    y = torch.where(X[:, 0] > 0.5, 1.0, -1.0).double()
    f = (0.3 + K @ _mode(K, torch.tensor(0.3).double(), y)).requires_grad_(True)

    log_posterior = torch.special.log_ndtr(y * f).sum()
    (slope,) = torch.autograd.grad(log_posterior, f)

    torch.testing.assert_close(K @ slope, (f - 0.3).detach(), rtol=1e-5, atol=1e-6)


def test_the_evidence_has_the_gradient_of_its_finite_differences():
    X = torch.from_numpy(points(12))
    y = torch.where(X[:, 0] > 0.5, 1.0, -1.0).double()
    squares = torch.cdist(X, X).square()

    def evidence(scale, weight, mean):
        K = weight.exp() * (-squares / scale.exp()).exp() + 1e-6 * torch.eye(12)
        return _log_evidence(K, mean, y)[0]

    at = [torch.tensor(v, dtype=torch.double, requires_grad=True) for v in (-0.5, 0.7, 0.4)]
    assert torch.autograd.gradcheck(evidence, at, eps=1e-5, atol=1e-4)


def test_the_evidence_of_one_point_is_nearly_exact():
    """Of one point it is `Phi(c / sqrt(1 + w))`."""
    K, mean = torch.tensor([[0.25]]).double(), torch.tensor(0.5).double()
    exact = torch.special.log_ndtr(mean / 1.25**0.5)

    value, _ = _log_evidence(K, mean, torch.ones(1).double())

    assert value.item() == pytest.approx(exact.item(), abs=5e-3)


def test_many_configurations_are_thinned_but_late_failures_stay():
    succeeded = np.ones(3 * MAX_POINTS, dtype=bool)
    succeeded[:50] = succeeded[-MAX_POINTS:] = False

    rows = _rows(succeeded)

    assert len(rows) == MAX_POINTS
    assert (~succeeded[rows]).sum() == MAX_POINTS // 2
    assert rows[~succeeded[rows]].min() >= 2 * MAX_POINTS


def test_a_fit_may_start_at_the_last_one():
    X = points(30)
    first = FeasibilityModel(X, X[:, 0] < 0.7)
    again = FeasibilityModel(X, X[:, 0] < 0.7, start=first.hyperparameters)

    np.testing.assert_allclose(chances(again, X), chances(first, X), atol=0.02)


def score(X, memoized):
    return -X.squeeze(-2).square().sum(-1) + memoized.sum(-1)


class Graded:
    def __call__(self, X, memoized):
        return score(X, memoized)

    def value_and_gradient(self, X, memoized):
        return score(X, memoized), -2.0 * X


@pytest.mark.parametrize("inner", [score, Graded()])
def test_the_probability_is_a_factor(inner):
    X = points(30)
    model = FeasibilityModel(X, X[:, 0] < 0.7)
    at, memoized = torch.from_numpy(points(5, seed=3)).unsqueeze(1), torch.ones(5, 2).bool()

    values = weighted(inner, model)(at, memoized)

    torch.testing.assert_close(values, score(at, memoized) + model.log_probability(at.squeeze(1)))
    assert weighted(inner, None) is inner


def test_a_weighted_score_has_the_gradient_of_both():
    X = points(30)
    weighted_score = WeightedScore(Graded(), FeasibilityModel(X, X[:, 0] < 0.7))
    at = torch.from_numpy(points(5, seed=3)).unsqueeze(1).requires_grad_(True)
    memoized = torch.ones(5, 2).bool()

    values, gradient = weighted_score.value_and_gradient(at.detach(), memoized)

    expected = weighted_score(at, memoized)
    torch.testing.assert_close(values, expected.detach())
    (slope,) = torch.autograd.grad(expected.sum(), at)
    torch.testing.assert_close(gradient, slope)
