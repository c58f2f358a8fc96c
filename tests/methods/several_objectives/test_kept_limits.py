"""The probability that outcomes are within their limits."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from eeipu.methods.several_objectives.kept_limits import AllOf, Limit, OutcomeModel

RNG = np.random.default_rng(0)
X = RNG.random((25, 2))


def probability(model, *points):
    return model.log_probability(torch.tensor(points, dtype=torch.double)).exp()


def linear(limit=1.0, is_upper=True, columns=(0, 1), values=None):
    values = 3.0 * X[:, 0] if values is None else values
    return Limit(values, limit, is_upper, columns)


def test_it_is_near_one_within_the_limit_near_zero_beyond_and_half_at_the_limit():
    model = OutcomeModel(X, [linear()])
    within, at, beyond = probability(model, [0.1, 0.5], [1 / 3, 0.5], [0.8, 0.5])
    assert within > 0.99
    assert beyond < 0.01
    assert 0.1 < at < 0.9


def test_an_upper_limit_is_kept_where_the_same_lower_one_is_not():
    upper, lower = OutcomeModel(X, [linear()]), OutcomeModel(X, [linear(is_upper=False)])
    points = torch.from_numpy(RNG.random((20, 2)))
    both = upper.log_probability(points).exp() + lower.log_probability(points).exp()
    torch.testing.assert_close(both, torch.ones_like(both))


def test_several_limits_multiply():
    one, other = linear(), linear(values=X[:, 1] - 0.5, limit=0.0)
    points = torch.from_numpy(RNG.random((20, 2)))
    together = OutcomeModel(X, [one, other]).log_probability(points)
    alone = [OutcomeModel(X, [each]).log_probability(points) for each in (one, other)]
    torch.testing.assert_close(together, alone[0] + alone[1], rtol=1e-2, atol=1e-2)


def test_it_depends_on_the_columns_of_its_stage_alone():
    model = OutcomeModel(X, [linear(columns=(0,))])
    assert probability(model, [0.3, 0.1]) == probability(model, [0.3, 0.9])


def test_of_amounts_that_multiply_the_logarithm_is_modelled():
    """A product of exponentials is seen up to ten thousand, and has a limit of thirty."""
    values = np.exp(9 * X[:, 0] + 0.5 * X[:, 1])
    model = OutcomeModel(X, [Limit(values, 30.0, True, (0, 1))])
    points = RNG.random((200, 2))
    truth = np.exp(9 * points[:, 0] + 0.5 * points[:, 1]) <= 30.0
    chance = model.log_probability(torch.from_numpy(points)).exp().numpy()
    assert ((chance > 0.5) == truth).mean() > 0.95


def test_infinite_outcomes_are_beyond_the_limit_even_if_all_others_are_far_within():
    values = np.where(X[:, 0] > 0.5, np.inf, 1.0)
    model = OutcomeModel(X, [Limit(values, 100.0, True, (0, 1))])
    within, beyond = probability(model, [0.1, 0.5], [0.9, 0.5])
    assert within > 0.8
    assert beyond < 0.3


def test_outcomes_need_not_be_known_of_every_trial():
    values = np.where(np.arange(25) % 2, np.nan, 3.0 * X[:, 0])
    within, beyond = probability(OutcomeModel(X, [linear(values=values)]), [0.1, 0.5], [0.8, 0.5])
    assert within > 0.9
    assert beyond < 0.1


def test_gradients_are_those_of_the_logarithm():
    rough = RNG.normal(0.0, 0.5, len(X))
    model = OutcomeModel(X, [linear(values=X[:, 0] + rough), linear(values=rough, limit=0.3)])
    points = torch.from_numpy(RNG.random((8, 2)))
    value, gradient = model.value_and_gradient(points)
    torch.testing.assert_close(value, model.log_probability(points))
    for column in range(2):
        shift = torch.zeros_like(points)
        shift[:, column] = 1e-6
        slope = (
            model.log_probability(points + shift) - model.log_probability(points - shift)
        ) / 2e-6
        torch.testing.assert_close(slope, gradient[:, column], rtol=1e-3, atol=1e-4)


def test_noise_counts_as_what_the_next_trial_will_have():
    """A constant outcome with noise keeps a limit as often as the noise does."""
    x = np.linspace(0, 1, 200)[:, None]
    noisy = np.random.default_rng(1).standard_normal(200)
    model = OutcomeModel(x, [Limit(noisy, 0.5, True, (0,))])
    assert probability(model, [0.5]).item() == pytest.approx(norm.cdf(0.5), abs=0.1)


def test_all_of_multiplies_models():
    model = OutcomeModel(X, [linear()])
    points = torch.from_numpy(RNG.random((5, 2)))
    both = AllOf([model, model])
    torch.testing.assert_close(both.log_probability(points), 2 * model.log_probability(points))
    value, gradient = both.value_and_gradient(points)
    torch.testing.assert_close(value, 2 * model.value_and_gradient(points)[0])
    torch.testing.assert_close(gradient, 2 * model.value_and_gradient(points)[1])


def test_a_fit_of_other_limits_is_no_start():
    one = OutcomeModel(X, [linear()])
    again = OutcomeModel(X, [linear(), linear(limit=2.0)], start=one.hyperparameters)
    assert len(again.hyperparameters) > len(one.hyperparameters)
