"""Schedules: hyper-parameters as functions of the training step.

A schedule is a function of the step, `0, 1, 2, ...` (epochs or iterations, as the stage counts
them). It also knows how long each value lasts. From these two follows its canonical form: the
*runs* of equal values. Runs do not depend on the object that they came from. A constant 0.1 and a
schedule that is still at 0.1 therefore share that stretch of training, and so does a user's own
function with the same values (the stages of Shin et al. 2019, arXiv 1911.10504, are stretches over
which no hyper-parameter changes).

Two values are equal if they are of one type and the same to the last bit. A rate of
0.010000000000000002 that was computed differs from one that was written as 0.01, and 1 differs from
1.0. To share training, write such values alike or round them.

>>> Constant(0.1).runs(30) == MultiStep(0.1, milestones=[30], gamma=0.1).runs(30)
True
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any

from eeipu.errors import SpaceError

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "Function",
    "Linear",
    "MultiStep",
    "Piecewise",
    "Polynomial",
    "Run",
    "Schedule",
    "StepDecay",
    "Switch",
    "WarmUp",
    "as_schedule",
    "cuts",
]

Value = None | bool | int | float | str
"""The value of a hyper-parameter at one step."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A longest stretch of steps `[start, stop)` with the same `value`."""

    start: int
    stop: int
    value: Value

    @property
    def _identity(self) -> tuple[int, int, str, Value]:
        # Content keys distinguish 1, 1.0 and True, which are equal in Python.
        return self.start, self.stop, type(self.value).__name__, self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)


class Schedule(ABC):
    """A hyper-parameter as a function of the step.

    Subclasses define `_value` and, where values last for more than one step, `_lasts_until`.
    """

    def __call__(self, step: int) -> Value:
        """The value at a step.

        Raises:
            SpaceError: The value is of a type that content keys do not take, or NaN.
        """
        return _canonical(self._value(step), step)

    @abstractmethod
    def _value(self, step: int) -> Any:
        """The value at a step, before it is checked and made a plain Python scalar."""

    def _lasts_until(self, step: int) -> float:
        """A later step before which the value of `step` does not change; `inf` if it never does."""
        return step + 1

    def runs(self, stop: int, start: int = 0) -> tuple[Run, ...]:
        """The canonical form of steps `[start, stop)`: the runs of equal values.

        Raises:
            SpaceError: `start` or `stop` is not a whole number >= 0, or a step has no valid value.
        """
        return tuple(self._runs(_count("start", start, 0), _count("stop", stop, 0)))

    def declared_ends(self, stop: int) -> Iterator[int]:
        """Yield the steps before `stop` at which a value may change that lasts for two or more.

        They are as declared: the next value may be equal, but that of another configuration not.
        """
        start = 0
        while (end := self._lasts_until(start)) < stop:
            if end - start > 1:
                yield int(end)
            start = int(end)

    def _runs(self, start: int, stop: int) -> Iterator[Run]:
        while start < stop:
            value, end = self(start), self._lasts_until(start)
            while end < stop and _is_same(self(int(end)), value):
                end = self._lasts_until(int(end))
            end = int(min(end, stop))
            yield Run(start, end, value)
            start = end


def cuts(runs: Sequence[Run]) -> frozenset[int]:
    """The steps inside these runs at which a constant stretch begins or ends.

    A value that lasts for two steps or more is a stretch of its own. Consecutive steps with
    different values are one stretch together; otherwise a cosine would be cut at every step.
    """
    return frozenset(
        after.start
        for before, after in pairwise(runs)
        if max(before.stop - before.start, after.stop - after.start) > 1
    )


def as_schedule(value: Any) -> Schedule:
    """Make a schedule of a value.

    A schedule is returned as it is. A function of the step becomes a `Function`, any other value a
    `Constant`.
    """
    if isinstance(value, Schedule):
        return value
    return Function(value) if callable(value) else Constant(value)


