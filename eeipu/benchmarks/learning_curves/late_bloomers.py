r"""Learning curves whose first steps say nothing of where they end.

Notation:
    h: the step, from 1 to T; u in [0, 1]^4: the hyper-parameters, scaled.

    y(h) = .1 early(u) + end(u) s(h / T) + noise,      s(t) = 1 / (1 + exp((.35 - t) / .05)),

with an `end` that has several local maxima (the Hartmann function of three inputs, between 0 and 1,
less a bowl in the fourth), and an `early` between 0 and 1 that is best at another place. After a
tenth of a training curves differ by `early` alone: s is .007 there, .42 at a third of the training
and 1 at its end. Trainings whose rate warms up, or that learn the frequent class first, do the
same. The noise has a standard deviation of .002 and is the same whenever a configuration is looked
at after the same step.
"""

import math

from eeipu.benchmarks.learning_curves.formulas import STEPS, State, end, noise, problem_of
from eeipu.benchmarks.learning_curves.problem import CurveProblem
from eeipu.space import Float

__all__ = ["problem"]

NOISE = 0.002
EARLY, RISE, WIDTH = 0.1, 0.35, 0.05
QUICK = (0.9, 0.9, 0.2)  # where the first steps are best


def problem() -> CurveProblem:
    """The problem."""
    space = {name: Float(0.0, 1.0) for name in ("rate", "width", "decay")}
    return problem_of("late-bloomers", space, _value)


def _value(state: State) -> float:
    (detail, rate, width, decay), step = state
    scaled = rate, width, decay
    far = sum((mine - best) ** 2 for mine, best in zip(scaled, QUICK, strict=True))
    share = 1.0 / (1.0 + math.exp((RISE - step / STEPS) / WIDTH))
    return EARLY * math.exp(-far) + end(detail, scaled) * share + NOISE * noise(state)
