"""Candidates, and what they reuse.

A candidate that has the same values as a trial in a stage, and in all stages that lead to it, gets
the output that was kept of that trial's stage.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eeipu.space import Params

__all__ = ["Candidate", "Region", "Reuse", "with_given"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reuse:
    """What a candidate reuses: kept outputs, and the values that are fixed because of them.

    In a chain these are the values of the first stages, up to one whose output is kept.

    Attributes:
        params: The fixed hyper-parameters, exactly as stored. Empty: nothing is fixed.
        memoized: For every stage, whether a candidate with these values gets it for free, because
            its own output is kept or because nothing that runs needs it.
    """

    params: dict[str, Any]
    memoized: tuple[bool, ...]


@dataclass(frozen=True)
class Region:
    """A part of the cube in which some hyper-parameters are fixed.

    Attributes:
        bounds: `2 x d`, its lower and upper corner.
        reuse: The hyper-parameters that are fixed in it.
    """

    bounds: Array
    reuse: Reuse


@dataclass(frozen=True)
class Candidate:
    """A configuration that an acquisition has scored.

    Attributes:
        params: The configuration, at the values that will run.
        point: `d`, where it lies in the unit cube.
        reuse: What it reuses.
        score: The value of the acquisition.
    """

    params: dict[str, Any]
    point: Array
    reuse: Reuse
    score: float


def with_given(pool: list[Reuse], given: Params) -> list[Reuse]:
    """Those entries of a pool that agree with given values, which they then fix as well.

    Args:
        pool: What candidates may reuse.
        given: Some values of a configuration, as stored, which the user has chosen.
    """
    return [
        replace(reuse, params={**reuse.params, **given})
        for reuse in pool
        if all(reuse.params.get(name, value) == value for name, value in given.items())
    ]