def _canonical(value: Any, step: int) -> Value:
    """A value in the form that enters content keys: a plain Python scalar, with 0.0 for -0.0."""
    if getattr(value, "shape", None) == ():  # a scalar of NumPy or torch
        value = value.item()
    if isinstance(value, float):
        if math.isnan(value):
            raise SpaceError(f"the schedule is NaN at step {step}; every step needs a value.")
        return float(value) + 0.0  # -0.0 and 0.0 train alike
    if value is None or isinstance(value, bool | int | str):
        return value
    raise SpaceError(
        f"the schedule's value at step {step} is {value!r}; it must be a number, a string, "
        f"a bool or None."
    )


def _is_same(value: Value, other: Value) -> bool:
    return type(value) is type(other) and value == other


def _count(name: str, value: Any, least: int) -> int:
    if not (isinstance(value, Real) and float(value).is_integer() and float(value) >= least):
        raise SpaceError(f"{name} must be a whole number >= {least}, but got {value!r}.")
    return int(float(value))


def _ascending(name: str, steps: Sequence[int]) -> tuple[int, ...]:
    checked = tuple(_count(name, step, 1) for step in steps)
    if any(before >= after for before, after in pairwise(checked)):
        raise SpaceError(f"{name} must ascend without repetition, but got {list(checked)}.")
    return checked


@dataclass(frozen=True)
class Constant(Schedule):
    """The same `value` at every step."""

    value: Value

    def _value(self, step: int) -> Any:  # noqa: ARG002
        return self.value

    def _lasts_until(self, step: int) -> float:  # noqa: ARG002
        return math.inf


@dataclass(frozen=True)
class Piecewise(Schedule):
    """Piecewise constant: `values[i]` in steps `[boundaries[i - 1], boundaries[i])`.

    Attributes:
        values: The values.
        boundaries: The steps at which the next value begins, one fewer than there are values.

    Raises:
        SpaceError: The boundaries do not ascend from at least 1, or their number is wrong.
    """

    values: Sequence[Value]
    boundaries: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "boundaries", _ascending("boundaries", self.boundaries))
        if len(self.values) != len(self.boundaries) + 1:
            raise SpaceError(
                f"Piecewise needs one boundary fewer than values, but got {len(self.values)} "
                f"values and {len(self.boundaries)} boundaries."
            )

    def _value(self, step: int) -> Any:
        return self.values[bisect_right(self.boundaries, step)]

    def _lasts_until(self, step: int) -> float:
        piece = bisect_right(self.boundaries, step)
        return self.boundaries[piece] if piece < len(self.boundaries) else math.inf


@dataclass(frozen=True)
class MultiStep(Schedule):
    """A value that is multiplied by `gamma` at every milestone.

    Attributes:
        initial: The value at step 0.
        milestones: Ascending steps, the first at least 1.
        gamma: The factor.
    """

    initial: float
    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", _ascending("milestones", self.milestones))

    def _value(self, step: int) -> Any:
        return self.initial * self.gamma ** bisect_right(self.milestones, step)

    def _lasts_until(self, step: int) -> float:
        passed = bisect_right(self.milestones, step)
        return self.milestones[passed] if passed < len(self.milestones) else math.inf


