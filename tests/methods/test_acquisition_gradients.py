"""Log EEIPU with gradients in closed form, against automatic differentiation."""

import math

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement

from eeipu.acquisition import LogEEIPU
from eeipu.cost_models import StageCostModel
from eeipu.methods.acquisition_gradients import ClosedFormEEIPU, fast_score
from eeipu.models.improvement import WeighedChain
from eeipu.models.objective import ObjectiveModel
from eeipu.models.observed_stages.chain import StageChain

STAGES = [[0, 1], [2], [3]]
MASKS = torch.tensor(
    [[False, False, False], [True, False, False], [True, True, False], [False, True, True]] * 3
)


def points(n, seed):
    """Points of the cube whose last column holds three categories."""
    X = torch.rand(n, 4, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    X[:, 3] = (3 * X[:, 3]).floor() / 2
    return X


X = points(25, seed=0)


def objective():
    y = torch.sin(4 * X[:, 0]) + X[:, 1] ** 2 + (X[:, 3] == 0.5)
    return ObjectiveModel(X.numpy(), y.numpy(), STAGES, categorical=[3])


def costs(executed=(True, True, True)):
    """Costs of which some are missing, and of stages that may never have been executed."""
    values = torch.stack([1 + X[:, 0], (2 * X[:, 2]).exp(), 0.3 + X[:, 3] * X[:, 0]], dim=-1)
    values[::4, 0] = math.nan
    values[:, ~torch.tensor(executed)] = math.nan
    return StageCostModel(X, values, STAGES, categorical=[3])


@pytest.fixture(scope="module")
def models():
    return objective(), costs()


def assert_right(acquisition, rtol=1e-8):
    """Values and gradients agree with automatic differentiation."""
    x = points(12, seed=1).unsqueeze(1).requires_grad_(True)
    expected = acquisition.score(x, MASKS)
    (slope,) = torch.autograd.grad(expected.sum(), x)

    score = fast_score(acquisition)
    value, gradient = score.value_and_gradient(x.detach(), MASKS)

    torch.testing.assert_close(value, expected.detach(), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(gradient, slope, rtol=rtol, atol=1e-8)
    torch.testing.assert_close(score(x.detach(), MASKS), value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cooling", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("remaining", [None, 1e-3, 3.0, 1e3])
def test_values_and_gradients_are_exact(models, cooling, remaining):
    assert_right(LogEEIPU(*models, 1.5, cooling=cooling, remaining=remaining))


@pytest.mark.parametrize("executed", [(True, False, True), (False, False, False)])
def test_stages_that_were_never_executed_have_no_gradient_of_their_own(models, executed):
    assert_right(LogEEIPU(models[0], costs(executed), 1.5))


def test_memoized_stages_may_have_costs_of_their_own(models):
    epsilon = torch.tensor([0.1, 1e-6, 2.0])

    assert_right(LogEEIPU(*models, 1.5, memoized_cost=epsilon))


@pytest.mark.parametrize(
    # Some thousand standard deviations below, automatic differentiation loses digits itself.
    ("best_f", "rtol"),
    [(-1e3, 1e-8), (10.0, 1e-8), (1e3, 3e-6), (1e6, 1e-8)],
)
def test_far_tails_are_exact(models, best_f, rtol):
    assert_right(LogEEIPU(*models, best_f), rtol)


def test_gradients_agree_with_finite_differences(models):
    score = fast_score(LogEEIPU(*models, 1.5, remaining=3.0))
    x, step = points(12, seed=1).unsqueeze(1), 1e-5
    _, gradient = score.value_and_gradient(x, MASKS)

    for column in range(3):
        shift = step * torch.eye(4, dtype=x.dtype)[column]
        slope = (score(x + shift, MASKS) - score(x - shift, MASKS)) / (2 * step)
        torch.testing.assert_close(gradient[:, 0, column], slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("best_f", [-1e6, -3.0, 0.5, 1.9, 3.0, 40.0, 1e3, 1e7])
def test_log_ei_alone_is_that_of_botorch(models, best_f):
    expected = LogExpectedImprovement(models[0], best_f)
    x = points(12, seed=1).unsqueeze(1).requires_grad_(True)
    values = expected(x)
    (slope,) = torch.autograd.grad(values.sum(), x)

    score = fast_score(expected)
    value, gradient = score.value_and_gradient(x.detach(), MASKS)

    torch.testing.assert_close(value, values.detach(), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(score(x.detach(), MASKS), value)


def ranked(score, mask, fixed):
    prefixes, x = points(3, seed=7), points(5, seed=8)
    columns = torch.zeros(4, dtype=torch.bool)
    columns[fixed] = True
    found = score.rank_completions(prefixes, columns, mask, x)
    completed = torch.where(columns, prefixes[:, None], x[None]).view(15, 1, 4)
    return found, score(completed, mask.expand(15, 3)).view(3, 5)


@pytest.mark.parametrize("remaining", [None, 3.0])
@pytest.mark.parametrize("overhead", [0.0, 0.5])
@pytest.mark.parametrize("executed", [(True, True, True), (True, False, True)])
def test_completions_rank_as_they_score(models, remaining, overhead, executed):
    """But for the distribution of the cost, which counts as lognormal."""
    acquisition = LogEEIPU(
        models[0], costs(executed), 1.5, remaining=remaining, overhead=overhead, num_samples=1024
    )
    score = fast_score(acquisition)

    for depth, fixed in ((0, []), (1, [0, 1]), (2, [0, 1, 2])):
        mask = torch.arange(3) < depth
        found, expected = ranked(score, mask, fixed)
        # A cost that was never seen is rougher, and so is the chance to pay far more than is left.
        atol = 0.05 if all(executed) else 0.5
        near = expected > expected.max() - 3.0
        torch.testing.assert_close(found[near], expected[near], rtol=1e-3, atol=atol)


def test_with_one_stage_to_pay_ranks_are_nearly_exact(models):
    """There a lognormal cost is no approximation; few samples are."""
    score = fast_score(LogEEIPU(*models, 1.5, memoized_cost=1e-9, num_samples=4096))

    found, expected = ranked(score, torch.tensor([True, True, False]), [0, 1, 2])

    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-3)


def test_completions_rank_without_cost_and_without_memory(models):
    free, paid = torch.tensor([True, False, False]), torch.zeros(3, dtype=torch.bool)
    for score in (
        fast_score(LogExpectedImprovement(models[0], 1.5)),
        fast_score(LogEEIPU(*models, 1.5, cooling=0.0)),
    ):
        found, expected = ranked(score, free, [0, 1])
        torch.testing.assert_close(found, expected)
    blind = fast_score(LogEEIPU(*models, 1.5), sees_memory=False)
    torch.testing.assert_close(ranked(blind, free, [0, 1])[0], ranked(blind, paid, [0, 1])[0])


def test_costs_that_are_wildly_uncertain_still_rank(models):
    acquisition = LogEEIPU(*models, 1.5)
    wild = torch.tensor([[0.0, 1.0, 700.0]]).double(), torch.tensor([[0.0, 30.0, 1e3]]).double()

    assert acquisition.cost.rough_value_at(*wild, None).isfinite().all()


def test_running_trials_are_left_to_automatic_differentiation(models):
    pending = LogEEIPU(*models, 1.5, X_pending=points(2, seed=5))

    assert not isinstance(fast_score(pending), ClosedFormEEIPU)
    assert isinstance(fast_score(LogEEIPU(*models, 1.5, X_pending=X[:0])), ClosedFormEEIPU)


def test_models_on_different_points_are_left_to_automatic_differentiation(models):
    fewer = StageCostModel(X[:20], torch.ones(20, 3), STAGES, categorical=[3])

    assert not isinstance(fast_score(LogEEIPU(models[0], fewer, 1.5)), ClosedFormEEIPU)


def weighed(share):
    """The chain of stages that show partial sums, on the same points."""
    first = torch.sin(4 * X[:, 0]) + X[:, 1] ** 2
    second = first + 0.5 * X[:, 2]
    second[7] = math.nan
    # Noise: without any, the improvement below a known best value is a cliff.
    noise = 0.3 * torch.rand(25, dtype=X.dtype, generator=torch.Generator().manual_seed(3))
    values = first + 0.5 * X[:, 2] + (X[:, 3] == 0.5) + noise
    observed = {0: first.numpy(), 1: second.numpy()}
    upstream = [(), (0,), (1,)]
    chain = StageChain(X.numpy(), values.numpy(), observed, STAGES, upstream, categorical=[3])
    return WeighedChain(chain, share)


@pytest.fixture(scope="module")
def chains():
    return {share: weighed(share) for share in (0.3, 1.0)}


def reusing(n, depth):
    """Candidates of which every second has the first columns of an observed point."""
    x = points(n, seed=1)
    columns = [c for stage in STAGES[:depth] for c in stage]
    x[::2, columns] = X[: len(x[::2]), columns]
    memoized = (torch.arange(3) < depth).expand(n, 3) & (torch.arange(n) % 2 == 0)[:, None]
    return x.unsqueeze(1), memoized


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("best_f", [1.2, 8.0])
def test_gradients_by_way_of_stages_agree_with_finite_differences(
    models, chains, share, depth, best_f
):
    score = fast_score(LogEEIPU(*models, best_f, remaining=3.0), weighed=chains[share])
    x, memoized = reusing(20, depth)
    value, gradient = score.value_and_gradient(x, memoized)

    torch.testing.assert_close(score(x, memoized), value, rtol=1e-12, atol=1e-12)
    step = 1e-6
    for column in range(3):
        if any(column in stage for stage in STAGES[:depth]):
            continue  # fixed in candidates that reuse it
        shift = step * torch.eye(4, dtype=x.dtype)[column]
        slope = (score(x + shift, memoized) - score(x - shift, memoized)) / (2 * step)
        torch.testing.assert_close(gradient[:, 0, column], slope, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_improvement_by_way_of_stages_is_that_of_the_mixture(models, chains, depth):
    weights = chains[0.3]
    x, memoized = reusing(20, depth)
    mean, variance = weights.chain.moments(x.squeeze(1), memoized)
    known = torch.distributions.Normal(0.0, 1.0)
    u = (mean - weights.chain.best_f) / variance.sqrt()
    by_stages = variance.sqrt() * (known.log_prob(u).exp() + u * known.cdf(u))
    plain = LogExpectedImprovement(models[0], models[0].best_f)(x).exp()

    acquisition = LogExpectedImprovement(models[0], models[0].best_f)
    score = fast_score(acquisition, weighed=weights)

    torch.testing.assert_close(score(x, memoized).exp(), 0.3 * by_stages + 0.7 * plain)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_completions_by_way_of_stages_rank_as_they_score(models, chains, share):
    acquisition = LogEEIPU(*models, 1.5, num_samples=1024)
    score = fast_score(acquisition, weighed=chains[share])
    for depth, fixed in ((0, []), (1, [0, 1]), (2, [0, 1, 2])):
        mask, columns = torch.arange(3) < depth, torch.zeros(4, dtype=torch.bool)
        columns[fixed] = True
        x = points(5, seed=8)
        found = score.rank_completions(X[:3], columns, mask, x)

        completed = torch.where(columns, X[:3, None], x[None]).view(15, 1, 4)
        expected = score(completed, mask.expand(15, 3)).view(3, 5)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=0.05)


def test_a_chain_on_other_points_does_not_count(models):
    blind, elsewhere = fast_score(LogEEIPU(*models, 1.5)), weighed(0.3)
    elsewhere.chain.gps.observations = elsewhere.chain.gps.observations.at(torch.arange(9))
    x, memoized = reusing(6, 1)

    score = fast_score(LogEEIPU(*models, 1.5), weighed=elsewhere)

    assert torch.equal(score(x, memoized), blind(x, memoized))
