"""Multi-stage Bayesian optimisation: the chain of GPs."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from eeipu import Float, Pipeline, Tuner, stage
from eeipu.methods.baselines.cascade import CascadeEI
from eeipu.methods.history import History
from eeipu.models.gaussian_process import ExactGPs

COLUMNS = [[0], [1]]


def data(n=25, seed=0):
    """A chain whose second stage folds the output of the first."""
    X = np.random.default_rng(seed).random((n, 2))
    first = 3.0 * X[:, 0] - 1.0
    return X, np.stack([first, -(first**2) - (X[:, 1] - 0.5) ** 2], axis=1)


POINTS = torch.rand(7, 1, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def test_without_observed_outputs_it_is_expected_improvement_of_one_gp():
    X, outputs = data()
    outputs[:, 0] = math.nan

    score = CascadeEI(X, outputs, COLUMNS)(POINTS)

    gp = ExactGPs(
        torch.from_numpy(X),
        torch.from_numpy(outputs[:, 1])[None],
        torch.ones(1, 1, 2, dtype=torch.bool),
    )
    mean, variance = (part[0].squeeze(-1).numpy() for part in gp.posterior(POINTS))
    std = np.sqrt(variance)
    u = (mean - outputs[:, 1].max()) / std
    expected = std * (norm.pdf(u) + u * norm.cdf(u))
    np.testing.assert_allclose(score.exp().numpy(), expected, rtol=1e-6)


def test_the_chain_averages_the_last_stages_improvement_over_the_first_stages_output():
    X, outputs = data(n=6)
    score = CascadeEI(X, outputs, COLUMNS)

    first, last = score._links
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean, std = first.posterior(POINTS.squeeze(-2), None)
        drawn = mean + std * torch.randn(1, 20_000, dtype=torch.double)
    mean, std = (part.numpy() for part in last.posterior(POINTS.squeeze(-2), drawn))
    u = (mean - outputs[:, -1].max()) / std
    expected = (std * (norm.pdf(u) + u * norm.cdf(u))).mean(axis=1)
    np.testing.assert_allclose(score(POINTS).exp().numpy(), expected, rtol=0.05, atol=5e-4)


def test_observing_the_output_in_between_predicts_better():
    """A wave of a sum of four: each step is easy, both at once are not."""

    def problem(n, seed):
        X = np.random.default_rng(seed).random((n, 5))
        total = X[:, :4].mean(axis=1)
        return X, np.stack([total, np.sin(15 * total) + X[:, 4]], axis=1)

    X, outputs = problem(25, seed=0)
    blind = outputs.copy()
    blind[:, 0] = math.nan
    test_X, test_outputs = problem(200, seed=1)

    def error(outputs):
        drawn = None
        for link in CascadeEI(X, outputs, [range(4), [4]])._links:
            drawn, _ = link.posterior(torch.from_numpy(test_X), drawn)
        return np.abs(drawn.squeeze(-1).numpy() - test_outputs[:, 1]).mean()

    assert error(outputs) < 0.5 * error(blind)


def test_gaps_and_failures_are_left_out():
    X, outputs = data()
    outputs[3, 0] = outputs[5, 1] = math.nan
    outputs[7] = math.nan

    assert CascadeEI(X, outputs, COLUMNS)(POINTS).isfinite().all()


def test_failures_are_no_observations():
    X, outputs = data()
    failed = X[:, 1] > 0.7
    outputs[failed] = math.nan

    values = CascadeEI(X, outputs, COLUMNS)(POINTS)

    without = CascadeEI(X[~failed], outputs[~failed], COLUMNS)(POINTS)
    torch.testing.assert_close(values, without)


def test_outputs_that_are_never_known_together_are_one_step():
    X, outputs = data(n=8)
    three = np.column_stack([outputs[:, 0], outputs[:, 0], outputs[:, 1]])
    three[3:, 0] = three[:4, 1] = math.nan

    score = CascadeEI(X, three, [[0], [], [1]])

    assert [link.stage for link in score._links] == [0, 2]
    assert score(POINTS).isfinite().all()


def test_a_stage_without_hyper_parameters_is_one_with_the_next():
    X, outputs = data(n=8)
    constant = np.column_stack([np.ones(8), outputs])

    score = CascadeEI(X, constant, [[], [0], [1]])

    assert [link.stage for link in score._links] == [1, 2]
    assert score(POINTS).isfinite().all()


def test_what_is_running_no_longer_tempts():
    X, outputs = data(n=8)
    best = POINTS[CascadeEI(X, outputs, COLUMNS)(POINTS).argmax()]

    alone = CascadeEI(X, outputs, COLUMNS)(best)
    beside = CascadeEI(X, outputs, COLUMNS, pending=best.numpy())(best)

    assert beside.item() < alone.item() - 1.0


def test_gradients_are_right():
    X, outputs = data()
    points = POINTS.clone().requires_grad_()

    assert torch.autograd.gradcheck(CascadeEI(X, outputs, COLUMNS), (points,))


@pytest.mark.parametrize("cache", [None, "default"])
def test_numbers_between_stages_are_recorded_and_used(cache):
    @stage(space={"x": Float(0, 1)}, cost=lambda x: 1.0, version="1")
    def first(data, *, x):
        return data + x

    @stage(space={"y": Float(0, 1)}, cost=lambda y: 1.0, version="1")
    def second(total, *, y):
        return -((total - 0.5) ** 2) - (y - 0.5) ** 2

    pipeline = Pipeline([first, second])
    arguments = {} if cache else {"cache": None}
    tuner = Tuner(pipeline, budget=40.0, method="ms-bo", n_initial=6, seed=0, **arguments)
    study = tuner.run(0.0)

    history = History.of(study, pipeline)
    expected = [[t.params["first.x"]] for t in study.trials]
    np.testing.assert_allclose(history.stages.outputs, expected)
    assert study.best_value > -0.01
