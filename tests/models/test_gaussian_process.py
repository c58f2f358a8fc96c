"""The batch of GPs against textbook formulas and one GP at a time."""

import math

import pytest
import torch

from eeipu.models.gaussian_process import ExactGPs


def problem(n=12, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(n, d, generator=generator, dtype=torch.double)
    y = torch.sin(4 * X[:, 0]) + X[:, 1] ** 2
    return X, y


def everything(d, B=1):
    return torch.ones(B, 1, d, dtype=torch.bool)


def matern(r):
    return (1 + math.sqrt(5) * r + 5 / 3 * r**2) * torch.exp(-math.sqrt(5) * r)


def dense_posterior(gps, X, y, points):
    """The textbook posterior with the fitted hyper-parameters, one term, numbers only."""
    d = X.shape[1]
    scale, w, s2 = gps.hyperparameters[0].exp().split([d, 1, 1])
    mean, std = gps.observations.mean[0], gps.observations.std[0]
    k = lambda A, B: w * matern(torch.cdist(A / scale, B / scale))  # noqa: E731
    K = k(X, X) + s2 * torch.eye(len(X), dtype=X.dtype)
    cross = k(points, X)
    solved = torch.linalg.solve(K, cross.T)
    expected = mean + std * solved.T @ ((y - mean) / std)
    return expected, std**2 * (k(points, points) - cross @ solved)


def test_posterior_is_the_textbook_one():
    X, y = problem()
    points = torch.rand(7, 3, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    gps = ExactGPs(X, y[None], everything(3))

    mean, variance = gps.posterior(points)
    expected_mean, expected_covariance = dense_posterior(gps, X, y, points)

    torch.testing.assert_close(mean[0], expected_mean, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(variance[0], expected_covariance.diagonal(), rtol=1e-5, atol=1e-8)


def test_joint_posterior_is_the_textbook_one():
    X, y = problem()
    sets = torch.rand(2, 4, 3, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    gps = ExactGPs(X, y[None], everything(3))

    mean, covariance = gps.joint_posterior(sets)

    for i, points in enumerate(sets):
        expected_mean, expected_covariance = dense_posterior(gps, X, y, points)
        torch.testing.assert_close(mean[0, i], expected_mean, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(covariance[0, i], expected_covariance, rtol=1e-5, atol=1e-8)


def test_it_predicts_what_it_has_not_seen():
    X, y = problem(n=60)

    mean, variance = ExactGPs(X[:50], y[None, :50], everything(3)).posterior(X[50:])

    assert (mean[0] - y[50:]).abs().max() < 0.1
    assert (variance > 0).all()


def test_gps_with_missing_observations_equal_gps_without_those_points():
    X, y = problem(n=15)
    Y = torch.stack([y, y**2])
    Y[1, ::3] = math.nan
    seen = ~Y[1].isnan()
    points, _ = problem(n=5, seed=3)

    batch = ExactGPs(X, Y, everything(3, B=2)).posterior(points)
    alone = ExactGPs(X[seen], Y[1:, seen], everything(3)).posterior(points)

    torch.testing.assert_close(batch[0][1], alone[0][0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(batch[1][1], alone[1][0], rtol=1e-2, atol=1e-5)


def test_some_gps_of_a_batch_can_be_selected():
    X, y = problem()
    gps = ExactGPs(X, torch.stack([y, -y, y**2]), everything(3, B=3))

    whole, part = gps.posterior(X), gps.select([2, 0]).posterior(X)

    torch.testing.assert_close(part[0], whole[0][[2, 0]])
    torch.testing.assert_close(part[1], whole[1][[2, 0]])


def test_inactive_columns_do_not_count():
    X, y = problem()
    active = torch.tensor([[[True, True, False]]])
    moved = X.clone()
    moved[:, 2] = 1 - moved[:, 2]

    gps = ExactGPs(X, y[None], active)

    torch.testing.assert_close(gps.posterior(X)[0], gps.posterior(moved)[0])


def test_categories_are_equal_or_not():
    generator = torch.Generator().manual_seed(0)
    choice = torch.randint(3, (20,), generator=generator)
    y = torch.tensor([0.0, 2.0, -1.0], dtype=torch.double)[choice]
    X = (choice.double().unsqueeze(-1) + 0.5) / 3
    points = (torch.arange(3).double().unsqueeze(-1) + 0.5) / 3

    mean, _ = ExactGPs(X, y[None], everything(1), categorical=[0]).posterior(points)

    torch.testing.assert_close(mean[0], torch.tensor([0.0, 2.0, -1.0]).double(), atol=0.1, rtol=0)


def test_unordered_neighbours_are_no_closer_than_strangers():
    X = (torch.arange(6).double().unsqueeze(-1) + 0.5) / 6
    y = torch.tensor([5.0, 0.0, 0.0, 0.0, 0.0, math.nan], dtype=torch.double)

    mean, _ = ExactGPs(X, y[None], everything(1), categorical=[0]).posterior(X)

    torch.testing.assert_close(mean[0, 1], mean[0, 4])


def test_leave_one_out_equals_leaving_one_out():
    X, y = problem(n=10)
    gps = ExactGPs(X, y[None], everything(3))
    scale, w, s2 = gps.hyperparameters[0].exp().split([3, 1, 1])
    mean, unit = gps.observations.mean[0, 0], gps.observations.std[0, 0]
    z = (y - mean) / unit
    K = w * matern(torch.cdist(X / scale, X / scale)) + s2 * torch.eye(10, dtype=X.dtype)

    residual, std = gps.leave_one_out()

    for i in range(10):
        rest = [j for j in range(10) if j != i]
        weights = torch.linalg.solve(K[rest][:, rest], K[rest, i])
        variance = K[i, i] - weights @ K[rest, i]
        torch.testing.assert_close(residual[0, i], unit * (z[i] - weights @ z[rest]))
        torch.testing.assert_close(std[0, i], unit * variance.sqrt())


def test_posterior_has_gradients():
    X, y = problem()
    gps = ExactGPs(X, y[None], everything(3))
    points = torch.rand(3, 3, dtype=torch.double, generator=torch.Generator().manual_seed(5))

    assert torch.autograd.gradcheck(gps.posterior, points.requires_grad_(True))


def test_constant_and_single_observations_are_fitted():
    X, _ = problem(n=5)
    Y = torch.full((2, 5), math.nan, dtype=torch.double)
    Y[0] = 3.0
    Y[1, 2] = 7.0

    mean, variance = ExactGPs(X, Y, everything(3, B=2)).posterior(X)

    torch.testing.assert_close(mean[0], Y[0])
    assert mean[1, 2] == pytest.approx(7.0)
    assert variance.isfinite().all()


def test_slices_give_what_the_whole_gives(monkeypatch):
    X, y = problem()
    gps = ExactGPs(X, y[None], everything(3))
    whole = gps.posterior(X)
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_COVARIANCES", 50)

    torch.testing.assert_close(gps.posterior(X), whole)
