"""Predictions that rest on some of the points."""

import math

import pytest
import torch

from eeipu.models.conditioning import condition
from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.kernels import AdditiveKernel
from eeipu.models.observations import Observations

N, D = 30, 2
NOISE = torch.tensor([1e-3, 1e-2], dtype=torch.double)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.double)


def wave(X):
    return torch.sin(6 * X[:, 0]) + X[:, 1] ** 2


@pytest.fixture
def data():
    X = random(N, D)
    Y = torch.stack([wave(X), X[:, 0] * X[:, 1]])
    Y[1, ::4] = math.nan
    return Observations.standardised(X, Y)


@pytest.fixture
def kernel():
    plain = AdditiveKernel.over(torch.ones(2, 1, D).double(), [])
    return plain.scaled(torch.full((2, 1, D), 0.5).double(), torch.ones(2, 1).double())


def predictions(kernel, given, x):
    k = kernel(x, given.X) * given.is_known.unsqueeze(-2)
    explained = (k @ given.inverse_factor.mT).square().sum(-1)
    return (k @ given.alpha.unsqueeze(-1)).squeeze(-1), kernel.variance - explained


def test_resting_on_all_points_is_exact(data, kernel):
    x = random(7, D, seed=1)

    exact = condition(data, kernel, NOISE, None)
    supported = condition(data, kernel, NOISE, data.X)

    for found, right in zip(
        predictions(kernel, supported, x), predictions(kernel, exact, x), strict=True
    ):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
    known = data.is_known
    assert supported.residual.isnan().equal(~known)
    torch.testing.assert_close(
        supported.residual[known], exact.residual[known], rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(
        supported.deviation[known], exact.deviation[known], rtol=1e-3, atol=1e-4
    )


def test_it_is_the_posterior_of_the_approximate_prior(data, kernel):
    """By dense matrices: observations are independent given the function at the support."""
    x, rows = random(7, D, seed=1), torch.arange(0, N, 3)
    given = condition(data, kernel, NOISE, data.X[rows])
    mean, variance = predictions(kernel, given, x)

    for b in range(2):
        one = kernel.select(slice(b, b + 1))
        known = data.is_known[b]
        X, S = data.X[known], data.X[rows]
        inner = one(S, S)[0] + 1e-9 * torch.eye(len(S)).double()
        Q = one(X, S)[0] @ torch.linalg.solve(inner, one(S, X)[0])
        C = Q + torch.diag(1.0 - Q.diagonal() + NOISE[b])
        cross = one(x, S)[0] @ torch.linalg.solve(inner, one(S, X)[0])
        y = data.y[b, known]
        torch.testing.assert_close(mean[b], cross @ torch.linalg.solve(C, y), rtol=1e-6, atol=1e-7)
        explained = (cross @ torch.linalg.inv(C) * cross).sum(-1)
        torch.testing.assert_close(variance[b], 1.0 - explained, rtol=1e-5, atol=1e-7)
        inverse = torch.linalg.inv(C)
        residual = (inverse @ y) / inverse.diagonal()
        torch.testing.assert_close(given.residual[b, known], residual, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            given.deviation[b, known], inverse.diagonal().rsqrt(), rtol=1e-5, atol=1e-6
        )


def test_parts_give_what_the_whole_gives(data, kernel, monkeypatch):
    for support in (None, data.X[::2]):
        whole = condition(data, kernel, NOISE, support)
        with monkeypatch.context() as patched:
            patched.setattr("eeipu.models.conditioning.NUMBERS_AT_ONCE", 1)
            parts = condition(data, kernel, NOISE, support)
        torch.testing.assert_close(parts.alpha, whole.alpha)
        torch.testing.assert_close(parts.inverse_factor, whole.inverse_factor)


@pytest.mark.parametrize("first", [1, 12, N - 1, N])
@pytest.mark.parametrize("is_exact", [True, False])
def test_observations_may_come_one_after_another(data, kernel, first, is_exact):
    support = None if is_exact else data.X[:9]
    expected = condition(data, kernel, NOISE, support)
    grown = condition(data.at(torch.arange(first)), kernel, NOISE, support)
    if first < N - 1:
        more = data.at(torch.arange(first + 3))
        grown = condition(more, kernel, NOISE, support, grown)

    grown = condition(data, kernel, NOISE, support, grown)

    for name in ("X", "is_known", "alpha", "residual", "deviation"):
        found, right = getattr(grown, name), getattr(expected, name)
        torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-8, equal_nan=True)
    x = random(7, D, seed=1)
    for found, right in zip(
        predictions(kernel, grown, x), predictions(kernel, expected, x), strict=True
    ):
        torch.testing.assert_close(found, right, rtol=1e-6, atol=1e-8)


def test_the_support_may_grow_with_the_observations(data, kernel):
    first = data.at(torch.arange(20))
    before = condition(first, kernel, NOISE, first.X[:9])
    support = torch.cat([first.X[:9], data.X[20:]])

    grown = condition(data, kernel, NOISE, support, before)

    expected = condition(data, kernel, NOISE, support)
    x = random(7, D, seed=1)
    for found, right in zip(
        predictions(kernel, grown, x), predictions(kernel, expected, x), strict=True
    ):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(
        grown.residual, expected.residual, rtol=1e-5, atol=1e-7, equal_nan=True
    )


def test_new_trials_support_the_predictions_around_them(monkeypatch):
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_SUPPORT", 10)
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_EXACT", 10)
    X = random(40, D)
    earlier = ExactGPs(X[:38], wave(X[:38])[None], torch.ones(1, 1, D).bool())

    gps = ExactGPs(X, wave(X)[None], torch.ones(1, 1, D).bool(), grown_from=earlier)

    assert torch.equal(gps.conditioning.X, torch.cat([earlier.conditioning.X, X[38:]]))
    assert torch.equal(gps.hyperparameters, earlier.hyperparameters)


def test_posteriors_are_exact_as_long_as_that_takes_no_longer(monkeypatch):
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_SUPPORT", 10)
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_EXACT", 40)
    X = random(41, D)

    exact, not_exact = (
        ExactGPs(X[:n], wave(X[:n])[None], torch.ones(1, 1, D).bool()) for n in (40, 41)
    )

    assert torch.equal(exact.conditioning.X, X[:40])
    assert exact.conditioning.projection is None
    assert not_exact.conditioning.X.shape == (10, D)


def test_equal_points_may_support(data, kernel):
    twice = Observations(
        data.X[[0, 0, 1, 1, *range(2, N)]],
        *(part[:, [0, 0, 1, 1, *range(2, N)]] for part in (data.y, data.is_known)),
        data.mean,
        data.std,
    )

    given = condition(twice, kernel, 1e-3 * NOISE, twice.X[:8])

    mean, variance = predictions(kernel, given, data.X)
    assert mean.isfinite().all()
    assert (variance > -1e-6).all()


def test_beyond_the_support_predictions_still_learn(monkeypatch):
    """What is not in the support counts: the mean follows observations where it has no point."""
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_SUPPORT", 25)
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_EXACT", 25)
    X, x = random(300, D), random(50, D, seed=1)
    gps = ExactGPs(X, wave(X)[None], torch.ones(1, 1, D).bool())

    mean, variance = gps.posterior(x)

    assert gps.conditioning.X.shape == (25, D)
    assert (mean[0] - wave(x)).abs().max() < 0.05
    assert ((mean[0] - wave(x)).abs() <= 4 * (variance[0] + 1e-4).sqrt()).all()
