"""Search spaces: distributions under short names, and configurations as points of the unit cube.

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

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property, lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from eeipu.errors import SpaceError

__all__ = ["Categorical", "Distribution", "Float", "Int", "Params", "Space", "in_words"]

Params = Mapping[str, Any]
Distribution = BaseDistribution
Array = NDArray[np.float64]


LARGEST_FLOAT = int(sys.float_info.max)

# Integers of a range that floats cannot all tell apart are no loss if the gaps are at most this
# share of the range.
COARSEST = 1e-9

# A float with very many steps may not be a whole number of steps from the lowest value, as Optuna
# computes it. Then one of its neighbours is.
NEIGHBOURS = 64

# Of more decimals than this, not all are kept by a float.
MAX_DECIMALS = 15


def Float(  # noqa: N802 - reads as a type, as in the field's other libraries
    low: float, high: float, *, log: bool = False, step: float | None = None
) -> FloatDistribution:
    """A float in `[low, high]`.

    Args:
        low: The smallest value.
        high: The largest value.
        log: Whether the parameter is on a log scale.
        step: If given, only the values `low + i * step` are allowed.

    Raises:
        SpaceError: The range is empty or not finite, or `log` with `low <= 0` or with `step`.
    """
    for name, bound in (("low", low), ("high", high), ("step", 1.0 if step is None else step)):
        if not _is_finite(bound):
            raise SpaceError(f"Float needs finite numbers, but got {name}={bound!r}.")
    if not _is_finite(high - low):
        raise SpaceError(f"Float({low!r}, {high!r}) is too wide for a float; use log=True.")
    try:
        return FloatDistribution(low, high, log=log, step=step)
    except ValueError as error:
        raise SpaceError(f"Float({low!r}, {high!r}, log={log}, step={step!r}): {error}") from error


def Int(  # noqa: N802
    low: int, high: int, *, log: bool = False, step: int = 1
) -> IntDistribution:
    """An integer in `[low, high]`.

    Args:
        low: The smallest value.
        high: The largest value.
        log: Whether the parameter is on a log scale.
        step: Only the values `low + i * step` are allowed.

    Raises:
        SpaceError: The range is empty or not of whole numbers, or `log` with `low < 1` or `step`;
            or it is so far from 0 that a study, which keeps floats, cannot tell its values apart.
    """
    for name, bound in (("low", low), ("high", high), ("step", step)):
        if not _is_whole(bound):
            raise SpaceError(
                f"Int needs whole numbers, but got {name}={bound!r}; use Float for others."
            )
    farthest = max(abs(low), abs(high))
    gap = math.ulp(farthest) if farthest <= LARGEST_FLOAT else math.inf
    if gap > step and (gap == math.inf or gap > COARSEST * (high - low)):
        raise SpaceError(
            f"Int({low!r}, {high!r}, step={step!r}): a study keeps numbers as floats, which are "
            f"{gap:.3g} apart at {farthest!r}; tune the difference from {low!r} instead, and "
            f"add it in the stage."
        )
    try:
        return IntDistribution(low, high, log=log, step=step)
    except ValueError as error:
        raise SpaceError(f"Int({low!r}, {high!r}, log={log}, step={step!r}): {error}") from error


def Categorical(choices: Sequence[CategoricalChoiceType]) -> CategoricalDistribution:  # noqa: N802
    """One of `choices`, without an order among them.

    Raises:
        SpaceError: There is no choice, or two are equal.
    """
    # A set has no fixed order: the cells of the choices would change from run to run.
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise SpaceError(f"Categorical needs a list of choices, but got {choices!r}.")
    for i, choice in enumerate(choices):
        if choice in choices[:i]:
            # A study finds choices by equality; it cannot distinguish 1, 1.0 and True.
            twin = choices[choices.index(choice)]
            raise SpaceError(
                f"Categorical lists {twin!r} and {choice!r}, which are equal; "
                f"list every choice once."
            )
    try:
        return CategoricalDistribution(choices)
    except ValueError as error:
        raise SpaceError(f"Categorical({list(choices)!r}): {error}") from error


def cell_count(distribution: BaseDistribution) -> int | None:
    """The number of values of a distribution; `None` if it is continuous."""
    match distribution:
        case CategoricalDistribution():
            return len(distribution.choices)
        case IntDistribution():
            return (distribution.high - distribution.low) // distribution.step + 1
        case FloatDistribution(step=float(step)):
            return round((distribution.high - distribution.low) / step) + 1
        case FloatDistribution() if distribution.single():
            return 1
        case _:
            return None


class _Axis:
    """One column of the cube: maps Optuna's internal values, which are floats, to `[0, 1]`."""

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
        half_cell = 0.0 if self.cells is None else 0.5 * self.step
        self.is_log = getattr(distribution, "log", False) and self.cells != 1
        self._walls = [
            math.log(wall) if self.is_log else wall
            for wall in (self.low - half_cell, self.high + half_cell)
        ]

    def to_unit(self, internal: Array) -> Array:
        if self.cells == 1:
            return np.full_like(internal, 0.5)
        low, high = self._walls
        scaled = np.log(internal) if self.is_log else internal
        return np.clip((scaled - low) / (high - low), 0.0, 1.0)

    def index(self, unit: Array) -> Array:
        """The numbers of the cells that contain coordinates, from 0, as floats."""
        return np.round((self.to_internal(unit) - self.low) / self.step)

    def centre(self, index: Array) -> Array:
        """The coordinates of the centres of cells."""
        return self.to_unit(np.clip(self.low + self.step * index, self.low, self.high))

    def value(self, unit: float) -> Any:
        """The value at a coordinate, as a study stores it."""
        internal = self.to_internal(np.asarray(unit)).item()
        if not self.distribution._contains(internal):
            index = np.round((internal - self.low) / self.step)
            aside = np.arange(1, NEIGHBOURS // 2)
            steps = index + np.stack([aside, -aside], axis=1).ravel()
            raw = self.low + self.step * steps
            near = np.stack([_on_grid(raw, self.low, self.step), raw], axis=1).ravel().tolist()
            internal = next(filter(self.distribution._contains, near), internal)
        return self.distribution.to_external_repr(internal)

    def to_internal(self, unit: Array) -> Array:
        if self.cells == 1:
            return np.full_like(unit, self.low)
        low, high = self._walls
        scaled = low + unit * (high - low)
        internal = np.exp(scaled) if self.is_log else scaled
        if self.cells is not None:
            internal = _on_grid(internal, self.low, self.step)
        return np.clip(internal, self.low, self.high)


def _on_grid(values: Any, low: float, step: float) -> Any:
    """The closest of the values `low + i * step`, each as the one float that its decimals mean.

    `3 * 0.1` is 0.30000000000000004, but somebody who enters that value writes 0.3.
    """
    closest = low + step * np.round((values - low) / step)
    digits = _decimals(float(low), float(step))
    return np.round(closest, digits) if digits <= MAX_DECIMALS else closest


@lru_cache
def _decimals(*numbers: float) -> int:
    """The most decimals that any of these numbers has."""
    return max(0, *(-int(Decimal(repr(each)).as_tuple().exponent) for each in numbers))


class Space:
    """An ordered set of named distributions, and its map to and from the unit cube.

    Args:
        distributions: Parameter name -> distribution; the order is the order of the columns.

    >>> space = Space({"fit.lr": Float(1e-4, 1e-2, log=True), "fit.depth": Int(1, 4)})
    >>> X = space.encode([{"fit.lr": 1e-3, "fit.depth": 1}])
    >>> X.round(3).tolist()
    [[0.5, 0.125]]
    >>> space.decode(X[0])["fit.depth"]
    1
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = dict(distributions)
        self._axes = [_Axis(distribution) for distribution in self.distributions.values()]

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
    def size(self) -> int | None:
        """The number of configurations; `None` if any column is continuous."""
        size = 1
        for cells in self.cells:
            if cells is None:
                return None
            size *= cells
        return size

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
        return {
            name: axis.value(unit)
            for name, axis, unit in zip(self.names, self._axes, point, strict=True)
        }

    def snap(self, X: Array) -> Array:
        """Move the points of `X` (`n x d`) to the centres of the cells that contain them."""
        snapped = np.array(X, dtype=np.float64, copy=True)
        for column, axis in enumerate(self._axes):
            if axis.cells is not None:
                snapped[:, column] = axis.to_unit(axis.to_internal(snapped[:, column]))
        return snapped

    def configurations(self) -> Iterator[dict[str, Any]]:
        """All configurations of a finite space; an infinite space yields none."""
        for number in range(self.size or 0):
            index = []
            for cells in reversed(self.cells):
                assert cells is not None, "the space is finite"
                number, digit = divmod(number, cells)
                index.append(float(digit))
            columns = enumerate(reversed(index))
            yield self.decode(np.array([self.centres(c, np.asarray(i)) for c, i in columns]))

    def misfit(self, params: Params) -> str | None:
        """Why values are no configuration of this space; `None` if they are. More may be there."""
        for name, distribution in self.distributions.items():
            if name not in params:
                return f"{name} is missing"
            try:
                _stored(name, distribution, params[name])
            except SpaceError:
                return f"{name} lies outside of {distribution}"
        return None

    def canonical(self, params: Params) -> dict[str, Any]:
        """A configuration as the study stores it: plain Python values, in column order.

        Raises:
            SpaceError: A parameter is missing, unknown, or outside of its distribution.
        """
        if not isinstance(params, Mapping):
            raise SpaceError(
                f"a configuration must be a dict of parameters, but got {type(params).__name__}."
            )
        unknown = [name for name in params if name not in self.distributions]
        missing = [name for name in self.names if name not in params]
        if unknown or missing:
            problem = f"unknown: {unknown}" if unknown else f"missing: {missing}"
            raise SpaceError(
                f"the configuration does not fit the space ({problem}); "
                f"it needs exactly {list(self.names)}."
            )
        return {
            name: _stored(name, distribution, params[name])
            for name, distribution in self.distributions.items()
        }


def _stored(name: str, distribution: BaseDistribution, value: Any) -> Any:
    """`value` as a study's storage returns it."""
    if isinstance(distribution, IntDistribution) and not _is_whole(value):
        raise SpaceError(f"{name}={value!r} is not a whole number, as {distribution} asks.")
    try:
        internal = distribution.to_internal_repr(value)
    except ValueError as error:
        raise SpaceError(f"{name}={value!r} does not fit {distribution}: {error}") from error
    if not distribution._contains(internal):
        raise SpaceError(f"{name}={value!r} lies outside of {distribution}.")
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        closest = _on_grid(internal, distribution.low, distribution.step)
        closest = float(np.clip(closest, distribution.low, distribution.high))
        # Of very many steps, Optuna takes some only as they are computed.
        internal = closest if distribution._contains(closest) else internal
    return distribution.to_external_repr(internal)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())


def _inside(low: float, high: float) -> float:
    """The smallest float in `[low, high]`, whose bounds may be integers that no float equals."""
    least = float(low)
    return least if least >= low or low == high else math.nextafter(least, math.inf)


def in_words(space: Mapping[str, BaseDistribution]) -> str:
    """The distributions of some hyper-parameters in short, for people.

    >>> in_words({"lr": Float(0.001, 0.1, log=True), "k": Int(2, 8, step=2)})
    'lr: 0.001 to 0.1, log; k: 2 to 8, by 2'
    """
    return "; ".join(f"{name}: {_in_words(each)}" for name, each in space.items())


def _in_words(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return " | ".join(map(str, distribution.choices))
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return str(distribution)
    usual = 1 if isinstance(distribution, IntDistribution) else None
    step = "" if distribution.step == usual else f", by {distribution.step:g}"
    log = ", log" if distribution.log else ""
    return f"{distribution.low:g} to {distribution.high:g}{log}{step}"
