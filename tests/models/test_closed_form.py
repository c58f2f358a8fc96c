"""Predictions with gradients in closed form, against automatic differentiation."""

import math

import pytest
import torch

from eeipu.models.closed_form import ClosedFormGPs
from eeipu.models.gaussian_process import ExactGPs


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.double)


def points(n=25, d=4):
    """Points of the cube whose last column holds three categories."""
    X = random(n, d)
    X[:, -1] = (3 * X[:, -1]).floor() / 2
    return X


@pytest.fixture(scope="module")
def batches():
    """One GP with three terms, and two with one term, of which one misses observations."""
    X = points()
    y = torch.sin(4 * X[:, 0]) + X[:, 1] ** 2 + (X[:, 3] == 0.5)
    terms = torch.tensor([[[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]]]).bool()
    Y = torch.stack([10 * y.exp(), X[:, 2]])
    Y[0, ::3] = math.nan
    alone = torch.tensor([[[1, 0, 0, 1]], [[1, 1, 1, 1]]]).bool()
    return [ExactGPs(X, y[None], terms, categorical=[3]), ExactGPs(X, Y, alone, categorical=[3])]


def by_autograd(batches, x, d_mean, d_variance):
    """Means, variances and the gradient of the sum of both, weighted."""
    x = x.clone().requires_grad_(True)
    moments = [torch.cat(part) for part in zip(*(b.posterior(x) for b in batches), strict=True)]
    total = (d_mean * moments[0]).sum() + (d_variance * moments[1]).sum()
    return *(part.detach() for part in moments), torch.autograd.grad(total, x)[0]


def test_moments_and_gradients_are_those_of_the_gps(batches):
    x = points(7)[torch.randperm(7)] + 0.01 * torch.tensor([1, 1, 1, 0])
    d_mean, d_variance = random(3, 7, seed=1), random(3, 7, seed=2) - 0.5

    mean, variance, pullback = ClosedFormGPs(batches)(x)

    expected = by_autograd(batches, x, d_mean, d_variance)
    for found, right in zip((mean, variance, pullback(d_mean, d_variance)), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-8, atol=1e-10)


def test_one_batch_may_stand_alone(batches):
    x = random(5, 4, seed=3)

    mean, variance, _ = ClosedFormGPs(batches[:1])(x)

    for found, right in zip((mean, variance), batches[0].posterior(x), strict=True):
        torch.testing.assert_close(found, right)


def test_a_category_counts_and_has_no_gradient(batches):
    x = random(2, 4, seed=4)[[0, 0]]
    x[:, 3] = torch.tensor([0.0, 0.5])

    mean, _, pullback = ClosedFormGPs(batches)(x)

    assert (mean[0, 0] - mean[0, 1]).abs() > 0.1
    assert (pullback(torch.ones(3, 2).double(), torch.ones(3, 2).double())[:, 3] == 0).all()


def test_gradients_at_observed_points_are_finite(batches):
    """There, distances are zero, where a root has no slope."""
    x = points()[:3]
    d_mean, d_variance = random(3, 3, seed=1), random(3, 3, seed=2)

    gradient = ClosedFormGPs(batches)(x)[2](d_mean, d_variance)

    expected = by_autograd(batches, x, d_mean, d_variance)[2]
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("fixed", [[], [0], [0, 1], [2, 3], [3], [0, 1, 2, 3]])
@pytest.mark.parametrize("at_once", [1, 10**6])
def test_completions_are_predicted_like_any_points(batches, fixed, at_once, monkeypatch):
    monkeypatch.setattr("eeipu.models.closed_form.COVARIANCES_AT_ONCE", at_once)
    gps, prefixes, x = ClosedFormGPs(batches), points(3, 4), points()[:5]
    columns = torch.zeros(4, dtype=torch.bool)
    columns[fixed] = True
    completed = torch.where(columns, prefixes[:, None], x[None]).flatten(0, 1)

    mean, variance = gps.of_completions(prefixes, columns, x)

    expected = gps(completed)[:2]
    for found, right in zip((mean, variance), expected, strict=True):
        torch.testing.assert_close(found, right.view(3, 3, 5), rtol=1e-8, atol=1e-10)


def test_some_gps_can_be_asked_alone(batches):
    gps, x = ClosedFormGPs(batches), points(6)
    rows = torch.tensor([True, False, True])
    d_mean, d_variance = random(3, 6, seed=1), random(3, 6, seed=2)
    d_mean[1] = d_variance[1] = 0.0

    some = gps.select(rows)
    mean, variance, pullback = some(x)

    assert len(some) == 2
    expected = gps(x)
    torch.testing.assert_close(mean, expected[0][rows])
    torch.testing.assert_close(variance, expected[1][rows])
    torch.testing.assert_close(
        pullback(d_mean[rows], d_variance[rows]), expected[2](d_mean, d_variance)
    )


def test_batches_may_rest_on_different_points(monkeypatch):
    """Beyond some hundred points, each batch chooses those that its predictions rest on."""
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_SUPPORT", 20)
    monkeypatch.setattr("eeipu.models.gaussian_process.MAX_EXACT", 20)
    X = points(60)
    y = torch.sin(4 * X[:, 0]) + X[:, 1] ** 2 + (X[:, 3] == 0.5)
    terms = torch.ones(1, 1, 4).bool()
    batches = [
        ExactGPs(X, values[None], terms, categorical=[3], focus=focus)
        for values, focus in ((y, [1, 2, 5, 6]), (X[:, 2].exp(), [11, 12]))
    ]
    assert not torch.equal(batches[0].conditioning.X, batches[1].conditioning.X)
    x, d_mean, d_variance = random(5, 4, seed=3), random(2, 5, seed=1), random(2, 5, seed=2)
    x[:, 3] = 0.5

    gps = ClosedFormGPs(batches)
    mean, variance, pullback = gps(x)

    expected = by_autograd(batches, x, d_mean, d_variance)
    for found, right in zip((mean, variance, pullback(d_mean, d_variance)), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-7, atol=1e-9)
    columns = torch.tensor([True, False, False, True])
    completed = gps.of_completions(x[:1], columns, x)[0]
    joined = torch.where(columns, x[:1], x)
    torch.testing.assert_close(completed[:, 0], gps(joined)[0], rtol=1e-7, atol=1e-9)
