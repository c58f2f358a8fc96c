r"""Learning curves whose first steps say nothing of where they end.

Notation:
    h: the step, from 1 to T; u in [0, 1]^4: the hyper-parameters, scaled.

    y(h) = .1 early(u) + end(u) s(h / T) + noise,      s(t) = 1 / (1 + exp((.35 - t) / .05)),

with an `end` that has several local maxima (the Hartmann function of three inputs, between 0 and 1,
less a bowl in the fourth), and an `early` between 0 and 1 that is best at another place. After a
tenth of a training curves differ by `early` alone: s is .007 there, .35 at a third of the training
and 1 at its end. Trainings whose rate warms up, or that learn the frequent class first, do the
same. The noise has a standard deviation of .002 and is the same whenever a configuration is looked
at after the same step.
"""

import math

import numpy as np

from eeipu.benchmarks.learning_curves.formulas import State, advancing, begun, noise, prepare
from eeipu.benchmarks.learning_curves.problem import CurveProblem
from eeipu.benchmarks.synthetic.functions import FUNCTIONS
from eeipu.pipeline import Pipeline
from eeipu.space import Float
from eeipu.stages.iterative import Training, iterative

__all__ = ["problem"]

STEPS = 81
NOISE = 0.002
EARLY, RISE, WIDTH = 0.1, 0.35, 0.05
QUICK = (0.9, 0.9, 0.2)  # where the first steps are best
HARTMANN_MINIMUM = -3.86278


def problem() -> CurveProblem:
    """The problem: a preparation that costs as much as two to ten steps, and 81 steps."""
    space = {name: Float(0.0, 1.0) for name in ("rate", "width", "decay")}
    train = iterative(
        Training(begun, advancing("rate", "width", "decay"), _value),
        space,
        STEPS,
        name="train",
        version="1",
    )
    return CurveProblem(
        "late-bloomers",
        Pipeline([prepare, train], name="late-bloomers"),
        (0.0,),
        "maximize",
        steps=STEPS,
        stage_costs={"prepare": lambda detail: 2.0 + 8.0 * detail},
        step_cost=lambda width, **_: 0.5 + width,
    )


def _value(state: State) -> float:
    (detail, *trained), step = state
    hartmann = FUNCTIONS["hartmann3"](np.array([trained]))[0] / HARTMANN_MINIMUM
    end = float(hartmann) - 1.5 * (detail - 0.7) ** 2
    far = sum((mine - best) ** 2 for mine, best in zip(trained, QUICK, strict=True))
    share = 1.0 / (1.0 + math.exp((RISE - step / STEPS) / WIDTH))
    return EARLY * math.exp(-far) + end * share + NOISE * noise(state)
