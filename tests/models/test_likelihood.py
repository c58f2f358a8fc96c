"""The marginal likelihood and its gradient, against automatic differentiation."""

import math

import pytest
import torch

from eeipu.models.devices import CPU
from eeipu.models.kernels import AdditiveKernel
from eeipu.models.likelihood import MarginalLikelihood
from eeipu.models.observations import Observations

N, D = 9, 3


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.double)


@pytest.fixture
def data():
    """Two GPs, of which one misses observations; the last column holds categories."""
    X = random(N, D)
    X[:, 2] = (3 * X[:, 2]).floor() / 2
    Y = torch.stack([torch.sin(4 * X[:, 0]) + X[:, 1], X[:, 2] + X[:, 1] ** 2])
    Y[1, ::3] = math.nan
    return Observations.standardised(X, Y)


@pytest.fixture
def kernel():
    active = torch.tensor([[[1, 1, 1], [1, 0, 0]], [[1, 1, 1], [0, 1, 1]]]).double()
    return AdditiveKernel.over(active, [2])


def textbook(data, kernel, row, scales, weights, noise):
    """The log density of what a GP has observed."""
    known = data.is_known[row]
    X = data.X[known]
    covariance = noise * torch.eye(len(X), dtype=X.dtype)
    for active, scale, weight in zip(kernel.active[row], scales, weights, strict=True):
        difference = X[:, None] - X[None]
        difference = torch.cat([difference[..., :2], (difference[..., 2:] != 0).double()], dim=-1)
        # Where two points are equal, a root has no slope.
        r = ((active * (difference / scale).square()).sum(-1) + 1e-30).sqrt()
        decay = torch.exp(-math.sqrt(5) * r)
        covariance = covariance + weight * (1 + math.sqrt(5) * r + 5 / 3 * r**2) * decay
    normal = torch.distributions.MultivariateNormal(torch.zeros(len(X)).double(), covariance)
    return normal.log_prob(data.y[row, known])


@pytest.mark.parametrize("at_once", [1, 10**6])
def test_values_and_gradients_are_those_of_the_textbook(data, kernel, at_once, monkeypatch):
    monkeypatch.setattr("eeipu.models.likelihood.PAIRS_AT_ONCE", at_once)
    parameters = 0.2 + random(2, 2, D, seed=1), 0.1 + random(2, 2, seed=2), 0.1 * random(2, seed=3)
    logs = [part.log().requires_grad_(True) for part in parameters]
    expected = [textbook(data, kernel, b, *(log[b].exp() for log in logs)) for b in range(2)]
    slopes = torch.autograd.grad(sum(expected), logs)

    value, *found = MarginalLikelihood(data, kernel, CPU)(torch.tensor([0, 1]), *parameters)

    torch.testing.assert_close(value, torch.stack(expected).detach())
    for one, right in zip(found, slopes, strict=True):
        torch.testing.assert_close(one, right, rtol=1e-8, atol=1e-10)


def test_some_gps_can_be_asked_about_alone(data, kernel):
    parameters = 0.2 + random(2, 2, D, seed=1), 0.1 + random(2, 2, seed=2), 0.1 * random(2, seed=3)
    likelihood = MarginalLikelihood(data, kernel, CPU)

    both = likelihood(torch.tensor([0, 1]), *parameters)
    one = likelihood(torch.tensor([1]), *(part[1:] for part in parameters))

    for whole, part in zip(both, one, strict=True):
        torch.testing.assert_close(whole[1:], part)


def test_a_single_observation_has_no_pairs():
    data = Observations.standardised(random(1, 2), torch.tensor([[3.0]]).double())
    kernel = AdditiveKernel.over(torch.ones(1, 1, 2).double(), [])
    ones = torch.ones(1, 1, 2).double(), torch.ones(1, 1).double(), torch.ones(1).double()

    value, scales, _, _ = MarginalLikelihood(data, kernel, CPU)(torch.tensor([0]), *ones)

    assert value.item() == pytest.approx(-0.5 * math.log(2 * math.pi * 2))
    assert (scales == 0).all()
