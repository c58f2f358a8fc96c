"""Problems whose trainings have their values from a formula: a preparation, and 81 steps."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from eeipu.benchmarks.learning_curves.problem import CurveProblem
from eeipu.benchmarks.synthetic.functions import FUNCTIONS
from eeipu.pipeline import Pipeline
from eeipu.space import Distribution, Float
from eeipu.stages.decorator import stage
from eeipu.stages.iterative import Training, iterative

__all__ = ["STEPS", "State", "end", "noise", "problem_of"]

STEPS = 81
HARTMANN_MINIMUM = -3.86278

State = tuple[tuple[float, ...], int]
"""The hyper-parameters, that of the preparation first, and the step that has been reached."""


@stage(space={"detail": Float(0.0, 1.0)}, version="1")
def prepare(start: float, *, detail: float) -> float:
    """The share of details that are kept of the data."""
    return start + detail


def problem_of(
    name: str, space: Mapping[str, Distribution], value: Callable[[State], float]
) -> CurveProblem:
    """A problem: a preparation that costs as much as two to ten steps, and 81 steps.

    Args:
        name: Its name.
        space: The hyper-parameters of the training; a step costs more the larger `width` is.
        value: State -> the value there; larger is better.
    """

    def advance(state: State, start: int, stop: int, schedules: Mapping[str, Any]) -> State:  # noqa: ARG001
        (detail, *_), _ = state
        return (detail, *(float(schedules[each](stop - 1)) for each in space)), stop

    training = Training(lambda detail: ((detail,), 0), advance, value)
    return CurveProblem(
        name,
        Pipeline(
            [prepare, iterative(training, space, STEPS, name="train", version="1")], name=name
        ),
        (0.0,),
        "maximize",
        steps=STEPS,
        stage_costs={"prepare": lambda detail: 2.0 + 8.0 * detail},
        step_cost=lambda width, **_: 0.5 + width,
    )


def end(detail: float, scaled: tuple[float, float, float]) -> float:
    """Where a training ends, with several local maxima.

    It is the Hartmann function of the training's hyper-parameters, between 0 and 1, less a bowl in
    that of the preparation.
    """
    hartmann = FUNCTIONS["hartmann3"](np.array([scaled]))[0] / HARTMANN_MINIMUM
    return float(hartmann) - 1.5 * (detail - 0.7) ** 2


def noise(state: State) -> float:
    """A standard normal number that is the same whenever a state is looked at."""
    digest = hashlib.sha256(repr(state).encode()).digest()
    return float(np.random.default_rng(int.from_bytes(digest[:8])).standard_normal())
