"""Where configurations come from, and searches that train each of them to the end."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from eeipu.algorithms.moves import Ask, Move, Stop
from eeipu.errors import ConfigurationError, SpaceError
from eeipu.space import Distribution, Space

__all__ = ["Config", "FullTraining", "check_steps", "grid", "random"]

Config = Mapping[str, Any]


def random(space: Mapping[str, Distribution], seed: int | None = None) -> Iterator[Config]:
    """Independent uniform configurations, without end; `itertools.islice` takes some."""
    cube, rng = Space(space), np.random.default_rng(seed)
    while True:
        yield cube.decode(rng.random(len(cube)))


def grid(space: Mapping[str, Distribution]) -> Iterator[Config]:
    """All configurations of a finite space.

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


class FullTraining:
    """Trains every configuration to the end: grid search and random search.

    Args:
        configs: The configurations.
        steps: How far to train.
    """

    def __init__(self, configs: Iterable[Config], steps: int) -> None:
        check_steps(steps, steps)
        self._configs = configs
        self._steps = steps

    @classmethod
    def random(
        cls, space: Mapping[str, Distribution], trials: int, steps: int, seed: int | None = None
    ) -> "FullTraining":
        """Random search."""
        return cls(islice(random(space, seed), trials), steps)

    @classmethod
    def grid(cls, space: Mapping[str, Distribution], steps: int) -> "FullTraining":
        """Grid search."""
        return cls(grid(space), steps)

    def start(self) -> Iterator[Move]:
        """All trials at once."""
        for trial, config in enumerate(self._configs):
            yield Ask(trial, config, self._steps)

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:  # noqa: ARG002
        """A trial has come to its end."""
        return [Stop(trial)]


def check_steps(least: int, most: int, eta: float = 2.0) -> None:
    """Check that training from `least` to `most` steps, `eta` times more at every rung, can be.

    Raises:
        ConfigurationError: It cannot.
    """
    if not 1 <= least <= most or eta <= 1.0:
        raise ConfigurationError(
            f"training needs 1 <= min_steps <= max_steps and eta > 1, but got {least!r}, {most!r} "
            f"and {eta!r}."
        )
