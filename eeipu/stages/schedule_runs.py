"""Hyper-parameters as functions of the training step, and the runs of equal values that they have.

A schedule is a function of the step, `0, 1, 2, ...` (epochs or iterations, as the stage counts
them). It also knows how long each value lasts. From these two follows its canonical form: the
*runs* of equal values. Runs do not depend on the object that they came from. A constant 0.1 and a
schedule that is still at 0.1 therefore share that stretch of training, and so does a user's own
function with the same values (the stages of Shin et al. 2019, arXiv 1911.10504, are stretches over
which no hyper-parameter changes).

Two values are equal if they are of one type and the same to the last bit. A rate of
0.010000000000000002 that was computed differs from one that was written as 0.01, and 1 differs from
1.0. To share training, write such values alike or round them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from numbers import Real
from typing import Any

from eeipu.errors import SpaceError

__all__ = [
    "Constant",
    "Function",
    "Run",
    "Schedule",
    "Value",
    "as_schedule",
    "cuts",
    "refuse_torch_scheduler",
    "whole_number",
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
        return tuple(self._runs(whole_number("start", start, 0), whole_number("stop", stop, 0)))

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

    Raises:
        SpaceError: It is a scheduler of torch's.
    """
    if isinstance(value, Schedule):
        return value
    refuse_torch_scheduler("the schedule", value)
    return Function(value) if callable(value) else Constant(value)


# What to write instead of a scheduler of torch's.
_OURS = {
    "ConstantLR": "Switch",
    "CosineAnnealingLR": "Cosine or CosineToFloor",
    "CosineAnnealingWarmRestarts": "CosineRestarts",
    "CyclicLR": "a function of the step",
    "ExponentialLR": "Exponential",
    "LambdaLR": "a function of the step, which returns the value and not a factor",
    "LinearLR": "Linear or WarmUp",
    "MultiStepLR": "MultiStep",
    "OneCycleLR": "OneCycle",
    "PolynomialLR": "Polynomial",
    "ReduceLROnPlateau": "PopulationBased early stopping, since a schedule does not see values",
    "SequentialLR": "Switch",
    "StepLR": "StepDecay",
}


def refuse_torch_scheduler(what: str, value: Any) -> None:
    """Refuse a scheduler of torch's, its class, or a partial call of it, where ours belong.

    torch is not imported for this.

    Raises:
        SpaceError: It is one; the message names ours.
    """
    while isinstance(value, partial):
        value = value.func
    kind = value if isinstance(value, type) else type(value)
    theirs = [base for base in kind.__mro__ if base.__module__ == "torch.optim.lr_scheduler"]
    if not theirs:
        return
    ours = next((_OURS[base.__name__] for base in theirs if base.__name__ in _OURS), None)
    raise SpaceError(
        f"{what} is {kind.__name__}, a scheduler of torch's, which changes an optimiser and cannot "
        f"be read ahead; write {ours or 'a function of the step'} (eeipu.stages.schedules), as in "
        f'space={{"lr": ...}}.'
    )


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


def whole_number(name: str, value: Any, least: int) -> int:
    """An argument as a whole number.

    Raises:
        SpaceError: It is none, or less than `least`.
    """
    if not (isinstance(value, Real) and float(value).is_integer() and float(value) >= least):
        raise SpaceError(f"{name} must be a whole number >= {least}, but got {value!r}.")
    return int(float(value))


@dataclass(frozen=True)
class Constant(Schedule):
    """The same `value` at every step."""

    value: Value

    def _value(self, step: int) -> Any:  # noqa: ARG002
        return self.value

    def _lasts_until(self, step: int) -> float:  # noqa: ARG002
        return math.inf


@dataclass(frozen=True)
class Function(Schedule):
    """A user's own `function` of the step, which must always return the same value for a step."""

    function: Callable[[int], Any]

    def _value(self, step: int) -> Any:
        return self.function(step)
