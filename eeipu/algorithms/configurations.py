"""Configurations to train: random ones, or all of a finite space.

A configuration maps the name of each hyper-parameter to its value.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from eeipu.errors import ConfigurationError, SpaceError
from eeipu.space import Constraint, DistributionLike, Space, as_distribution
from eeipu.spaces.feasible import FeasiblePoints

__all__ = ["Config", "check_steps", "grid", "random"]

Config = Mapping[str, Any]


def random(
    space: Mapping[str, DistributionLike],
    seed: int | None = None,
    constraints: Iterable[Constraint] = (),
) -> Iterator[Config]:
    """Yield independent, uniformly drawn configurations without end.

    Take a finite number of them with `itertools.islice`.

    Args:
        space: The search space.
        seed: Makes the sequence repeatable.
        constraints: Conditions on configurations, as of a `Pipeline`. Where they allow little, the
            configurations are not quite uniform, nor independent.

    Raises:
        SpaceError: No configuration was found that satisfies the constraints.
    """
    cube, rng = _space(space, constraints), np.random.default_rng(seed)
    feasible = FeasiblePoints(cube)
    while True:
        params = cube.decode(rng.random(len(cube)))
        if not cube.constraints.allow(params):
            drawn = feasible.draw(rng, 1)
            if len(drawn) == 0:
                raise feasible.error()
            params = cube.decode(drawn[0])
        yield params


def grid(
    space: Mapping[str, DistributionLike], constraints: Iterable[Constraint] = ()
) -> Iterator[Config]:
    """Return all configurations of a finite space that satisfy constraints, each once.

    Raises:
        SpaceError: A parameter is continuous.
    """
    cube = _space(space, constraints)
    if cube.product is None:
        raise SpaceError(
            f"a grid needs parameters with finitely many values, unlike those of {dict(space)}; "
            f"use Categorical, Int, or Float(step=...)."
        )
    return cube.configurations()


def _space(space: Mapping[str, DistributionLike], constraints: Iterable[Constraint]) -> Space:
    return Space({name: as_distribution(each) for name, each in space.items()}, constraints)


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
