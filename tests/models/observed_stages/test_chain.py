"""The model of the objective by way of what stages show."""

import math

import numpy as np
import pytest
import torch

from eeipu.models.objective import ObjectiveModel
from eeipu.models.observed_stages.chain import StageChain

COLUMNS = [[0, 1], [2, 3], [4]]
CHAIN = [(), (0,), (1,)]
STAGES = COLUMNS, CHAIN


def sums(n=24, seed=0, slope=1.0):
    """Points, the numbers after each of three stages, and the objective, which is the last."""
    X = np.random.default_rng(seed).random((n, 5))
    first = np.sin(5 * X[:, 0]) + X[:, 1] ** 2
    second = slope * first + np.cos(7 * X[:, 2]) * X[:, 3]
    return X, {0: first, 1: second}, second - 3 * (X[:, 4] - 0.4) ** 2


def chain_of(n=24, **options):
    X, observed, values = sums(n, **options)
    return StageChain(X, values, observed, COLUMNS, CHAIN)


POINTS = torch.from_numpy(sums(200, seed=1)[0])
TRUTH = sums(200, seed=1)[2]


def test_a_sum_is_learnt_from_fewer_points_than_without_what_stages_show():
    X, observed, values = sums()
    plain = ObjectiveModel(X, values, COLUMNS).posterior(POINTS.unsqueeze(-2)).mean.flatten()

    mean, _ = StageChain(X, values, observed, COLUMNS, CHAIN).moments(POINTS)

    errors = [np.abs(each.numpy() - TRUTH).mean() for each in (mean, plain)]
    assert errors[0] < 0.5 * errors[1]


def test_the_objective_is_the_sum_of_what_the_stages_add():
    chain = chain_of()

    mean, variance = chain.moments(POINTS)

    assert chain.reach.tolist() == [1.0, 1.0, 1.0]
    means, variances = chain.gps.posterior(POINTS)
    torch.testing.assert_close(mean, means.sum(0))
    torch.testing.assert_close(variance, variances.sum(0))


def test_how_much_is_passed_on_is_learnt():
    chain = chain_of(n=40, slope=-2.5)

    assert chain.reach.tolist() == pytest.approx([-2.5, 1.0, 1.0], rel=0.05)


def test_numbers_in_a_unit_of_their_own_do_not_matter():
    X, observed, values = sums(n=40)
    other = {0: 1e3 * observed[0], 1: -1e-3 * observed[1]}

    mean, _ = StageChain(X, values, other, COLUMNS, CHAIN).moments(POINTS)

    assert np.abs(mean.numpy() - TRUTH).mean() < 0.1 * TRUTH.std()


def test_of_a_reused_output_the_number_is_known():
    X, observed, values = sums()
    observed = {k: v.copy() for k, v in observed.items()}
    observed[0][3] += 0.5  # luck, which no other trial at this place would have
    observed[1][3] += 0.5
    chain = StageChain(X, values, observed, COLUMNS, CHAIN)
    point = POINTS[:1].clone()
    point[0, :2] = torch.from_numpy(X[3, :2])

    mean, variance = chain.moments(point, torch.tensor([[True, False, False]]))

    means, variances = chain.gps.posterior(point)
    expected = observed[0][3] + means[1:, 0].sum()
    assert mean.item() == pytest.approx(expected.item())
    assert variance.item() == pytest.approx(variances[1:, 0].sum().item())


def test_what_is_reused_without_a_number_is_predicted():
    chain = chain_of()
    everywhere = torch.tensor([[True, True, False]]).expand(len(POINTS), -1)

    known, _ = chain.known(POINTS, everywhere)

    assert not known.any()
    torch.testing.assert_close(chain.moments(POINTS, everywhere), chain.moments(POINTS))


def test_numbers_of_trials_without_a_value_count():
    X, observed, values = sums(n=40)
    failed = values.copy()
    failed[20:] = math.nan
    without = StageChain(X[:20], values[:20], {k: v[:20] for k, v in observed.items()}, *STAGES)

    chain = StageChain(X, failed, observed, *STAGES)

    errors = [np.abs(c.moments(POINTS)[0].numpy() - TRUTH).mean() for c in (chain, without)]
    assert errors[0] < 0.8 * errors[1]


