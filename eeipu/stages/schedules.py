"""Schedules: hyper-parameters as functions of the training step.

What a schedule is, and when two of them share training, is in `eeipu.stages.schedule_runs`; here
are the kinds. Each is fixed as it is written, and searched over inside a `Searchable`
(`eeipu.stages.searchable_schedules`).

>>> Constant(0.1).runs(30) == MultiStep(0.1, milestones=[30], gamma=0.1).runs(30)
True
>>> trunk = WarmUpStableDecay(0.1, warm_up=5, decay_at=60, decay_steps=20)
>>> trunk.runs(60) == WarmUpStableDecay(0.1, warm_up=5, decay_at=80, decay_steps=10).runs(60)
True
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from eeipu.errors import SpaceError
from eeipu.stages.descents import (
    Cosine,
    CosineRestarts,
    Descent,
    Linear,
    Polynomial,
    RootDescent,
)
from eeipu.stages.schedule_runs import (
    Constant,
    Function,
    Run,
    Schedule,
    Value,
    as_schedule,
    cuts,
    whole_number,
)

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "CosineToFloor",
    "Exponential",
    "Function",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Piecewise",
    "Polynomial",
    "RootDescent",
    "Run",
    "Schedule",
    "StepDecay",
    "Switch",
    "Value",
    "WarmUp",
    "WarmUpStableDecay",
    "as_schedule",
    "cuts",
]


def _ascending(name: str, steps: Sequence[int]) -> tuple[int, ...]:
    checked = tuple(whole_number(name, step, 1) for step in steps)
    if any(before >= after for before, after in pairwise(checked)):
        raise SpaceError(f"{name} must ascend without repetition, but got {list(checked)}.")
    return checked


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
        whole_number("every", self.every, 1)

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
        whole_number("at", self.at, 0)

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
        whole_number("steps", self.steps, 0)

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
class WarmUpStableDecay(Schedule):
    """A warm-up to `peak`, a long stable stretch there, and a short decay at the end.

    Hu et al. 2024, arXiv 2404.06395 (MiniCPM). Schedules that differ only in where and how they
    decay have one trunk: a stage tree trains it once, and as many decays from it as there are.

    Attributes:
        peak: The value of the stable stretch.
        warm_up: The number of steps of the warm-up, a straight line from 0 (see `WarmUp`).
        decay_at: The step at which the decay begins; at least `warm_up`.
        decay_steps: The number of steps of the decay.
        floor: Where the decay ends, as a share of `peak`, and what holds from there on.
        shape: `"linear"`, `"cosine"`, or `"sqrt"`: one minus the root of what is done, the best of
            these in Haegele et al. 2024, arXiv 2405.18392.

    Raises:
        SpaceError: A number of steps is no whole number, the decay begins inside the warm-up, the
            floor is not in 0..1, or there is no such shape.
    """

    peak: float
    warm_up: int
    decay_at: int
    decay_steps: int
    floor: float = 0.0
    shape: Literal["linear", "cosine", "sqrt"] = "linear"

    def __post_init__(self) -> None:
        whole_number("warm_up", self.warm_up, 0)
        whole_number("decay_steps", self.decay_steps, 1)
        if whole_number("decay_at", self.decay_at, 0) < self.warm_up:
            raise SpaceError(
                f"the decay must begin after the warm-up, but got decay_at={self.decay_at!r} and "
                f"warm_up={self.warm_up!r}."
            )
        _check_share("floor", self.floor)
        if self.shape not in _DECAYS:
            raise SpaceError(f"shape must be one of {list(_DECAYS)}, but got {self.shape!r}.")

    def _value(self, step: int) -> Any:
        if step < self.decay_at:
            return WarmUp(self.peak, self.warm_up)._value(step)
        return self._decay._value(step - self.decay_at)

    @property
    def _decay(self) -> Descent:
        return _DECAYS[self.shape](self.peak, self.floor * self.peak, self.decay_steps)

    def _lasts_until(self, step: int) -> float:
        if step < self.decay_at:
            return min(WarmUp(self.peak, self.warm_up)._lasts_until(step), self.decay_at)
        return self.decay_at + self._decay._lasts_until(step - self.decay_at)


@dataclass(frozen=True)
class CosineToFloor(Schedule):
    """A warm-up to `peak`, and half a cosine from there to a share of it.

    Touvron et al. 2023, arXiv 2302.13971 (LLaMA), section 2.3, with a floor of a tenth.

    Attributes:
        peak: The largest value.
        steps: The number of steps until the floor is reached, warm-up included; the floor holds
            from there on.
        floor: The last value, as a share of `peak`.
        warm_up: The number of steps of the warm-up, a straight line from 0 (see `WarmUp`).

    Raises:
        SpaceError: A number of steps is no whole number, the warm-up is not shorter than the whole,
            or the floor is not in 0..1.
    """

    peak: float
    steps: int
    floor: float = 0.1
    warm_up: int = 0

    def __post_init__(self) -> None:
        if whole_number("steps", self.steps, 1) <= whole_number("warm_up", self.warm_up, 0):
            raise SpaceError(
                f"the warm-up must be shorter than the whole, but got warm_up={self.warm_up!r} and "
                f"steps={self.steps!r}."
            )
        _check_share("floor", self.floor)

    @property
    def _whole(self) -> WarmUp:
        descent = Cosine(self.peak, self.floor * self.peak, self.steps - self.warm_up)
        return WarmUp(descent, self.warm_up)

    def _value(self, step: int) -> Any:
        return self._whole._value(step)

    def _lasts_until(self, step: int) -> float:
        return self._whole._lasts_until(step)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Half a cosine up to `peak`, and half a cosine down to nearly nothing.

    Smith and Topin 2017, arXiv 1708.07120, with the values of torch's `OneCycleLR`. For a momentum
    that moves the other way write `OneCycle(0.85, steps, initial=0.95, final=0.95)`.

    Attributes:
        peak: The value at the top.
        steps: The number of steps of the cycle; the last value holds from there on.
        rise: The share of the steps up to the top, in 0..1.
        initial: The first value; `None`: a twenty-fifth of `peak`.
        final: The last value; `None`: a ten-thousandth of the first one.

    Raises:
        SpaceError: `steps` is no whole number of at least 2, or `rise` is not in 0..1.
    """

    peak: float
    steps: int
    rise: float = 0.3
    initial: float | None = None
    final: float | None = None

    def __post_init__(self) -> None:
        whole_number("steps", self.steps, 2)
        _check_share("rise", self.rise)

    def _value(self, step: int) -> Any:
        first = self.peak / 25.0 if self.initial is None else self.initial
        last = first / 1e4 if self.final is None else self.final
        top, end = self.rise * self.steps - 1.0, self.steps - 1.0
        if step >= end:
            return last
        if step <= top:
            return _between(first, self.peak, step / top if top > 0 else 1.0)
        return _between(self.peak, last, (step - max(top, 0.0)) / (end - max(top, 0.0)))

    def _lasts_until(self, step: int) -> float:
        return step + 1 if step < self.steps - 1 else math.inf


def _between(start: float, stop: float, done: float) -> float:
    """A value on half a cosine, after a share of the way."""
    return stop + (start - stop) / 2.0 * (1.0 + math.cos(math.pi * done))


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise SpaceError(f"{name} must be a share in 0..1, but got {value!r}.")


_DECAYS: dict[str, type[Descent]] = {"linear": Linear, "cosine": Cosine, "sqrt": RootDescent}
