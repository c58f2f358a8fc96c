"""The likelihood of a GP and the fit of its hyper-parameters."""

import math

import pytest
import torch

from eeipu.models.fitting import log_likelihood
from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.observations import Observations


def problem(n=12, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(n, d, generator=generator, dtype=torch.double)
    y = torch.sin(4 * X[:, 0]) + X[:, 1] ** 2
    return X, y


def everything(d, B=1):
    return torch.ones(B, 1, d, dtype=torch.bool)


def matern(r):
    return (1 + math.sqrt(5) * r + 5 / 3 * r**2) * torch.exp(-math.sqrt(5) * r)


def test_slope_of_the_likelihood_is_its_derivative():
    X, y = problem(n=6)
    y = (y - y.mean()) / y.std()
    kernel = matern(torch.cdist(X, X))[None].requires_grad_(True)
    noise = torch.tensor([0.1], dtype=torch.double)
    observations = Observations(X, y[None], torch.ones(1, 6, dtype=torch.bool), y[:1], y[:1])

    value, slope = log_likelihood(observations, kernel.detach(), noise)
    covariance = kernel[0] + 0.1 * torch.eye(6, dtype=torch.double)
    normal = torch.distributions.MultivariateNormal(torch.zeros(6).double(), covariance)
    expected = normal.log_prob(y)
    (gradient,) = torch.autograd.grad(expected, kernel)

    torch.testing.assert_close(value[0], expected.detach())
    torch.testing.assert_close(slope, (gradient + gradient.transpose(-1, -2)) / 2)


def test_more_points_than_are_fitted_still_condition(monkeypatch):
    X, y = problem(n=60)
    monkeypatch.setattr("eeipu.models.fitting.MAX_FITTED", 20)

    mean, _ = ExactGPs(X, y[None], everything(3)).posterior(X)

    assert (mean[0] - y).abs().max() < 0.05


def test_a_fit_goes_on_from_an_earlier_one():
    X, y = problem(n=30)
    first = ExactGPs(X, y[None], everything(3))

    again = ExactGPs(X, y[None], everything(3), start=first.hyperparameters)

    torch.testing.assert_close(again.posterior(X)[0], first.posterior(X)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("deviation", [0.0, 0.1, 0.5])
def test_noise_is_found_where_there_is_some(deviation):
    """A deviation of 0 leaves one that does not keep an optimum from being refined."""
    X, y = problem(n=40)
    y = (y - y.mean()) / y.std()
    disturbed = y + deviation * torch.randn(40, generator=torch.Generator().manual_seed(1)).double()

    gps = ExactGPs(X, disturbed[None], everything(3))

    found = gps.hyperparameters[0, -1].exp().sqrt() * gps.scale[0]
    assert found.item() == pytest.approx(deviation, rel=0.5, abs=5e-3)
