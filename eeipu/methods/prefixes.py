"""Prefixes of stages whose outputs are kept, and the candidates that share them.

A prefix fixes the hyper-parameters of the first stages at those of a trial whose outputs are kept,
so that a candidate with the same values gets these stages for free.
"""

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from eeipu.pipeline import Pipeline
from eeipu.space import Params

__all__ = ["Candidate", "Prefix", "Region", "prefix_pool", "with_given"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prefix:
    """The first stages of a candidate, fixed because their outputs are kept.

    Attributes:
        params: The fixed hyper-parameters, exactly as stored. Empty: nothing is fixed.
        memoized: For every stage, whether a candidate with this prefix gets it for free.
    """

    params: dict[str, Any]
    memoized: tuple[bool, ...]


@dataclass(frozen=True)
class Region:
    """A part of the cube under one prefix.

    Attributes:
        bounds: `2 x d`, its lower and upper corner.
        prefix: The hyper-parameters that are fixed in it.
    """

    bounds: Array
    prefix: Prefix


@dataclass(frozen=True)
class Candidate:
    """A configuration that an acquisition has scored.

    Attributes:
        params: The configuration, at the values that will run.
        point: `d`, where it lies in the unit cube.
        prefix: The prefix that it shares.
        score: The value of the acquisition.
    """

    params: dict[str, Any]
    point: Array
    prefix: Prefix
    score: float


def prefix_pool(
    pipeline: Pipeline, trials: tuple[FrozenTrial, ...], kept: Container[str]
) -> list[Prefix]:
    """All prefixes of these trials whose last output is kept, and the empty prefix.

    Prefixes that fix every hyper-parameter are left out: there is nothing left to choose.

    Args:
        pipeline: The pipeline that is tuned.
        trials: The trials whose prefixes to offer, best first (the paper: the top Q).
        kept: The content keys whose outputs can be loaded now.
    """
    names = list(pipeline.space)
    k = len(pipeline.stages)
    pool: dict[tuple[Any, ...], Prefix] = {(): Prefix({}, (False,) * k)}
    for trial in trials:
        keys = trial.user_attrs.get("stage_keys", [])
        for depth in range(1, k):
            if len(keys) < depth or not pipeline.memoizes[depth - 1]:
                continue
            if keys[depth - 1] not in kept:
                continue
            end = sum(len(columns) for columns in pipeline.stage_columns[:depth])
            if end == len(names):
                break
            fixed = {name: trial.params[name] for name in names[:end]}
            identity = tuple((type(value), value) for value in fixed.values())
            # Deeper comes later: where two depths fix the same, more is free at the deeper one.
            pool[identity] = Prefix(fixed, (True,) * depth + (False,) * (k - depth))
    return list(pool.values())


def with_given(pool: list[Prefix], given: Params) -> list[Prefix]:
    """The prefixes that agree with given values, which they then fix as well.

    Args:
        pool: Prefixes.
        given: Some values of a configuration, as stored, which the user has chosen.
    """
    return [
        replace(prefix, params={**prefix.params, **given})
        for prefix in pool
        if all(prefix.params.get(name, value) == value for name, value in given.items())
    ]
