"""The expected improvement of the hypervolume, against closed forms, BoTorch and sampling."""

import math

import numpy as np
import pytest
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.utils.multi_objective.box_decompositions.non_dominated import (
    FastNondominatedPartitioning,
)
from botorch.utils.multi_objective.hypervolume import Hypervolume
from botorch.utils.testing import MockModel, MockPosterior

from eeipu.acquisition import LogCostFactor, LogEEIPU
from eeipu.cost_models import StageCostModel
from eeipu.methods.several_objectives.hypervolume import (
    HypervolumeScore,
    LogHypervolumeImprovement,
    hypervolume_score,
    reference_point,
)
from eeipu.models.improvement import log_ei
from eeipu.models.objective import ObjectiveModel

FRONT = torch.tensor([[0.0, 2.0], [1.0, 1.0], [1.5, 0.2]], dtype=torch.double)
REFERENCE = torch.tensor([-0.5, -0.25], dtype=torch.double)


def tensor(values):
    return torch.tensor(values, dtype=torch.double)


def moments(b=40, M=2, seed=0):
    rng = np.random.default_rng(seed)
    return tensor(rng.normal(0.5, 1.5, (M, b))), tensor(rng.uniform(0.01, 2.0, (M, b)))


def botorch_value(means, variances, front, reference):
    posterior = MockPosterior(mean=means.T.unsqueeze(-2), variance=variances.T.unsqueeze(-2))
    cells = FastNondominatedPartitioning(ref_point=reference, Y=front)
    acquisition = ExpectedHypervolumeImprovement(
        MockModel(posterior), ref_point=reference.tolist(), partitioning=cells
    )
    return acquisition(torch.zeros(means.shape[1], 1, 2, dtype=torch.double))


def test_it_is_botorchs_expected_hypervolume_improvement():
    means, variances = moments()
    value, _, _ = LogHypervolumeImprovement(FRONT, REFERENCE)(means, variances)
    torch.testing.assert_close(
        value.exp(), botorch_value(means, variances, FRONT, REFERENCE), rtol=1e-8, atol=1e-12
    )


def test_with_three_objectives_it_is_the_mean_of_what_samples_add():
    front = tensor([[0.0, 2.0, 1.0], [1.0, 1.0, 0.5], [1.5, 0.2, 1.5]])
    reference = tensor([-0.5, -0.25, 0.0])
    means, variances = moments(3, 3)
    value, _, _ = LogHypervolumeImprovement(front, reference)(means, variances)
    volume = Hypervolume(reference)
    before = volume.compute(front)
    rng = np.random.default_rng(1)
    for i in range(3):
        samples = tensor(rng.standard_normal((4000, 3)) * variances[:, i].sqrt().numpy())
        gains = [
            volume.compute(torch.cat([front, y[None]])) - before for y in samples + means[:, i]
        ]
        assert value[i].exp().item() == pytest.approx(np.mean(gains), rel=0.1)


def test_with_an_empty_front_it_is_the_product_of_improvements_over_the_reference():
    means, variances = moments()
    empty = LogHypervolumeImprovement(FRONT[:0], REFERENCE)
    value, _, _ = empty(means, variances)
    parts = [log_ei(means[m], variances[m], REFERENCE[m])[0] for m in range(2)]
    torch.testing.assert_close(value, parts[0] + parts[1])


def test_slopes_are_those_of_the_value():
    means, variances = moments(7)
    improvement = LogHypervolumeImprovement(FRONT, REFERENCE)
    _, slope, variance_slope = improvement(means, variances)
    step = 1e-6
    for m in range(2):
        shift = torch.zeros_like(means)
        shift[m] = step
        up, down = (
            improvement(means + shift, variances)[0],
            improvement(means - shift, variances)[0],
        )
        torch.testing.assert_close((up - down) / (2 * step), slope[m], rtol=1e-4, atol=1e-7)
        up, down = (
            improvement(means, variances + shift)[0],
            improvement(means, variances - shift)[0],
        )
        torch.testing.assert_close(
            (up - down) / (2 * step), variance_slope[m], rtol=1e-4, atol=1e-7
        )


def test_it_is_finite_far_away_and_grows_towards_the_front():
    """A thousand deviations below there is still something to climb."""
    means = tensor([[-1e3, -1e2, -10.0, 1.2, 1e3], [-1e3, -1e2, -10.0, 1.2, 1e3]])
    variances = torch.full_like(means, 1e-2)
    value, slope, _ = LogHypervolumeImprovement(FRONT, REFERENCE)(means, variances)
    assert value.isfinite().all()
    assert (value.diff() > 0).all()
    assert (slope[:, :3] > 0).all()


