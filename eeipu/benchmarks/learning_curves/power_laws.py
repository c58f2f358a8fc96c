r"""Learning curves that are power laws of the step, and that cross.

Notation:
    h: the step, from 1 to T; u in [0, 1]^4: the hyper-parameters, scaled.

    y(h) = end(u) - gap(u) (1 + h / tau(u))^(-alpha(u)) + noise,

with an `end` that has several local maxima (the Hartmann function of three inputs, between 0 and 1,
less a bowl in the fourth). A large learning rate is quick (tau small) and good ends lie at smaller
ones, so that who leads early does not lead in the end. The noise has a standard deviation of .005
and is the same whenever a configuration is looked at after the same step.
"""

import math

from eeipu.benchmarks.learning_curves.formulas import State, end, noise, problem_of
from eeipu.benchmarks.learning_curves.problem import CurveProblem
from eeipu.space import Float

__all__ = ["problem"]

NOISE = 0.005
LOWEST_LR, HIGHEST_LR = 1e-4, 1e-1


def problem() -> CurveProblem:
    """The problem."""
    space = {
        "lr": Float(LOWEST_LR, HIGHEST_LR, log=True),
        "width": Float(0.0, 1.0),
        "decay": Float(0.0, 1.0),
    }
    return problem_of("power-laws", space, _value)


def _value(state: State) -> float:
    (detail, lr, width, decay), step = state
    rate = math.log(lr / LOWEST_LR) / math.log(HIGHEST_LR / LOWEST_LR)
    scale = 40.0 ** (1.0 - rate)  # steps until the curve bends: one for the largest rate
    gap, power = 0.5 + 0.5 * width, 0.6 + 0.9 * decay
    left: float = gap * (1.0 + step / scale) ** -power
    return end(detail, (rate, width, decay)) - left + NOISE * noise(state)
