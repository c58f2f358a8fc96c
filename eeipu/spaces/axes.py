"""The axes of the unit cube: one for each hyper-parameter."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from eeipu.errors import SpaceError
from eeipu.spaces.distributions import cell_count, on_grid

__all__ = ["Axis"]

Array = NDArray[np.float64]

# Whole numbers up to this one are exact as floats.
LARGEST_EXACT = 2.0**53

# A float with very many steps may not be a whole number of steps from the lowest value, as Optuna
# computes it. Then one of its neighbours is.
NEIGHBOURS = 64


class Axis:
    """One column of the cube: maps Optuna's internal values, which are floats, to `[0, 1]`.

    Args:
        distribution: The values of the hyper-parameter.

    Attributes:
        cells: The number of values; `None` for a continuous column.
    """

    def __init__(self, distribution: BaseDistribution) -> None:
        self.distribution = distribution
        self.cells = cell_count(distribution)
        match distribution:
            case CategoricalDistribution(choices=choices):
                self.low, self.high, self.step = 0.0, len(choices) - 1.0, 1.0
            case IntDistribution(low=low, high=high) | FloatDistribution(low=low, high=high):
                # A continuous column has no step, and a column with one value needs none.
                self.low, self.high = _inside(low, high), -_inside(-high, -low)
                self.step = float(distribution.step or 1)
            case _:
                raise SpaceError(f"unknown kind of distribution: {distribution!r}")
        # Whole numbers are computed exactly, and of a continuous range every float is a value.
        farthest = max(abs(self.low), abs(self.high), self.step)
        is_whole = not isinstance(distribution, FloatDistribution) and farthest <= LARGEST_EXACT
        self._is_exact = self.cells is None or is_whole
        half_cell = 0.0 if self.cells is None else 0.5 * self.step
        self.is_log = getattr(distribution, "log", False) and self.cells != 1
        self._walls = [
            math.log(wall) if self.is_log else wall
            for wall in (self.low - half_cell, self.high + half_cell)
        ]

    def to_unit(self, internal: Array) -> Array:
        """The coordinates of internal values."""
        if self.cells == 1:
            return np.full_like(internal, 0.5)
        low, high = self._walls
        scaled = np.log(internal) if self.is_log else internal
        return np.clip((scaled - low) / (high - low), 0.0, 1.0)

    def to_internal(self, unit: Array) -> Array:
        """The internal values at coordinates."""
        if self.cells == 1:
            return np.full_like(unit, self.low)
        low, high = self._walls
        scaled = low + unit * (high - low)
        internal = np.exp(scaled) if self.is_log else scaled
        if self.cells is not None:
            internal = on_grid(internal, self.low, self.step)
        return np.clip(internal, self.low, self.high)

    def index(self, unit: Array) -> Array:
        """The numbers of the cells that contain coordinates, from 0, as floats."""
        return np.round((self.to_internal(unit) - self.low) / self.step)

    def centre(self, index: Array) -> Array:
        """The coordinates of the centres of cells."""
        return self.to_unit(np.clip(self.low + self.step * index, self.low, self.high))

    def values(self, units: Array) -> list[Any]:
        """The values at coordinates, as a study stores them.

        Args:
            units: `n`.
        """
        internal = self.to_internal(units).tolist()
        if not self._is_exact:
            contains = self.distribution._contains
            internal = [each if contains(each) else self._beside(each) for each in internal]
        return [self.distribution.to_external_repr(each) for each in internal]

    def _beside(self, internal: float) -> float:
        """A neighbour that is a value; the number itself where none is."""
        index = np.round((internal - self.low) / self.step)
        aside = np.arange(1, NEIGHBOURS // 2)
        steps = index + np.stack([aside, -aside], axis=1).ravel()
        raw = self.low + self.step * steps
        near = np.stack([on_grid(raw, self.low, self.step), raw], axis=1).ravel().tolist()
        return next(filter(self.distribution._contains, near), internal)


def _inside(low: float, high: float) -> float:
    """The smallest float in `[low, high]`, whose bounds may be integers that no float equals."""
    least = float(low)
    return least if least >= low or low == high else math.nextafter(least, math.inf)
