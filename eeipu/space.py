"""Search spaces: distributions under short names, and configurations as points of the unit cube.

What is public of the room `eeipu.spaces`.
"""

from eeipu.spaces.constraints import Constraint
from eeipu.spaces.distributions import (
    Categorical,
    Distribution,
    DistributionLike,
    Float,
    Int,
    Params,
    as_distribution,
    cell_count,
    in_words,
)
from eeipu.spaces.space import Space
from eeipu.spaces.suggestion import suggest

__all__ = [
    "Categorical",
    "Constraint",
    "Distribution",
    "DistributionLike",
    "Float",
    "Int",
    "Params",
    "Space",
    "as_distribution",
    "cell_count",
    "in_words",
    "suggest",
]
