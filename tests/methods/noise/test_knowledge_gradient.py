"""What one more observation is worth, against quadrature and in its limits."""

import math

import numpy as np
import pytest
import torch

from eeipu.methods.noise.knowledge_gradient import log_knowledge_gradient, moves
from eeipu.models.pending_improvement import log_improvement


@pytest.mark.parametrize("n", [2, 5, 30])
def test_it_is_the_mean_gain_of_whoever_takes_the_best(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=n), rng.normal(size=n)
    z = np.linspace(-10.0, 10.0, 200_001)
    weights = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi) * (z[1] - z[0])

    expected = np.max(a[:, None] + b[:, None] * z, axis=0) @ weights - a.max()

    assert math.exp(log_knowledge_gradient(a, b)) == pytest.approx(expected, rel=1e-5)


def test_without_noise_and_correlation_it_is_the_expected_improvement():
    std = torch.tensor(0.3, dtype=torch.double)
    expected = log_improvement(torch.tensor(-0.5, dtype=torch.double), std, 0.0)

    found = log_knowledge_gradient(np.array([0.0, -0.5]), np.array([0.0, 0.3]))

    assert found == pytest.approx(expected.item())


def test_far_below_the_smallest_double_it_is_still_finite():
    assert -1e6 < log_knowledge_gradient(np.array([0.0, -5.0]), np.array([0.0, 0.01])) < -1e5


@pytest.mark.parametrize("moved", [[0.0, 0.0], [1.0, 1.0]])
def test_what_moves_all_alike_or_nothing_is_worth_nothing(moved):
    assert log_knowledge_gradient(np.array([0.0, -1.0]), np.array(moved)) == -math.inf


def test_an_observation_moves_means_as_conditioning_does():
    covariance = torch.tensor([[1.0, 0.5], [0.5, 2.0]], dtype=torch.double)
    noise = torch.tensor(0.25, dtype=torch.double)

    # Observing the second point one deviation above its mean.
    gain = covariance[:, 1] / (covariance[1, 1] + noise) * (covariance[1, 1] + noise).sqrt()

    assert torch.allclose(moves(covariance, noise)[:, 1], gain)
