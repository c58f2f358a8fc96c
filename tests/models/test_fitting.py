"""The fit of hyper-parameters."""

import pytest
import torch

from eeipu.models.devices import CPU
from eeipu.models.fitting import Layout, fitted, prior
from eeipu.models.gaussian_process import ExactGPs
from eeipu.models.kernels import AdditiveKernel
from eeipu.models.likelihood import MarginalLikelihood
from eeipu.models.observations import Observations


def problem(n=12, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(n, d, generator=generator, dtype=torch.double)
    y = torch.sin(4 * X[:, 0]) + X[:, 1] ** 2
    return X, y


def everything(d, B=1):
    return torch.ones(B, 1, d, dtype=torch.bool)


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


def test_a_fit_is_at_the_maximum():
    """No step away from it gains more than a fit may leave."""
    X, y = problem(n=30)
    data = Observations.standardised(X, y[None])
    kernel = AdditiveKernel.over(everything(3).double(), [])
    likelihood = MarginalLikelihood(data, kernel, CPU)
    mean, std = prior(kernel)

    def density(parameters):
        value = likelihood(torch.tensor([0]), *Layout.of(kernel).unpack(parameters))[0]
        return (value - 0.5 * ((parameters - mean) / std).square().sum(-1)).item()

    best = fitted(data, kernel, device=CPU)

    for step in torch.cat([torch.eye(5), -torch.eye(5)]).double():
        assert density(best + 0.3 * step) < density(best) + 0.02


def test_what_was_seldom_observed_is_fitted_to(monkeypatch):
    """Of 200 trials, ten executed a stage; a fit to 40 trials sees them all."""
    seen = []

    class Spy(MarginalLikelihood):
        def __init__(self, observations, kernel, device):
            seen.append(observations)
            super().__init__(observations, kernel, device)

    monkeypatch.setattr("eeipu.models.fitting.MAX_FITTED", 40)
    monkeypatch.setattr("eeipu.models.fitting.MarginalLikelihood", Spy)
    X, y = problem(n=200)
    Y = y.repeat(2, 1)
    Y[1, torch.arange(200) % 20 != 7] = torch.nan

    ExactGPs(X, Y, everything(3, B=2), focus=[3, 199])

    assert len(seen[0].X) == 40
    assert seen[0].is_known[1].sum() == 10
    assert all((X[row] == seen[0].X).all(-1).any() for row in (3, 199))
