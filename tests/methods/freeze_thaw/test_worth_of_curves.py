"""The worth of a training that may be given up on the way, against simulation and in limits."""

import math

import pytest
import torch

from eeipu.methods.freeze_thaw.worth import worth
from eeipu.models.learning_curves import Forecast

BEST = torch.zeros(1, dtype=torch.double)


def forecast(mean=-1.0, variance=1.0, seen=0.8, noise=0.0):
    """One candidate with one look, which explains this share of the end's variance, and its end."""
    with_end = math.sqrt(seen * variance * variance)
    return Forecast(
        torch.tensor([[0.0, mean]], dtype=torch.double),
        torch.tensor([[variance, variance]], dtype=torch.double),
        torch.tensor([[with_end, variance]], dtype=torch.double),
        noise,
    )


def costs(look, end):
    return torch.tensor([[look, end]], dtype=torch.double)


def improvement(mean, std):
    u = mean / std
    return std * math.exp(-u * u / 2) / math.sqrt(2 * math.pi) + mean * 0.5 * math.erfc(
        -u / math.sqrt(2)
    )


def test_without_a_look_it_is_expected_improvement_per_cost():
    found = worth(forecast(seen=0.0), BEST, costs(math.inf, 10.0), 1e-9)
    assert found.look.tolist() == [1]
    assert found.improvement.item() == pytest.approx(improvement(-1.0, 1.0), rel=0.01)
    assert found.rate.item() == pytest.approx(improvement(-1.0, 1.0) / 10.0, rel=0.01)


def test_a_look_pays_where_it_is_cheap_and_tells_much():
    alone = worth(forecast(), BEST, costs(math.inf, 10.0), 1e-9)
    looked = worth(forecast(), BEST, costs(1.0, 10.0), 1e-9)
    assert looked.look.tolist() == [0]
    assert looked.rate > 2 * alone.rate
    assert looked.cost < 10.0
    blind = worth(forecast(seen=0.0), BEST, costs(1.0, 10.0), 1e-9)
    assert blind.rate.item() == pytest.approx(alone.rate.item(), rel=0.01)


def test_the_rate_is_that_of_the_best_threshold_in_simulation():
    found = worth(forecast(), BEST, costs(1.0, 10.0), 1e-9)
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    rest = torch.randn(400_000, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    end = -1.0 + math.sqrt(0.8) * z + math.sqrt(0.2) * rest
    rates = []
    for threshold in torch.arange(-1.0, 4.0, 0.25):
        goes_on = z > threshold
        gain = (end.clamp_min(0.0) * goes_on).mean()
        rates.append((gain / (1.0 + 9.0 * goes_on.double().mean())).item())
    assert found.rate.item() == pytest.approx(max(rates), rel=0.02)


def test_noise_makes_a_look_worth_less():
    clear = worth(forecast(), BEST, costs(1.0, 10.0), 1e-9)
    noisy = worth(forecast(noise=4.0), BEST, costs(1.0, 10.0), 1e-9)
    assert noisy.rate < clear.rate


def test_a_step_that_is_not_ahead_is_never_chosen():
    certain = forecast(mean=-50.0, variance=1e-10)
    found = worth(certain, BEST, costs(math.inf, 10.0), 1e-9)
    assert found.look.tolist() == [1]
    assert found.rate.item() == 0.0


def test_a_certain_improvement_is_worth_itself():
    found = worth(forecast(mean=2.0, variance=1e-12), BEST, costs(1.0, 4.0), 1e-9)
    assert found.look.tolist() == [1]
    assert found.rate.item() == pytest.approx(2.0 / 4.0, rel=1e-3)
