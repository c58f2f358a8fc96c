"""The models of a search."""

import math

import numpy as np
import pytest
import torch
from histories import models_of


@pytest.mark.parametrize("penalty", [-1e4, -1e30, -1.7e308])
def test_where_most_values_are_one_penalty_the_others_can_be_told_apart(penalty):
    """Half of the space is penalised, and more than half of the trials lie there."""
    x = [*np.linspace(0.55, 0.95, 13), *np.linspace(0.02, 0.5, 12)]
    trials = [(v, 0.5, penalty if v > 0.5 else -((v - 0.2) ** 2)) for v in x]

    models = models_of(trials)
    grid = torch.tensor([[[0.04 * i, 0.5]] for i in range(13)], dtype=torch.double)
    mean = models.objective.posterior(grid).mean.squeeze()

    assert grid[mean.argmax(), 0, 0].item() == pytest.approx(0.2, abs=0.05)
    assert models.best_f == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_scale_of_the_objective_does_not_matter(scale):
    rng = np.random.default_rng(0)
    points = rng.random((12, 2))
    X = torch.rand(5, 1, 2, dtype=torch.double)

    moments = [
        models_of([(x, y, s * (math.sin(6 * x) + y)) for x, y in points]).objective.posterior(X)
        for s in (1.0, scale)
    ]

    torch.testing.assert_close(moments[1].mean, moments[0].mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(moments[1].variance, moments[0].variance, rtol=1e-2, atol=1e-6)


def test_without_noise_the_best_value_is_the_best_observation():
    rng = np.random.default_rng(0)
    models = models_of([(x, y, math.sin(3 * x) - y) for x, y in rng.random((20, 2))])

    assert models.best_f == pytest.approx(1.0, abs=0.02)


def test_with_noise_the_best_value_is_not_taken_in_by_a_lucky_observation():
    rng = np.random.default_rng(0)
    points = rng.random((60, 2))
    truth = -((points[:, 0] - 0.5) ** 2)
    noisy = truth + 0.1 * rng.standard_normal(60)
    models = models_of([(x, y, v) for (x, y), v in zip(points, noisy, strict=True)])

    best = np.median(noisy) + models.standard.unit * models.best_f

    assert abs(best - truth.max()) < 0.5 * abs(noisy.max() - truth.max())
