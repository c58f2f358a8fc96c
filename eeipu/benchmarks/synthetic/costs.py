"""Declared costs: sums of scaled and shifted logistic, sine and cosine terms, all positive.

The kinds of terms are those of Essofi et al. 2024, section 5.1. Scales and shifts are drawn from a
generator that is seeded with the position of the stage, so they are the same in every pipeline.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["stage_cost", "workload"]

Array = NDArray[np.float64]

# Where costs depend on earlier stages, the first input of the first stage multiplies the costs of
# later stages by a factor between the inverse of this number and this number, as a batch size does.
MAX_WORKLOAD = 4.0


def stage_cost(unit: Array, stage: int) -> float:
    """The cost at a point of the unit cube: between 0.2 and 1.8, 1 on average.

    Args:
        unit: The inputs of the stage, scaled to values between 0 and 1.
        stage: The position of the stage, which determines scales and shifts.
    """
    rng = np.random.default_rng(stage)
    terms = 0.0
    for u in unit:
        steepness, centre, phase = rng.uniform(5, 15), rng.uniform(0.3, 0.7), rng.uniform(0, 2, 2)
        weights = rng.dirichlet(np.ones(3))
        terms += (
            weights[0] * 2.0 / (1.0 + np.exp(-steepness * (u - centre)))
            + weights[1] * (1.0 + np.sin(np.pi * (2 * u + phase[0])))
            + weights[2] * (1.0 + np.cos(np.pi * (u + phase[1])))
        )
    return float(0.2 + 0.8 * terms / len(unit))


def workload(unit: float) -> float:
    """The factor by which the first input of the first stage multiplies all later costs.

    Args:
        unit: That input, scaled to a value between 0 and 1.
    """
    return float(MAX_WORKLOAD ** (2.0 * unit - 1.0))