def test_on_a_graph_a_stage_goes_on_from_all_that_lead_to_it():
    X = np.random.default_rng(0).random((30, 4))
    first = np.sin(5 * X[:, 0])
    branches = [first + np.cos(5 * X[:, 1]), 2.0 * first + X[:, 2] ** 2]
    values = branches[0] + branches[1] - (X[:, 3] - 0.3) ** 2
    observed = {0: first, 1: branches[0], 2: branches[1]}

    chain = StageChain(X, values, observed, [[0], [1], [2], [3]], [(), (0,), (0,), (1, 2)])

    assert [node.parents for node in chain.nodes] == [(), (0,), (0,), (1, 2)]
    assert chain.reach.tolist() == pytest.approx([3.0, 1.0, 1.0, 1.0], rel=0.1)
    assert np.abs(chain.moments(torch.from_numpy(X))[0].numpy() - values).max() < 0.05


def test_very_bad_values_leave_the_good_ones_their_resolution():
    X, observed, values = sums(n=40)
    bad = X[:, 4] > 0.9
    values = np.where(bad, -1e6 * X[:, 4], values)
    good = TRUTH[POINTS[:, 4].numpy() < 0.8]

    chain = StageChain(X, values, observed, COLUMNS, CHAIN)

    mean, _ = chain.moments(POINTS[POINTS[:, 4] < 0.8])
    assert np.abs(mean.numpy() - good).mean() < 0.15 * good.std()


@pytest.mark.parametrize("penalty", [-1e100, -1e15])
def test_penalties_are_bad_and_nothing_more(penalty):
    X, observed, values = sums(n=40)
    values = np.where(X[:, 4] > 0.9, penalty, values)

    chain = StageChain(X, values, observed, COLUMNS, CHAIN)

    mean, variance = chain.moments(POINTS)
    assert torch.isfinite(mean).all()
    assert (variance > 0).all()


def test_left_out_values_are_those_of_the_parts():
    X, observed, values = sums()
    observed[0][2] = math.nan
    values[5] = math.nan
    chain = StageChain(X, values, observed, COLUMNS, CHAIN)

    mean, std = chain.left_out()

    assert np.flatnonzero(mean.isnan()).tolist() == [2, 5]
    assert mean.isnan().equal(std.isnan())
    rest = ~mean.isnan()
    z = (torch.from_numpy(values) - mean)[rest] / std[rest]
    assert 0.2 < z.square().mean() < 5.0


def test_joint_predictions_agree_with_single_ones():
    chain = chain_of()
    mean, variance = chain.moments(POINTS[:6])

    joint = chain.posterior(POINTS[:6])
    beside = chain.beside(POINTS[:2])(POINTS[:6])

    torch.testing.assert_close(joint.mean.flatten(), mean)
    torch.testing.assert_close(joint.variance.flatten(), variance, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(beside[0], mean)
    torch.testing.assert_close(beside[1], variance)
    covariance = joint.distribution.covariance_matrix[:, :2]
    torch.testing.assert_close(beside[2], covariance, rtol=1e-6, atol=1e-8)
    noisy = chain.posterior(POINTS[:6], observation_noise=True).variance.flatten()
    torch.testing.assert_close(noisy - joint.variance.flatten(), chain.noise.expand(6))


def test_the_best_value_does_not_profit_from_the_last_stages_noise():
    X, observed, values = sums(n=60)
    noisy = values + 0.3 * np.random.default_rng(3).standard_normal(60)

    chain = StageChain(X, noisy, observed, COLUMNS, CHAIN)

    luck = noisy.max() - values[noisy.argmax()]
    assert chain.best_f < noisy.max() - 0.5 * luck
    assert chain_of(n=60).best_f == pytest.approx(values.max(), abs=0.01)


def test_a_chain_that_has_grown_keeps_its_hyperparameters():
    X, observed, values = sums(n=30, slope=0.5)
    fewer = StageChain(X[:24], values[:24], {k: v[:24] for k, v in observed.items()}, *STAGES)

    grown = StageChain(X, values, observed, *STAGES, grown_from=fewer)

    torch.testing.assert_close(grown.hyperparameters, fewer.hyperparameters)
    assert len(grown.gps.observations.X) == 30
    again = StageChain(X, values, observed, *STAGES, start=grown.hyperparameters)
    assert (again.moments(POINTS)[0] - grown.moments(POINTS)[0]).abs().mean() < 0.2


def test_a_chain_of_other_stages_is_fitted_anew():
    X, observed, values = sums()
    one = StageChain(X, values, {0: observed[0]}, *STAGES)

    both = StageChain(X, values, observed, *STAGES, grown_from=one, start=one.hyperparameters)

    torch.testing.assert_close(both.moments(POINTS), chain_of().moments(POINTS))
    assert both.nodes[0] == one.nodes[0]
