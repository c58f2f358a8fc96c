"""Kinds of hyper-parameters, and the values that a study stores of them.

Whatever a user may write as the values of a hyper-parameter, `as_distribution` makes a `Float`, an
`Int` or a `Categorical` of it, where a stage is made. Everything else sees only these three.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from eeipu.errors import SpaceError

__all__ = [
    "Categorical",
    "Distribution",
    "DistributionLike",
    "Float",
    "Int",
    "Params",
    "as_distribution",
    "cell_count",
    "in_words",
    "on_grid",
    "stored",
]

Params = Mapping[str, Any]
Distribution = BaseDistribution
DistributionLike = BaseDistribution | Sequence[CategoricalChoiceType] | range
"""What stands for a distribution in a stage's space; see `as_distribution`."""

LARGEST_FLOAT = int(sys.float_info.max)

# Integers of a range that floats cannot all tell apart are no loss if the gaps are at most this
# share of the range.
COARSEST = 1e-9

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

    NumPy's numbers and texts among them count as Python's, which all storages hold.

    Raises:
        SpaceError: There is no choice, or two are equal.
    """
    # A set has no fixed order: the cells of the choices would change from run to run.
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise SpaceError(f"Categorical needs a list of choices, but got {choices!r}.")
    choices = [_as_python(choice) for choice in choices]
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


def _as_python(choice: Any) -> Any:
    """A choice; a number or text of NumPy's becomes Python's."""
    return choice.item() if isinstance(choice, np.bool_ | np.number | np.str_) else choice


def as_distribution(values: Any) -> Distribution:
    """The `Float`, `Int` or `Categorical` that a user's declaration stands for.

    Args:
        values: A list or tuple: a `Categorical` of these choices, but for a tuple of two numbers,
            which is a range elsewhere. A `range`: an `Int` of its
            numbers, whose order does not matter, so that a step may be negative. A distribution of
            this module or of Optuna's, also one of the old ones, such as `UniformDistribution`: the
            `Float`, `Int` or `Categorical` with the same values.

    Raises:
        SpaceError: It is nothing of these; it has no values; or its range is of no use.

    >>> as_distribution(range(8, 64, 8)) == Int(8, 56, step=8)
    True
    """
    match values:
        case range() if not values:
            raise SpaceError(
                f"{values!r} has no numbers; a range ends before its second argument, so that "
                f"range(1, 9) is 1 to 8."
            )
        case range():
            first, last = sorted((values[0], values[-1]))
            return Int(first, last, step=abs(values.step))
        case tuple() if _may_be_range(values):
            raise SpaceError(
                f"{values!r} may mean a range or two choices; write Float{values!r} or "
                f"Int{values!r} for a range, or the list {list(values)!r} for choices."
            )
        case list() | tuple():
            return Categorical(values)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return Float(low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return Int(low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return Categorical(choices)
        case _:
            raise SpaceError(
                f"give a Float, Int or Categorical, a list of choices, a range of whole numbers, "
                f"or a distribution of Optuna's, but not {values!r}."
            )


def _may_be_range(values: tuple[Any, ...]) -> bool:
    """Whether these are two numbers, which are a range in other libraries."""
    return len(values) == 2 and all(isinstance(v, Real) and not isinstance(v, bool) for v in values)


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


def on_grid(values: Any, low: float, step: float) -> Any:
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


def stored(name: str, distribution: BaseDistribution, value: Any) -> Any:
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
        closest = on_grid(internal, distribution.low, distribution.step)
        closest = float(np.clip(closest, distribution.low, distribution.high))
        # Of very many steps, Optuna takes some only as they are computed.
        internal = closest if distribution._contains(closest) else internal
    return distribution.to_external_repr(internal)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())


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
