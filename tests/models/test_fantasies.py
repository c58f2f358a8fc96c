"""Models after further observations, and what BoTorch asks of a model."""

from copy import copy

import numpy as np
import pytest
import torch
from botorch.acquisition import qKnowledgeGradient
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler

from eeipu.models.fantasies import ModelWithFantasies
from eeipu.models.objective import ObjectiveModel


def data(n=16, seed=0):
    X = np.random.default_rng(seed).random((n, 2))
    return X, np.sin(5 * X[:, 0]) + X[:, 1] ** 2


def model(n=16):
    return ObjectiveModel(*data(n), [[0], [1]])


def points(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).random((*shape, 2)))


def test_observations_count_as_if_they_had_been_there():
    base, F, X = model(), points(3), points(5, 1, seed=2)
    Y = torch.tensor([[0.3], [0.1], [0.9]]).double()

    after = base.condition_on_observations(F, Y)

    gp = base.gp
    extended = copy(gp)
    extended.observations = gp.observations.extended(F, Y.T)
    extended = extended.at(gp.hyperparameters)
    mean, variance = extended.posterior(X)
    posterior = after.posterior(X)
    torch.testing.assert_close(posterior.mean.squeeze(-1), mean[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(posterior.variance.squeeze(-1), variance[0], rtol=1e-3, atol=1e-6)


def test_observations_come_one_after_another_or_at_once():
    F, X, Y = points(3), points(4, 2, seed=2), torch.tensor([[0.3], [0.1], [0.9]]).double()

    once = model().condition_on_observations(F, Y)
    twice = model().condition_on_observations(F[:1], Y[:1]).condition_on_observations(F[1:], Y[1:])

    torch.testing.assert_close(once.posterior(X).mean, twice.posterior(X).mean)


def test_batches_are_broadcast():
    after = model().condition_on_observations(points(5, 2), torch.rand(4, 5, 2, 1).double())

    assert after.batch_shape == (4, 5)
    posterior = after.posterior(points(5, 3, seed=2))
    assert posterior.mean.shape == (4, 5, 3, 1)
    each = model().condition_on_observations(points(5, 2)[1], after._Y[2, 1].unsqueeze(-1))
    torch.testing.assert_close(posterior.mean[2, 1], each.posterior(points(5, 3, seed=2)[1]).mean)


def test_fantasies_are_drawn_from_the_model():
    base, F = model(), points(1)
    sampler = SobolQMCNormalSampler(torch.Size([256]), seed=0)

    means = base.fantasize(F, sampler).posterior(F).mean
    before = base.posterior(F)

    assert isinstance(base.fantasize(F, sampler), ModelWithFantasies)
    assert means.mean().item() == pytest.approx(before.mean.item(), abs=1e-2)


@pytest.mark.parametrize("q", [1, 3])
def test_the_posterior_of_an_observation_has_the_noise(q):
    base, X = model(), points(4, q)

    plain, with_noise = base.posterior(X), base.posterior(X, observation_noise=True)

    torch.testing.assert_close(with_noise.mean, plain.mean)
    torch.testing.assert_close(with_noise.variance - plain.variance, base.noise.expand(4, q, 1))
    given = torch.full((4, q, 1), 0.5).double()
    own = base.posterior(X, observation_noise=given)
    torch.testing.assert_close(own.variance - plain.variance, given)


def test_the_knowledge_gradient_can_be_maximised():
    bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double()
    gradient = qKnowledgeGradient(model(), num_fantasies=4)

    candidate, value = optimize_acqf(
        gradient, bounds, q=1, num_restarts=2, raw_samples=8, options={"maxiter": 5}
    )

    assert candidate.shape == (1, 2)
    assert value.isfinite()


def test_a_state_dict_has_the_hyperparameters():
    X, y = data()
    one, other = ObjectiveModel(X, y, [[0], [1]]), ObjectiveModel(X, y, [[0], [1]])
    other.gp = other.gp.at(other.gp.hyperparameters + 0.3)
    assert not torch.equal(one.posterior(points(3)).mean, other.posterior(points(3)).mean)

    other.load_state_dict(one.state_dict())

    torch.testing.assert_close(one.posterior(points(3)).mean, other.posterior(points(3)).mean)
