"""The probability that a configuration succeeds."""

import numpy as np
import pytest
import torch

from eeipu.models import feasibility
from eeipu.models.feasibility import (
    MAX_POINTS,
    FeasibilityModel,
    WeightedScore,
    _rows,
    propagated,
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


def test_what_is_explained_is_between_bad_luck_and_a_rule():
    X = points(40)
    shares = [
        FeasibilityModel(X, fine).explained
        for fine in (
            np.random.default_rng(2).random(40) > 0.2,
            np.sin(9.0 * np.pi * (X[:, 0] + X[:, 1])) < 0.5,  # stripes, too narrow to be learnt
            X[:, 1] < 0.8,
        )
    ]
    assert shares[0] < 0.1
    assert shares[1] < 0.1
    assert 0.5 < shares[2] <= 1.0


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


def sides(n, luck, weight=4.0, mean=0.5):
    """The posterior for `n` points, of which those on one side have failed."""
    X = torch.from_numpy(points(n))
    y = torch.where(X[:, 0] > 0.5, 1.0, -1.0).double()
    K = weight * (-torch.cdist(X, X).square()).exp() + 1e-8 * torch.eye(n).double()
    found = propagated(K, torch.tensor(mean).double(), y, torch.tensor(luck).double())
    return K, y, found


@pytest.mark.parametrize("weight", [1.0, 100.0])
def test_the_evidence_is_nearly_that_of_many_draws(weight):
    K, y, found = sides(8, 0.125, weight)
    draws = np.random.default_rng(0).normal(size=(200_000, 8)) @ np.linalg.cholesky(K.numpy()).T

    chance = 0.875 * torch.special.ndtr(0.5 + torch.from_numpy(draws))
    exact = torch.where(y > 0, chance, 1.0 - chance).prod(-1).mean().log().item()

    assert found.log_evidence == pytest.approx(exact, abs=0.15)


def test_the_evidence_has_the_slopes_of_its_finite_differences(monkeypatch):
    monkeypatch.setattr(feasibility, "TOLERANCE", 1e-12)
    monkeypatch.setattr(feasibility, "MAX_STEPS", 500)
    K, _, found = sides(12, 0.125)
    step = 2.0**-12

    def slope(**more):
        low, high = ({"luck": 0.125, "weight": 4.0, "mean": 0.5} | each for each in more["ends"])
        return (sides(12, **high)[2].log_evidence - sides(12, **low)[2].log_evidence) / (2 * step)

    by_mean = slope(ends=[{"mean": 0.5 - step}, {"mean": 0.5 + step}])
    by_luck = slope(ends=[{"luck": 0.125 - step}, {"luck": 0.125 + step}])
    by_weight = slope(ends=[{"weight": 4.0 - step}, {"weight": 4.0 + step}])

    assert found.d_mean.item() == pytest.approx(by_mean, rel=1e-4)
    assert found.d_luck.item() == pytest.approx(by_luck, rel=1e-4)
    assert (found.d_covariance * K / 4.0).sum().item() == pytest.approx(by_weight, rel=1e-4)


@pytest.mark.parametrize("y", [1.0, -1.0])
def test_the_evidence_of_one_point_is_exact(y):
    """Of one point a success has `(1 - e) Phi(c / sqrt(1 + w))`."""
    K, mean = torch.tensor([[0.25]]).double(), torch.tensor(0.5).double()
    chance = 0.875 * torch.special.ndtr(mean / 1.25**0.5)
    exact = (chance if y > 0 else 1.0 - chance).log()

    found = propagated(K, mean, torch.tensor([y]).double(), torch.tensor(0.125).double())

    assert found.log_evidence == pytest.approx(exact.item(), abs=1e-6)


def test_an_edge_that_always_fails_is_sharp():
    """From the last success to the first failure, .02 apart, the chance falls by half and more."""
    X = np.linspace(0.0, 1.0, 51)[:, None]
    model = FeasibilityModel(X, X[:, 0] < 0.61)

    before, after = chances(model, np.array([[0.6], [0.62]]))
    assert before > 0.65
    assert after < 0.35


def test_bad_luck_beside_an_edge_leaves_the_edge_sharp():
    X = np.linspace(0.0, 1.0, 51)[:, None]
    succeeded = X[:, 0] < 0.61
    succeeded[[5, 17, 24]] = False
    model = FeasibilityModel(X, succeeded)

    chance = chances(model, np.array([[0.1], [0.34], [0.48], [0.57], [0.65]]))
    assert chance[:4].min() > 0.7
    assert chance[4] < 0.2


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