@dataclass(frozen=True)
class StepDecay(Schedule):
    """A value that is multiplied by `gamma` every `every` steps.

    Attributes:
        initial: The value at step 0.
        every: The number of steps that each value lasts.
        gamma: The factor.
    """

    initial: float
    every: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _count("every", self.every, 1)

    def _value(self, step: int) -> Any:
        return self.initial * self.gamma ** (step // self.every)

    def _lasts_until(self, step: int) -> float:
        return (step // self.every + 1) * self.every


@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential decay: `initial * gamma ** step`."""

    initial: float
    gamma: float

    def _value(self, step: int) -> Any:
        return self.initial * self.gamma**step


@dataclass(frozen=True)
class _Descent(Schedule):
    """From `initial` to `final` within `steps`, and `final` from there on.

    Attributes:
        initial: The value at step 0.
        final: The value from step `steps` on.
        steps: The number of steps of the descent.
    """

    initial: float
    final: float
    steps: int

    def __post_init__(self) -> None:
        _count("steps", self.steps, 1)

    def _share(self, done: float) -> float:
        """The share of the descent that remains, from 1 to 0, after a share `done` of the steps."""
        return 1.0 - done

    def _value(self, step: int) -> Any:
        if step >= self.steps:
            return self.final
        if step == 0:  # exactly, without rounding
            return self.initial
        return self.final + (self.initial - self.final) * self._share(step / self.steps)

    def _lasts_until(self, step: int) -> float:
        return step + 1 if step < self.steps else math.inf


@dataclass(frozen=True)
class Linear(_Descent):
    """A straight line from `initial` to `final` within `steps`, and `final` from there on."""


@dataclass(frozen=True)
class Polynomial(_Descent):
    """`final + (initial - final) * (1 - step / steps) ** power` within `steps`, then `final`.

    Attributes:
        power: The exponent; 1 gives `Linear`.
    """

    power: float = 2.0

    def _share(self, done: float) -> float:
        share: float = (1.0 - done) ** self.power
        return share


@dataclass(frozen=True)
class Cosine(_Descent):
    """Half a cosine from `initial` to `final` within `steps`, and `final` from there on.

    Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5 without restarts.
    """

    def _share(self, done: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half cosines from `initial` down to `final`, one after another.

    Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5.

    Attributes:
        initial: The value at which each descent begins.
        final: The value that each descent approaches.
        period: The number of steps of the first descent.
        growth: The factor by which each descent is longer than the one before; a whole number.
    """

    initial: float
    final: float
    period: int
    growth: int = 1

    def __post_init__(self) -> None:
        _count("period", self.period, 1)
        _count("growth", self.growth, 1)

    def _value(self, step: int) -> Any:
        period = self.period
        while step >= period:
            step, period = step - period, period * self.growth
        return Cosine(self.initial, self.final, period)._value(step)


@dataclass(frozen=True)
class Switch(Schedule):
    """One schedule before a step, and another from that step on.

    Attributes:
        first: The schedule of steps `[0, at)`. This and `second` may be anything that `as_schedule`
            takes, such as a number.
        at: The step of the switch.
        second: The schedule from step `at` on.
        restart: Whether `second` begins anew, with step `at` as its step 0.
    """

    first: Any
    at: int
    second: Any
    restart: bool = True

    def __post_init__(self) -> None:
        _count("at", self.at, 0)

    @property
    def _origin(self) -> int:
        return self.at if self.restart else 0

    def _value(self, step: int) -> Any:
        if step < self.at:
            return as_schedule(self.first)(step)
        return as_schedule(self.second)(step - self._origin)

    def _lasts_until(self, step: int) -> float:
        if step < self.at:
            return min(as_schedule(self.first)._lasts_until(step), self.at)
        return self._origin + as_schedule(self.second)._lasts_until(step - self._origin)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A straight line from `start` to the first value of `schedule`, followed by that schedule.

    Goyal et al. 2017, arXiv 1706.02677, section 2.2. The first step is already one part of the
    way up, because a step at a rate of 0 would be wasted.

    Attributes:
        schedule: The schedule after the warm-up, or anything that `as_schedule` takes, such as a
            number. Its step 0 is step `steps`.
        steps: The number of steps of the warm-up.
        start: The value from which the line begins.
    """

    schedule: Any
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        _count("steps", self.steps, 0)

    def _value(self, step: int) -> Any:
        if step >= self.steps:
            return as_schedule(self.schedule)(step - self.steps)
        top: Any = as_schedule(self.schedule)(0)
        return self.start + (top - self.start) * (step + 1) / (self.steps + 1)

    def _lasts_until(self, step: int) -> float:
        if step < self.steps:
            return step + 1
        return self.steps + as_schedule(self.schedule)._lasts_until(step - self.steps)


@dataclass(frozen=True)
class Function(Schedule):
    """A user's own `function` of the step, which must always return the same value for a step."""

    function: Callable[[int], Any]

    def _value(self, step: int) -> Any:
        return self.function(step)
