"""Configurations to train: random ones, or all of a finite space.

A configuration maps the name of each hyper-parameter to its value.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from eeipu.errors import ConfigurationError, SpaceError
from eeipu.space import Distribution, Space

__all__ = ["Config", "check_steps", "grid", "random"]

Config = Mapping[str, Any]


def random(space: Mapping[str, Distribution], seed: int | None = None) -> Iterator[Config]:
    """Yield independent, uniformly drawn configurations without end.

    Take a finite number of them with `itertools.islice`.

    Args:
        space: The search space.
        seed: Makes the sequence repeatable.
    """
    cube, rng = Space(space), np.random.default_rng(seed)
    while True:
        yield cube.decode(rng.random(len(cube)))


def grid(space: Mapping[str, Distribution]) -> Iterator[Config]:
    """Return all configurations of a finite space, each once.

    Raises:
        SpaceError: A parameter is continuous.
    """
    cube = Space(space)
    if cube.size is None:
        raise SpaceError(
            f"a grid needs parameters with finitely many values, unlike those of {dict(space)}; "
            f"use Categorical, Int, or Float(step=...)."
        )
    return cube.configurations()


def check_steps(least: int, most: int, eta: float = 2.0) -> None:
    """Check the limits of a search that trains from `least` to `most` steps.

    Args:
        least: The fewest steps that a trial is trained, at least 1.
        most: The most steps that a trial is trained, at least `least`.
        eta: The factor between two rungs, above 1.

    Raises:
        ConfigurationError: A limit is out of range.
    """
    if not 1 <= least <= most or eta <= 1.0:
        raise ConfigurationError(
            f"training needs 1 <= min_steps <= max_steps and eta > 1, but got {least!r}, {most!r} "
            f"and {eta!r}."
        )