def test_equal_members_of_a_front_change_nothing():
    means, variances = moments()
    once, _, _ = LogHypervolumeImprovement(FRONT, REFERENCE)(means, variances)
    twice, slope, _ = LogHypervolumeImprovement(torch.cat([FRONT, FRONT]), REFERENCE)(
        means, variances
    )
    torch.testing.assert_close(once, twice)
    assert slope.isfinite().all()


# --- The score of candidates


def models_and_costs(n=12, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((n, 3))
    values = [np.sin(3 * X[:, 0]) + X[:, 1], -X[:, 0] - X[:, 2] ** 2]
    models = [ObjectiveModel(X, each, [(0,), (1, 2)]) for each in values]
    costs = np.stack([1.0 + 3 * X[:, 0], 0.2 + X[:, 1]], axis=1)
    costs[::3, 0] = math.nan
    cost_model = StageCostModel(torch.from_numpy(X), torch.from_numpy(costs), [(0,), (1, 2)])
    cost = LogEEIPU(models[0], cost_model, 0.0, memoized_cost=0.05, cooling=0.7)
    return models, X, cost


def score_of(**changes):
    models, X, cost = models_and_costs(**changes)
    points = torch.from_numpy(X)
    return hypervolume_score(models, points, torch.ones(len(X)).bool(), points, cost.cost), cost


def candidates(b=6, seed=3):
    rng = np.random.default_rng(seed)
    memoized = torch.from_numpy(rng.random((b, 2)) < 0.5)
    return torch.from_numpy(rng.random((b, 1, 3))), memoized


def test_the_cost_that_remains_is_what_it_has_in_log_eeipu():
    score, cost = score_of()
    X, memoized = candidates()
    without = HypervolumeScore(score_of()[0]._models, score._improvement)(X, memoized)
    term = cost.score(X, memoized) - cost.log_ei(X)
    torch.testing.assert_close(score(X, memoized), without + term)


def test_gradients_are_those_of_the_score():
    score, _ = score_of()
    X, memoized = candidates()
    value, gradient = score.value_and_gradient(X, memoized)
    torch.testing.assert_close(value, score(X, memoized))
    for column in range(3):
        shift = torch.zeros_like(X)
        shift[..., column] = 1e-6
        slope = (score(X + shift, memoized) - score(X - shift, memoized)) / 2e-6
        torch.testing.assert_close(slope, gradient[:, 0, column], rtol=1e-3, atol=1e-5)


def test_completions_are_ranked_as_the_score_ranks_them():
    score, _ = score_of()
    points, X = torch.rand(4, 3).double(), torch.rand(50, 3).double()
    fixed, memoized = torch.tensor([True, False, False]), torch.tensor([True, False])
    rough = score.rank_completions(points, fixed, memoized, X)
    for point, found in zip(points, rough, strict=True):
        whole = torch.where(fixed, point, X).unsqueeze(-2)
        exact = score(whole, memoized.expand(len(X), 2))
        assert (found - exact).abs().max() < 0.05
        assert found.argmax() == exact.argmax()


def test_before_any_stage_was_executed_cost_has_its_prior():
    models, X, _ = models_and_costs()
    nothing = StageCostModel(
        torch.from_numpy(X), torch.full((len(X), 2), math.nan).double(), [(0,), (1, 2)]
    )
    cost = LogCostFactor(nothing)
    score = hypervolume_score(
        models, torch.from_numpy(X), torch.ones(len(X)).bool(), torch.from_numpy(X), cost
    )
    X, memoized = candidates()
    value, gradient = score.value_and_gradient(X, memoized)
    fixed = torch.tensor([True, False, False])
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert score.rank_completions(X[:, 0], fixed, memoized[0], X[:, 0]).isfinite().all()


# --- The reference point


def test_the_reference_is_below_the_front_by_a_tenth_of_its_range():
    expected = reference_point(FRONT, FRONT)
    torch.testing.assert_close(expected, tensor([0.0 - 0.15, 0.2 - 0.18]))


def test_of_a_single_trial_it_is_no_higher_than_the_median_of_all():
    means = tensor([[1.0, 1.0], [0.0, 0.5], [-1.0, -2.0]])
    assert reference_point(means[:1], means).tolist() == [0.0, 0.5]


def test_while_nothing_keeps_the_limits_all_trials_count():
    means = tensor([[1.0, 0.0], [0.0, 1.0]])
    assert reference_point(means[:0], means).tolist() == reference_point(means, means).tolist()
