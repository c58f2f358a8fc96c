"""The model of the objective."""

import math

import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement, qLogExpectedImprovement

from eeipu.models.objective import ObjectiveModel, compressed


def data(n=20, d=4, seed=0):
    X = np.random.default_rng(seed).random((n, d))
    return X, np.sin(5 * X[:, 0]) + X[:, 2] ** 2


STAGES = [[0, 1], [2, 3]]


def test_it_is_a_botorch_model():
    X, y = data()
    model = ObjectiveModel(X, y, STAGES)
    points = torch.rand(6, 1, 4, dtype=torch.double)

    posterior = model.posterior(points)

    assert posterior.mean.shape == posterior.variance.shape == (6, 1, 1)
    assert LogExpectedImprovement(model, y.max())(points).shape == (6,)


def test_joint_posteriors_serve_batch_acquisitions():
    X, y = data()
    model = ObjectiveModel(X, y, STAGES)
    points = torch.rand(3, 2, 4, dtype=torch.double)

    assert model.posterior(points).mean.shape == (3, 2, 1)
    assert qLogExpectedImprovement(model, y.max())(points).isfinite().all()


def test_one_point_alone_and_in_a_set_have_the_same_moments():
    X, y = data()
    model = ObjectiveModel(X, y, STAGES)
    points = torch.rand(1, 2, 4, dtype=torch.double)

    joint, alone = model.posterior(points), model.posterior(points[0].unsqueeze(1))

    torch.testing.assert_close(joint.mean[0, :, 0], alone.mean[:, 0, 0])
    torch.testing.assert_close(
        joint.variance[0, :, 0], alone.variance[:, 0, 0], rtol=1e-5, atol=1e-9
    )


def test_a_sum_over_stages_is_learnt_from_few_points():
    """With a term a stage, half of the error is left of what the joint term alone makes."""
    X, y = data(n=60, d=6)
    train, test = slice(0, 25), slice(25, None)
    y = np.sin(5 * X[:, 0]) + np.cos(4 * X[:, 2]) * X[:, 3] + X[:, 5] ** 2
    points = torch.from_numpy(X[test]).unsqueeze(1)

    errors = [
        np.abs(
            ObjectiveModel(X[train], y[train], stages).posterior(points).mean[:, 0, 0].numpy()
            - y[test]
        ).mean()
        for stages in ([[0, 1], [2, 3], [4, 5]], [[0, 1, 2, 3, 4, 5]])
    ]

    assert errors[0] < 0.5 * errors[1]


def test_failures_are_no_observations():
    X, y = data()
    failed = X[:, 1] > 0.7
    points = torch.from_numpy(X).unsqueeze(1)

    gaps = ObjectiveModel(X, np.where(failed, math.nan, y), STAGES)
    without = ObjectiveModel(X[~failed], y[~failed], STAGES)

    expected = without.posterior(points).mean
    torch.testing.assert_close(gaps.posterior(points).mean, expected, rtol=1e-3, atol=1e-3)
    assert gaps.best_f == pytest.approx(without.best_f, rel=1e-3)


def test_compression_keeps_order_and_the_good_half():
    y = torch.tensor([-1e5, -50.0, -3.0, 0.0, 1.0, 2.0, 4.0]).double()

    mapped, log_slope = compressed(y)

    assert (mapped.diff() > 0).all()
    torch.testing.assert_close(mapped[2:], y[2:])
    assert mapped[0] > -100
    assert (log_slope[2:] == 0).all()


