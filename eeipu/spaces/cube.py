"""Configurations as points of the unit cube.

Notation:
    d: number of parameters of a pipeline, all stages together, in stage order.
    n: number of configurations.
    X: `n x d`, points of the unit cube `[0, 1]^d`.

Every parameter is one column. The cube is the *declared* space, never the range of the points
seen. A parameter with `m` values (integers, steps, choices) has `m` cells in its column, and each
value lies at the centre of its cell, so that a uniform point is a uniform choice. The cells have
equal width, except for log integers: parameters on a log scale are spaced evenly in the logarithm,
so that the cells of larger integers are narrower.

Floats lose bits on the way through the cube and back. Therefore a value that enters a content key
must not be decoded twice: a configuration is decoded once, when it is suggested, and the decoded
values are used from then on (see `eeipu.fingerprints.keys`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from eeipu.spaces.axes import Axis
from eeipu.spaces.distributions import Params

__all__ = ["Cube"]

Array = NDArray[np.float64]


class Cube:
    """The unit cube of named distributions.

    Args:
        distributions: Parameter name -> distribution; the order is the order of the columns.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = dict(distributions)
        self._axes = [Axis(distribution) for distribution in self.distributions.values()]

    def __len__(self) -> int:
        return len(self.distributions)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in column order."""
        return tuple(self.distributions)

    @cached_property
    def cells(self) -> tuple[int | None, ...]:
        """The number of values of each column; `None` for a continuous one."""
        return tuple(axis.cells for axis in self._axes)

    @cached_property
    def categorical_columns(self) -> tuple[int, ...]:
        """The columns whose values have no order."""
        return tuple(
            i
            for i, axis in enumerate(self._axes)
            if isinstance(axis.distribution, CategoricalDistribution)
        )

    @cached_property
    def product(self) -> int | None:
        """The number of combinations of values; `None` if a column is continuous."""
        product = 1
        for cells in self.cells:
            if cells is None:
                return None
            product *= cells
        return product

    def values(self, column: int) -> Array:
        """The cube's coordinates of all values of a discrete column, ascending.

        Empty for a continuous column. Only for columns that are known to have few values.
        """
        return self.centres(column, np.arange(self.cells[column] or 0, dtype=np.float64))

    def centres(self, column: int, index: Array) -> Array:
        """The cube's coordinates of some values of a discrete column, by their numbers from 0."""
        return self._axes[column].centre(index)

    def index(self, column: int, coordinates: Array) -> Array:
        """The numbers of the values, from 0, that coordinates in a discrete column stand for."""
        return self._axes[column].index(coordinates)

    def encode(self, configurations: Sequence[Params]) -> Array:
        """Configurations as points of the cube, `n x d`. Discrete values lie at cell centres."""
        X = np.empty((len(configurations), len(self)))
        for column, (name, axis) in enumerate(zip(self.names, self._axes, strict=True)):
            internal = [axis.distribution.to_internal_repr(p[name]) for p in configurations]
            X[:, column] = axis.to_unit(np.array(internal, dtype=np.float64))
        return X

    def decode(self, point: Array) -> dict[str, Any]:
        """The configuration at `point`, a vector of length `d`; discrete values by their cell."""
        return self.decode_all(np.asarray(point)[None])[0]

    def decode_all(
        self, X: Array, fixed: Params | Sequence[Params] | None = None
    ) -> list[dict[str, Any]]:
        """The configurations at points of the cube.

        Args:
            X: `n x d`.
            fixed: Values that all of them have exactly, whatever the points say; or a sequence of
                `n` such values, one for each point.
        """
        columns = [axis.values(units) for axis, units in zip(self._axes, X.T, strict=True)]
        rows = zip(*columns, strict=True) if columns else [()] * len(X)
        each = fixed if isinstance(fixed, Sequence) else repeat(fixed or {}, len(X))
        return [
            {**dict(zip(self.names, row, strict=True)), **own}
            for row, own in zip(rows, each, strict=True)
        ]

    def snap(self, X: Array) -> Array:
        """Move the points of `X` (`n x d`) to the centres of the cells that contain them."""
        snapped = np.array(X, dtype=np.float64, copy=True)
        for column, axis in enumerate(self._axes):
            if axis.cells is not None:
                snapped[:, column] = axis.to_unit(axis.to_internal(snapped[:, column]))
        return snapped
