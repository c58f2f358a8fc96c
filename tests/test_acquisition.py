"""LogEEIPU against closed forms and quadrature, in its limits, and at its extremes."""

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.utils.testing import MockModel, MockPosterior

from eeipu.acquisition import LogCostFactor, LogEEIPU
from eeipu.errors import ConfigurationError
from eeipu.models.objective import ObjectiveModel


class FixedCosts:
    """A cost model whose log costs have the same moments everywhere, `K`."""

    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).double(), torch.tensor(std).double()

    def log_cost_posterior(self, X):
        shape = (*X.shape[:-1], len(self.mean))
        return self.mean.expand(shape), self.std.expand(shape)


class LinearCosts:
    """A cost model that depends on the point: log c_k = x_k, with standard deviation 0.3."""

    def log_cost_posterior(self, X):
        return X[..., :2], torch.full_like(X[..., :2], 0.3)


def objective(mean=0.0, variance=1.0):
    return MockModel(
        MockPosterior(mean=torch.full((1, 1), mean), variance=torch.full((1, 1), variance))
    )


@pytest.fixture(scope="module")
def gp():
    X = torch.rand(8, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    return SingleTaskGP(X, X.sum(-1, keepdim=True).sin()).eval()


def candidates(b=5):
    return torch.rand(b, 1, 3, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def gauss_hermite(mean, std, nodes=60):
    """`E[1 / sum c]` by a tensor product of Gauss-Hermite rules."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    w = w / w.sum()
    total = 0.0
    for index in itertools.product(range(nodes), repeat=len(mean)):
        weight = math.prod(w[i] for i in index)
        cost = sum(math.exp(m + s * x[i]) for m, s, i in zip(mean, std, index, strict=True))
        total += weight / cost
    return total


def test_one_lognormal_stage_has_a_closed_form():
    acquisition = LogEEIPU(objective(), FixedCosts([0.7], [0.5]), 0.0, num_samples=2**14)

    value = acquisition.cost.log_inverse(torch.zeros(1, 3), None)

    assert value.item() == pytest.approx(-0.7 + 0.5**2 / 2, abs=1e-3)


def test_two_stages_agree_with_quadrature():
    mean, std = [0.2, 1.0], [0.8, 0.4]
    acquisition = LogEEIPU(objective(), FixedCosts(mean, std), 0.0, num_samples=2**14)

    value = acquisition.cost.log_inverse(torch.zeros(1, 3), None)

    assert value.item() == pytest.approx(math.log(gauss_hermite(mean, std)), abs=1e-3)


def test_stage_costs_are_independent_draws():
    """One draw shared by all stages would give the mean inverse of one lognormal."""
    acquisition = LogEEIPU(objective(), FixedCosts([0.0] * 4, [1.0] * 4), 0.0, num_samples=2**14)

    value = acquisition.cost.log_inverse(torch.zeros(1, 3), None)

    shared = -math.log(4) + 0.5
    independent = math.log(gauss_hermite([0.0] * 4, [1.0] * 4, nodes=16))
    assert value.item() == pytest.approx(independent, abs=5e-3)
    assert abs(independent - shared) > 0.2


def test_cooling_zero_is_log_ei(gp):
    acquisition = LogEEIPU(gp, LinearCosts(), 0.5, cooling=0.0)

    expected = LogExpectedImprovement(gp, 0.5)(candidates())

    torch.testing.assert_close(acquisition(candidates()), expected, rtol=0, atol=0)


def test_cooling_scales_the_cost_term(gp):
    ei, half, full = (
        LogEEIPU(gp, LinearCosts(), 0.5, cooling=eta)(candidates()) for eta in (0.0, 0.5, 1.0)
    )

    torch.testing.assert_close(half - ei, (full - ei) / 2)


def test_every_stage_memoized_costs_the_memoized_cost():
    acquisition = LogEEIPU(
        objective(),
        FixedCosts([3.0, 4.0], [1.0, 1.0]),
        0.0,
        memoized=torch.tensor([True, True]),
        memoized_cost=torch.tensor([0.2, 0.3]),
    )

    value = acquisition.cost.log_inverse(torch.zeros(1, 3), acquisition.memoized)

    assert value.item() == pytest.approx(-math.log(0.5))


def test_the_overhead_is_added_to_the_cost_of_every_candidate():
    costs = FixedCosts([2.0, -1.0], [0.0, 0.0])
    memoized = torch.tensor([[False, False], [True, False], [True, True]])
    acquisition = LogEEIPU(objective(), costs, 0.0, memoized_cost=1e-6, overhead=3.0)

    found = acquisition.cost.log_inverse(torch.zeros(3, 3).double(), memoized)

    paid = [math.exp(2.0) + math.exp(-1.0), 1e-6 + math.exp(-1.0), 2e-6]
    assert found.tolist() == pytest.approx([-math.log(3.0 + each) for each in paid])


def test_the_overhead_counts_in_the_chance_to_pay():
    point = torch.zeros(1, 3).double()
    costs = FixedCosts([0.0], [0.1])
    without, with_it = (
        LogCostFactor(costs, overhead=overhead).log_chance_to_pay(point, None, 2.0)
        for overhead in (0.0, 1.5)
    )
    assert with_it.item() < math.log(0.5) < without.item()


def test_no_overhead_changes_no_bit(gp):
    costs, X = FixedCosts([0.3, 1.7], [0.5, 0.2]), candidates()
    plain = LogEEIPU(gp, costs, 0.5, seed=3)(X)
    assert torch.equal(LogEEIPU(gp, costs, 0.5, overhead=0.0, seed=3)(X), plain)
    assert (LogEEIPU(gp, costs, 0.5, overhead=0.1, seed=3)(X) < plain).all()


def test_memoized_stages_may_be_any_set():
    mean, std = [1.0, 2.0, 0.5], [0.0, 0.0, 0.0]
    acquisition = LogEEIPU(objective(), FixedCosts(mean, std), 0.0, memoized_cost=0.1)

    value = acquisition.cost.log_inverse(torch.zeros(1, 3), torch.tensor([False, True, False]))

    assert value.item() == pytest.approx(-math.log(math.e + 0.1 + math.exp(0.5)))


def test_each_candidate_has_its_own_mask(gp):
    masks = torch.tensor([[False, False], [True, False], [False, True], [True, True]])
    X = candidates(4)

    together = LogEEIPU(gp, LinearCosts(), 0.5, memoized=masks)(X)

    alone = [
        LogEEIPU(gp, LinearCosts(), 0.5, memoized=mask)(x[None])
        for mask, x in zip(masks, X, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_memoizing_a_stage_never_lowers_the_value(gp):
    X = candidates()
    plain, memoized = (
        LogEEIPU(gp, LinearCosts(), 0.5, memoized=torch.tensor(mask))(X)
        for mask in ([False, False], [True, False])
    )

    assert (memoized > plain).all()


def test_gradients_are_right(gp):
    acquisition = LogEEIPU(gp, LinearCosts(), 0.5, memoized=torch.tensor([True, False]))

    assert torch.autograd.gradcheck(acquisition, candidates().requires_grad_(True))


def test_far_tails_are_finite_with_finite_gradients():
    X = torch.zeros(1, 1, 3, dtype=torch.double)

    for best in (1e3, 1e8):
        costs = FixedCosts([math.log(1e-6), math.log(1e6)], [1.0, 1.0])
        assert LogEEIPU(objective(), costs, best)(X).isfinite().all()


def test_far_tails_have_gradients(gp):
    X = candidates().requires_grad_(True)

    value = LogEEIPU(gp, LinearCosts(), 1e6)(X)
    (gradient,) = torch.autograd.grad(value.sum(), X)

    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_the_seed_fixes_the_samples(gp):
    value, same, other = (
        LogEEIPU(gp, LinearCosts(), 0.5, seed=seed, num_samples=16)(candidates())
        for seed in (1, 1, 2)
    )

    assert torch.equal(value, same)
    assert not torch.equal(value, other)


def test_it_pickles(gp):
    acquisition = LogEEIPU(gp, LinearCosts(), 0.5, memoized=torch.tensor([True, False]))
    before = acquisition(candidates())

    after = pickle.loads(pickle.dumps(acquisition))(candidates())

    assert torch.equal(before, after)


def test_double_precision_is_kept(gp):
    assert LogEEIPU(gp, LinearCosts(), 0.5)(candidates()).dtype == torch.double


@pytest.mark.parametrize(
    ("argument", "value"), [("memoized_cost", 0.0), ("cooling", -1.0), ("num_samples", 0)]
)
def test_impossible_arguments_are_refused(argument, value):
    with pytest.raises(ConfigurationError, match=argument):
        LogEEIPU(objective(), LinearCosts(), 0.0, **{argument: value})


# --- as BoTorch uses it

BOUNDS = torch.tensor([[0.0] * 3, [1.0] * 3]).double()


def test_points_that_are_being_evaluated_can_be_set_later(gp):
    pending = candidates(2).squeeze(1)
    given = LogEEIPU(gp, LinearCosts(), 0.5, X_pending=pending)
    later = LogEEIPU(gp, LinearCosts(), 0.5)
    before = later(candidates())

    later.set_X_pending(pending)
    torch.testing.assert_close(later(candidates()), given(candidates()))
    assert torch.equal(later.X_pending, pending)

    later.set_X_pending(None)
    torch.testing.assert_close(later(candidates()), before)


def test_several_candidates_are_chosen_one_after_another(gp):
    acquisition = LogEEIPU(gp, LinearCosts(), 0.5)

    chosen, _ = optimize_acqf(
        acquisition, BOUNDS, q=2, num_restarts=3, raw_samples=32, sequential=True
    )

    assert chosen.shape == (2, 3)
    assert (chosen[0] - chosen[1]).abs().max() > 1e-3
    assert acquisition.X_pending is None


def test_which_stages_are_free_may_depend_on_the_candidate(gp):
    """The first stage is free where the first column is at most a half."""

    def memoized(X):
        first = X[:, 0, 0] <= 0.5
        return torch.stack([first, torch.zeros_like(first)], dim=-1)

    acquisition = LogEEIPU(gp, LinearCosts(), 0.5, memoized=memoized)
    X = candidates()
    expected = LogEEIPU(gp, LinearCosts(), 0.5, memoized=memoized(X))(X)

    torch.testing.assert_close(acquisition(X), expected)
    chosen, value = optimize_acqf(
        acquisition,
        BOUNDS,
        q=1,
        num_restarts=3,
        raw_samples=32,
        retry_on_optimization_warning=False,  # there is a cliff in the middle
    )
    torch.testing.assert_close(acquisition(chosen), value.reshape(1))


def test_masks_of_another_batch_are_refused_with_a_remedy(gp):
    acquisition = LogEEIPU(gp, LinearCosts(), 0.5, memoized=torch.zeros(3, 2).bool())
    with pytest.raises(ConfigurationError, match="give a function of the candidates"):
        acquisition(candidates(5))


def test_the_state_of_its_model_is_its_state():
    X = torch.rand(6, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0)).numpy()
    model = ObjectiveModel(X, X.sum(-1), [[0, 1, 2]])
    state = LogEEIPU(model, LinearCosts(), 0.5).state_dict()
    assert torch.equal(state["model._extra_state"], model.gp.hyperparameters)
