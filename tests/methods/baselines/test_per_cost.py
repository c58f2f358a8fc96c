"""The acquisition functions of other papers, against direct computation."""

import math
import pickle

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.models import SingleTaskGP
from scipy.stats import norm

from eeipu.cost_models import StageCostModel
from eeipu.errors import ConfigurationError
from eeipu.methods.baselines.per_cost import GittinsIndex, LogEIPerCost, _index

D = 2
X = torch.rand(8, D, dtype=torch.double, generator=torch.Generator().manual_seed(0))
POINTS = torch.rand(5, 1, D, dtype=torch.double, generator=torch.Generator().manual_seed(1))
BEST = 0.8


@pytest.fixture(scope="module")
def gp():
    model = SingleTaskGP(X, torch.sin(4 * X).sum(-1, keepdim=True))
    return model.eval()


@pytest.fixture(scope="module")
def costs():
    return StageCostModel(X, torch.stack([1 + X[:, 0], 3 - X[:, 1]], dim=-1), [[0], [1]])


@pytest.fixture(scope="module")
def total_cost():
    return StageCostModel(X, (4 + X[:, :1] - X[:, 1:]), [[0, 1]])


# --- EI per cost


@pytest.mark.parametrize("exponent", [1.0, 0.3])
def test_eips_is_ei_times_the_expected_power_of_a_lognormal_cost(gp, total_cost, exponent):
    score = LogEIPerCost(LogExpectedImprovement(gp, BEST), total_cost, exponent=exponent)

    mean, std = (part.squeeze() for part in total_cost.log_cost_posterior(POINTS))
    draws = mean + std * torch.randn(400_000, 1, dtype=torch.double)
    expected = LogExpectedImprovement(gp, BEST)(POINTS).exp() * (-exponent * draws).exp().mean(0)
    torch.testing.assert_close(score(POINTS).exp(), expected, rtol=5e-3, atol=0)


def test_carbo_divides_by_a_power_of_the_median_cost(gp, total_cost):
    score = LogEIPerCost(LogExpectedImprovement(gp, BEST), total_cost, exponent=0.3, expected=False)

    median = total_cost.log_cost_posterior(POINTS)[0].exp().squeeze()
    torch.testing.assert_close(
        score(POINTS).exp(), LogExpectedImprovement(gp, BEST)(POINTS).exp() / median**0.3
    )


def test_without_an_exponent_it_is_log_ei(gp, total_cost):
    log_ei = LogExpectedImprovement(gp, BEST)

    assert torch.equal(LogEIPerCost(log_ei, total_cost, exponent=0.0)(POINTS), log_ei(POINTS))


def test_a_negative_exponent_is_refused(gp, total_cost):
    with pytest.raises(ConfigurationError, match=r"exponent must not be negative, but got -1"):
        LogEIPerCost(LogExpectedImprovement(gp, BEST), total_cost, exponent=-1.0)


# --- the Gittins index


@pytest.mark.parametrize("bar", [1e-8, 1e-3, 0.5, 40.0])
def test_the_improvement_over_the_index_is_worth_the_bar(bar):
    mean = torch.tensor([-3.0, 0.0, 5.0], dtype=torch.double)
    std = torch.tensor([1e-3, 1.0, 7.0], dtype=torch.double)

    index = _index(mean, std, torch.full((3,), math.log(bar), dtype=torch.double))

    for m, s, g in zip(mean.tolist(), std.tolist(), index.tolist(), strict=True):
        u = (m - g) / s
        assert s * (norm.pdf(u) + u * norm.cdf(u)) == pytest.approx(bar, rel=1e-6)


def test_the_index_is_finite_where_nothing_can_be_gained_to_double_precision():
    mean = torch.zeros(3, dtype=torch.double)
    std = torch.tensor([1e-6, 1.0, 1.0], dtype=torch.double)

    index = _index(mean, std, torch.tensor([10.0, -600.0, -2000.0], dtype=torch.double))

    assert index.isfinite().all()
    assert index[0] == pytest.approx(-math.exp(10.0))
    assert index[2] > index[1] > 30.0


def test_the_gradient_of_the_index_includes_that_of_the_cost():
    mean, std, bar = (torch.rand(6, dtype=torch.double) for _ in range(3))
    inputs = (mean, std + 0.2, bar - 2.0)

    assert torch.autograd.gradcheck(_index, tuple(each.requires_grad_() for each in inputs))


def test_the_price_counts_the_expected_cost_of_what_is_not_memoized(gp, costs):
    memoized = torch.tensor([True, False])
    index = GittinsIndex(gp, costs, price=0.1, memoized=memoized, memoized_cost=0.5)

    mean, std = costs.log_cost_posterior(POINTS.squeeze(-2))
    cost = 0.5 + (mean + 0.5 * std**2).exp()[:, 1]
    posterior = gp.posterior(POINTS)
    expected = _index(
        posterior.mean.flatten(), posterior.variance.sqrt().flatten(), (0.1 * cost).log()
    )
    torch.testing.assert_close(index(POINTS), expected)
    torch.testing.assert_close(index.score(POINTS, memoized), expected)


def test_the_overhead_is_part_of_the_expected_cost(gp, costs):
    plain, with_overhead = (
        GittinsIndex(gp, costs, price=0.1, overhead=overhead).log_expected_cost(POINTS, None).exp()
        for overhead in (0.0, 2.5)
    )
    torch.testing.assert_close(with_overhead, plain + 2.5)


def test_the_best_index_exceeds_a_value_exactly_if_improving_on_it_is_worth_the_cost(gp, costs):
    index = GittinsIndex(gp, costs, price=0.05)(POINTS)

    gain = LogExpectedImprovement(gp, BEST)(POINTS).exp()
    price = 0.05 * GittinsIndex(gp, costs, price=1.0).log_expected_cost(POINTS, None).exp()
    assert ((index > BEST) == (gain > price)).all()


def test_batches_of_the_index_agree_with_single_points(gp, costs):
    index = GittinsIndex(gp, costs, price=0.1)

    one_by_one = torch.stack([index(x).squeeze() for x in POINTS])

    torch.testing.assert_close(index(POINTS), one_by_one)
    torch.testing.assert_close(pickle.loads(pickle.dumps(index))(POINTS), index(POINTS))


@pytest.mark.parametrize("wrong", [{"price": 0.0}, {"price": 1.0, "memoized_cost": 0.0}])
def test_prices_and_costs_must_be_positive(gp, costs, wrong):
    with pytest.raises(ConfigurationError, match=r"must be positive, but got 0\.0"):
        GittinsIndex(gp, costs, **wrong)
