"""Log costs: learnt from executed stages, from the right inputs, and not from hiccups."""

import math

import numpy as np
import pytest
import torch

from eeipu.cost_models import StageCostModel
from eeipu.errors import ConfigurationError


def points(n=30, d=3, seed=0):
    return torch.rand(n, d, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def test_costs_are_learnt_on_the_log_scale():
    X = points(40)
    costs = torch.stack([torch.exp(2 * X[:, 0]), 1 + 50 * X[:, 1] ** 2], dim=-1)

    mean, std = StageCostModel(X[:30], costs[:30], [[0], [1, 2]]).log_cost_posterior(X[30:])

    assert mean.shape == std.shape == (10, 2)
    assert (mean - costs[30:].log()).abs().max() < 0.3
    assert (std > 0).all()


def test_batch_shapes_are_kept():
    X = points()
    model = StageCostModel(X, torch.exp(X[:, :2]), [[0], [1]])

    mean, _ = model.log_cost_posterior(X[:24].reshape(2, 3, 4, 3))

    assert mean.shape == (2, 3, 4, 2)
    torch.testing.assert_close(mean.reshape(24, 2), model.log_cost_posterior(X[:24])[0])


def test_a_stage_learns_from_its_executions_only():
    X = points()
    costs = torch.exp(torch.stack([X[:, 0], 3 * X[:, 1]], dim=-1))
    costs[10:, 0] = math.nan

    mean, std = StageCostModel(X, costs, [[0], [1]]).log_cost_posterior(X)

    alone, _ = StageCostModel(X[:10], costs[:10, :1], [[0]]).log_cost_posterior(X)
    torch.testing.assert_close(mean[:, 0], alone[:, 0], rtol=1e-2, atol=1e-2)
    assert std.isfinite().all()


def test_a_stage_that_never_ran_has_a_prior():
    X = points(5)
    costs = torch.full((5, 2), math.nan, dtype=torch.double)
    costs[:, 0] = 10.0

    mean, std = StageCostModel(X, costs, [[0], [1]]).log_cost_posterior(X)

    torch.testing.assert_close(mean[:, 1], torch.full((5,), math.log(10)).double())
    torch.testing.assert_close(std[:, 1], torch.ones(5).double())


def test_no_observation_at_all_is_a_prior_too():
    X = points(5)

    mean, std = StageCostModel(X, torch.full((5, 2), math.nan), [[0], [1, 2]]).log_cost_posterior(X)

    assert (mean == 0).all()
    assert (std == 1).all()


def test_a_stage_without_hyperparameters_has_a_constant_cost():
    X = points()
    costs = torch.full((30, 1), 2.0)

    mean, std = StageCostModel(X, costs, [[]]).log_cost_posterior(X)

    torch.testing.assert_close(mean, torch.full((30, 1), math.log(2)).double())
    assert (std < 0.5).all()


def test_upstream_columns_are_used_where_they_matter():
    """A batch size set upstream sets the time of training; the other stage does not care."""
    X = points(40)
    costs = torch.stack([1 + X[:, 0], torch.exp(3 * X[:, 0] + X[:, 1]), 1 + X[:, 2]], dim=-1)

    model = StageCostModel(X, costs, [[0], [1], [2]])

    assert model.columns[1] == (0, 1)
    assert model.columns[2] == (2,)


def test_one_hiccup_does_not_wreck_the_model():
    X = points(30)
    clean = torch.exp(X[:, :1])
    costs = clean.clone()
    costs[7] *= 100

    mean, _ = StageCostModel(X, costs, [[0]]).log_cost_posterior(X)

    assert (mean - clean.log()).abs().max() < 0.1


def hiccup_at(row, *, declared=()):
    X = points(30, d=1)
    costs = torch.exp(X)
    costs[row] *= 100
    model = StageCostModel(X, costs, [[0]], declared=declared)
    return [moment[row].item() for moment in model.log_cost_posterior(X)]


def test_declared_costs_are_never_left_out():
    inside = points(30, d=1).squeeze(-1).argsort()[15].item()

    _, std = hiccup_at(inside)
    _, declared_std = hiccup_at(inside, declared=[0])

    assert std < 0.1
    assert declared_std > 0.5


@pytest.mark.parametrize("place", [0, -1])
def test_a_cost_at_the_edge_may_be_true(place):
    """Nothing beyond it could contradict it."""
    edge = points(30, d=1).squeeze(-1).argsort()[place].item()

    mean, _ = hiccup_at(edge)

    assert mean > 2.0


def test_a_choice_seen_once_may_cost_more():
    choice = torch.tensor([0.0, 0.5] * 5 + [1.0], dtype=torch.double)
    X = torch.stack([points(11, d=1).squeeze(-1), choice], dim=-1)
    costs = torch.where(choice == 1.0, 30.0, 1.0 + 0.02 * X[:, 0]).unsqueeze(-1)

    mean, _ = StageCostModel(X, costs, [[0, 1]], categorical=[1]).log_cost_posterior(X[-1:])

    assert mean.exp().item() > 20.0


def test_a_smooth_costly_corner_is_no_error():
    X = points(20, d=2)
    X[-1] = 0.97
    costs = (1.0 + 40.0 * (X.prod(-1, keepdim=True) ** 12)).double()

    mean, _ = StageCostModel(X, costs, [[0, 1]]).log_cost_posterior(X[-1:])

    assert mean.exp().item() > 0.5 * costs[-1].item()


def test_what_an_upstream_choice_explains_is_no_error():
    """In the stage's own columns it lies among the others, which cost thirty times less."""
    upstream = torch.tensor([0.0] * 14 + [1.0], dtype=torch.double)
    own = points(15, d=1).squeeze(-1)
    own[-1] = 0.5
    X = torch.stack([upstream, own], dim=-1)
    cost = torch.where(upstream == 1.0, 30.0, 1.0 + 0.02 * own)
    costs = torch.stack([torch.ones(15).double(), cost], dim=-1)

    model = StageCostModel(X, costs, [[0], [1]], categorical=[0])

    assert model.columns[1] == (0, 1)
    assert model.log_cost_posterior(X[-1:])[0][0, 1].exp().item() > 15.0


def test_moments_are_those_of_a_cost_that_will_be_measured():
    """The noise of a measurement counts: what is left of a budget has to pay for it."""
    X = points(200, d=1)
    noise = 0.6 * torch.randn(200, 1, generator=torch.Generator().manual_seed(2)).double()

    mean, std = StageCostModel(X, torch.exp(noise), [[0]]).log_cost_posterior(X)

    assert std.mean().item() == pytest.approx(0.6, rel=0.15)
    within = ((noise - mean) <= 0.84 * std).double().mean().item()
    assert within == pytest.approx(0.8, abs=0.06)


def test_costs_of_zero_leave_the_others_their_resolution():
    """`E[1 / C]` beside a stage of cost 1, where the stage costs `max(0, 10 (x - .4))`."""
    X = (torch.arange(20).double().unsqueeze(-1) + 0.5) / 20
    cost = 10.0 * (X - 0.4).clamp_min(0.0)
    at = torch.tensor([[0.45], [0.62], [0.83]], dtype=torch.double)

    mean, std = StageCostModel(X, cost, [[0]]).log_cost_posterior(at)

    normal = torch.linspace(-3, 3, 201).double().unsqueeze(-1)
    weight = torch.softmax(-0.5 * normal**2, dim=0)
    inverse = (weight / (1.0 + (mean.T + std.T * normal).exp())).sum(0)
    expected = 1.0 / (1.0 + 10.0 * (at.squeeze(-1) - 0.4))
    torch.testing.assert_close(inverse, expected, rtol=0.1, atol=0.0)


def test_a_stage_that_never_ran_is_not_expected_to_be_free():
    costs = torch.tensor([[0.0, 3.0, math.nan]] * 5, dtype=torch.double)

    mean, _ = StageCostModel(points(5), costs, [[0], [1], [2]]).log_cost_posterior(points(2))

    assert mean[:, 2].exp().tolist() == pytest.approx([3.0, 3.0])


def test_noise_is_not_taken_for_signal():
    X = points(60)
    noise = 0.1 * torch.randn(60, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    costs = torch.exp(X[:, :1] + noise.unsqueeze(-1))

    mean, _ = StageCostModel(X, costs, [[0]]).log_cost_posterior(X)

    assert (mean - X[:, :1]).abs().mean() < 0.06


def test_extreme_costs_stay_finite():
    X = points()
    costs = torch.stack([1e-6 + 0 * X[:, 0], 1e6 * (1 + X[:, 1]), 0 * X[:, 2]], dim=-1)

    mean, std = StageCostModel(X, costs, [[0], [1], [2]]).log_cost_posterior(X)

    assert mean.isfinite().all()
    assert std.isfinite().all()
    torch.testing.assert_close(mean[:, 0], torch.full((30,), math.log(1e-6)).double())


@pytest.mark.parametrize("wrong", [-1.0, math.inf])
def test_impossible_costs_are_refused(wrong):
    costs = torch.ones(30, 1)
    costs[3] = wrong

    with pytest.raises(ConfigurationError, match="finite and not negative"):
        StageCostModel(points(), costs, [[0]])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="K=2"):
        StageCostModel(points(), torch.ones(30, 1), [[0], [1]])


def test_columns_that_are_not_there_are_named():
    with pytest.raises(ConfigurationError, match="names column 2, but X has the columns 0 to 1"):
        StageCostModel(torch.rand(3, 2), torch.ones(3, 1), [[0, 2]])


def test_arrays_become_tensors():
    model = StageCostModel(np.random.default_rng(0).random((4, 1)), np.ones((4, 1)), [[0]])

    assert model.log_cost_posterior(torch.rand(2, 1, dtype=torch.double))[0].shape == (2, 1)


@pytest.mark.parametrize("scale", [1e-200, 1e-10, 1.0, 1e200])
def test_the_unit_of_costs_does_not_matter(scale):
    X = torch.rand(10, 1, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    costs = 1.0 + X
    costs[3] = 0.0

    mean, std = StageCostModel(X, scale * costs, [[0]]).log_cost_posterior(X)

    expected = StageCostModel(X, costs, [[0]]).log_cost_posterior(X)
    torch.testing.assert_close(mean - math.log(scale), expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(std, expected[1], rtol=1e-3, atol=1e-4)


def test_costs_that_are_all_zero_are_all_alike():
    mean, std = StageCostModel(torch.rand(5, 1), torch.zeros(5, 2), [[0], []]).log_cost_posterior(
        torch.rand(3, 1, dtype=torch.double)
    )

    assert mean.abs().max() < 1e-6
    assert std.isfinite().all()


@pytest.mark.parametrize(
    ("inputs", "columns"), [("own", [(0,), (1,)]), ("upstream", [(0,), (0, 1)])]
)
def test_the_inputs_of_all_stages_can_be_prescribed(inputs, columns):
    X = torch.rand(12, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    # The second stage's cost has to do with nothing of its own.
    model = StageCostModel(X, torch.stack([X[:, 0], X[:, 0]]).T, [[0], [1]], inputs=inputs)

    assert model.columns == columns


def test_upstream_columns_are_those_of_the_stages_that_lead_to_a_stage():
    """Two branches and their join: a branch's cost has nothing to do with the other branch."""
    X = torch.rand(12, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    branches = {"inputs": "upstream", "upstream": [[], [], [0, 1]]}

    graph = StageCostModel(X, X.exp(), [[0], [1], [2]], **branches)
    chain = StageCostModel(X, X.exp(), [[0], [1], [2]], inputs="upstream")

    assert graph.columns == [(0,), (1,), (0, 1, 2)]
    assert chain.columns == [(0,), (0, 1), (0, 1, 2)]


def test_a_chain_may_say_that_it_is_one():
    X, costs = points(), torch.rand(30, 3, dtype=torch.double).exp()
    columns = [[0], [1], [2]]

    said = StageCostModel(X, costs, columns, upstream=[[], [0], [0, 1]])

    expected = StageCostModel(X, costs, columns).log_cost_posterior(X)
    assert all(map(torch.equal, said.log_cost_posterior(X), expected))


@pytest.mark.parametrize("upstream", [[[], [1]], [[]], [[], [-1]]])
def test_what_is_upstream_has_to_come_before(upstream):
    with pytest.raises(ConfigurationError, match=r"upstream must name.*2 stages"):
        StageCostModel(points(), torch.ones(30, 2), [[0], [1]], upstream=upstream)