def test_compression_reports_its_slope():
    y = torch.tensor([-1000.0, -20.0, 0.0, 1.0, 2.0]).double()
    step = torch.tensor([1e-5, 1e-5, 0.0, 0.0, 0.0]).double()

    mapped, log_slope = compressed(y)
    moved, _ = compressed(y + step)

    torch.testing.assert_close(
        ((moved - mapped)[:2] / step[:2]).log(), log_slope[:2], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("penalty", [-1e6, -1e30, -1e300])
def test_how_bad_a_penalty_is_does_not_matter(penalty):
    X, y = data(n=40)
    points = torch.from_numpy(data(n=20, seed=1)[0]).unsqueeze(1)

    means = [
        ObjectiveModel(X, np.where(X[:, 1] > 0.75, worst, y), STAGES).posterior(points).mean
        for worst in (-1e5, penalty)
    ]

    torch.testing.assert_close(*means)


def test_a_heavy_tail_does_not_hide_the_top():
    X, _ = data(n=60)
    y = -np.exp(10 * np.abs(X[:, 0] - 0.6))
    points = torch.linspace(0.4, 0.8, 41, dtype=torch.double).unsqueeze(-1)
    points = torch.cat([points, torch.full((41, 3), 0.5, dtype=torch.double)], dim=-1)

    mean = ObjectiveModel(X, y, STAGES).posterior(points.unsqueeze(1)).mean[:, 0, 0]

    assert points[mean.argmax(), 0].item() == pytest.approx(0.6, abs=0.05)


def test_a_narrow_valley_is_not_taken_for_noise():
    """The recorded points of a search that was sure of a trend and sat in (.7, .83).

    Its points close together, whose values hardly differ, show that there is no such noise.
    """
    recorded = """605 216 5 561 489 367 900 896 752 390 359 857 155 36 735 694 643 276 247 993 688
        675 640 903 668 585 698 887 705 1000 705 1000 701 926 700 917 699 906 1000 0 699 1000 698
        863
        719 937 708 886 710 862 719 846 719 834 717 834 714 834 712 833 710 832 709 832 707 832
        706 833 706 833 705 833"""
    X = np.array(recorded.split(), dtype=float).reshape(-1, 2) / 1000
    y = (np.sin(math.pi * X) * np.sin(math.pi * X**2 * [1.0, 2.0]) ** 20).sum(-1)  # Michalewicz
    noisy = torch.tensor([[-1.9, -0.7, 0.6, -2.7]] * 2, dtype=torch.double)

    model = ObjectiveModel(X, y, [[0, 1]], start=noisy)

    mean = model.posterior(torch.from_numpy(X).unsqueeze(1)).mean.squeeze()
    torch.testing.assert_close(mean, torch.from_numpy(y), rtol=0.0, atol=0.02)


def hill_or_luck(n):
    """A trend with one value that stands out, and an ordinary value close to it."""
    X = np.random.default_rng(0).random((n, 2))
    X[12] = X[7] + [0.03, -0.03]
    y = np.sin(3 * X[:, 0])
    y[7] = 3.0
    return X, y


@pytest.mark.parametrize(("count", "believes_it"), [(20, True), (21, False)])
def test_a_best_value_that_looks_like_luck_is_believed_in_every_second_trial(count, believes_it):
    model = ObjectiveModel(*hill_or_luck(count), [[0, 1]])

    assert (model.best_f > 2.9) is believes_it
    assert (model.noise_std < 0.1) is believes_it


def test_of_a_configuration_that_ran_several_times_the_mean_value_is_doubted():
    X, y = hill_or_luck(18)
    X, y = np.concatenate([X, X[[7, 7]]]), np.concatenate([y, [0.1, 0.1]])

    # Its values, 3, .1 and .1, are as the noise would have them, and no hill.
    assert ObjectiveModel(X, y, [[0, 1]]).noise_std > 0.3


def test_both_views_of_a_doubtful_value_grow_with_further_trials():
    X, y = hill_or_luck(63)
    model = ObjectiveModel(X[:60], y[:60], [[0, 1]])
    first = model.gp.hyperparameters

    for count in (61, 62):
        model = ObjectiveModel(X[:count], y[:count], [[0, 1]], grown_from=model)

    assert model.best_f > 2.9
    torch.testing.assert_close(model.gp.hyperparameters, first)


def test_ordinary_noise_is_noise_in_every_trial():
    X, y = data(n=42)
    y += 0.3 * np.random.default_rng(1).uniform(-1.0, 1.0, 42)  # less than two deviations

    models = [ObjectiveModel(X[:n], y[:n], STAGES) for n in (40, 41)]

    assert all(model.noise_std > 0.1 for model in models)
