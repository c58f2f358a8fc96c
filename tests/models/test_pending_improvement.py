"""Expected improvement beside running evaluations."""

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.models import SingleTaskGP

from eeipu.acquisition import log_expected_improvement
from eeipu.models.pending_improvement import LogPendingEI

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(8, 2, dtype=torch.double, generator=GENERATOR)
POINTS = torch.rand(6, 1, 2, dtype=torch.double, generator=GENERATOR)
PENDING = torch.rand(2, 2, dtype=torch.double, generator=GENERATOR)
BEST = 0.8


@pytest.fixture(scope="module")
def gp():
    return SingleTaskGP(X, torch.sin(4 * X).sum(-1, keepdim=True)).eval()


def test_it_is_what_a_candidate_adds_to_the_joint_expected_improvement(gp):
    score = LogPendingEI(gp, BEST, PENDING, num_fantasies=4096)

    together = gp.posterior(torch.cat([POINTS, PENDING.expand(6, 2, 2)], dim=-2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        gains = (together.rsample(torch.Size([200_000])).squeeze(-1) - BEST).clamp_min(0.0)
    added = gains.amax(-1) - gains[..., 1:].amax(-1)
    torch.testing.assert_close(score(POINTS).exp(), added.mean(0), rtol=3e-2, atol=5e-4)


def test_few_fantasies_are_enough(gp):
    few, many = (LogPendingEI(gp, BEST, PENDING, num_fantasies=n)(POINTS) for n in (64, 8192))

    torch.testing.assert_close(few, many, rtol=0, atol=0.05)


def test_what_is_running_already_adds_next_to_nothing(gp):
    alone = LogExpectedImprovement(gp, BEST)(PENDING.unsqueeze(-2))

    beside = LogPendingEI(gp, BEST, PENDING)(PENDING.unsqueeze(-2))

    assert (beside < alone - 3.0).all()


def test_it_never_exceeds_the_improvement_alone(gp):
    alone = LogExpectedImprovement(gp, BEST)(POINTS)

    assert (LogPendingEI(gp, BEST, PENDING)(POINTS) <= alone + 1e-2).all()


def test_two_equal_running_points_are_as_one(gp):
    one = LogPendingEI(gp, BEST, PENDING[:1], num_fantasies=4096)(POINTS)
    two = LogPendingEI(gp, BEST, PENDING[[0, 0]], num_fantasies=4096)(POINTS)

    torch.testing.assert_close(two, one, rtol=0, atol=0.05)


def test_gradients_are_right_and_finite_far_from_any_improvement(gp):
    score = LogPendingEI(gp, BEST, PENDING)
    far = LogPendingEI(gp, 1e6, PENDING)
    points = POINTS.clone().requires_grad_()

    assert torch.autograd.gradcheck(score, (points,), rtol=1e-2)
    (slope,) = torch.autograd.grad(far(points).sum(), points)
    assert far(points).isfinite().all()
    assert slope.isfinite().all()


def test_without_running_points_it_is_log_ei(gp):
    expected = LogExpectedImprovement(gp, BEST)(POINTS)

    for nothing in (None, PENDING[:0]):
        assert torch.equal(log_expected_improvement(gp, BEST, nothing)(POINTS), expected)
