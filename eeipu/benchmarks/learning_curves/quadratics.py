r"""Stochastic gradient descent on noisy quadratic losses, with a learning rate that drops.

Notation:
    i: dimension, 1 to 50; h_i = i^-1: curvature; n_i = h_i / (batch size): the gradient's variance.
    E_i: the mean of theta_i^2, which begins at 1.

The noisy quadratic model of Zhang et al. 2019 (arXiv 1907.04164): each update gives

    E_i <- (1 - lr h_i)^2 E_i + lr^2 n_i,        loss = 1/2 sum_i h_i E_i,

in closed form, as an average over all noise. It has what real training has: large rates are quick
and end at a plateau, a drop of the rate leaves the plateau, early drops end too high, large batches
have low plateaus and cost more, and rates above 2 diverge. The value is -log10 of the loss.
Whitening of the data in front flattens the curvatures and adds noise.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeipu.benchmarks.learning_curves.problem import CurveProblem
from eeipu.pipeline import Pipeline
from eeipu.space import Float, Int
from eeipu.stages.decorator import stage
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.schedules import MultiStep
from eeipu.stages.searchable_schedules import Searchable

__all__ = ["problem"]

STEPS = 81
UPDATES = 10  # in a step
DIMENSIONS = 50
DIVERGED = 1e6  # no square becomes larger, so that losses stay finite

Array = NDArray[np.float64]
State = tuple[Array, Array, float]  # E, h, noise added by whitening


@stage(space={"power": Float(0.0, 1.0)}, version="1")
def whiten(curvatures: Array, *, power: float) -> tuple[Array, float]:
    """Curvatures that are flatter, and the factor by which this makes gradients noisier."""
    return curvatures ** (1.0 - 0.5 * power), 1.0 + 4.0 * power**2


def problem() -> CurveProblem:
    """The problem: whitening costs as much as six steps, larger batches cost more."""
    lr = Searchable(
        MultiStep, Float(1e-2, 3.0, log=True), milestones=[Int(9, 78)], gamma=Float(0.02, 0.5)
    )
    space = {"lr": lr, "batch_size": Int(1, 64, log=True)}
    train = iterative(Training(_init, _advance, _value), space, STEPS, name="train", version="1")
    return CurveProblem(
        "quadratics",
        Pipeline([whiten, train], name="quadratics"),
        (1.0 / np.arange(1.0, DIMENSIONS + 1.0),),
        "maximize",
        steps=STEPS,
        stage_costs={"whiten": lambda **_: 6.0},
        step_cost=lambda batch_size, **_: 0.5 + batch_size / 16.0,
    )


def _init(whitened: tuple[Array, float]) -> State:
    curvatures, noise = whitened
    return np.ones_like(curvatures), curvatures, noise


def _advance(state: State, start: int, stop: int, schedules: Mapping[str, Any]) -> State:
    squares, h, noise = state
    for step in range(start, stop):
        lr, batch_size = schedules["lr"](step), schedules["batch_size"](step)
        added = lr**2 * noise * h / batch_size
        for _ in range(UPDATES):
            squares = np.minimum((1.0 - lr * h) ** 2 * squares + added, DIVERGED)
    return squares, h, noise


def _value(state: State) -> float:
    squares, h, _ = state
    return float(-np.log10(0.5 * (h * squares).sum()))
