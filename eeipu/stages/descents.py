"""Schedules that go from one value to another, within a number of steps, and stay there."""

import math
from dataclasses import dataclass
from typing import Any

from eeipu.stages.schedule_runs import Schedule, whole_number

__all__ = ["Cosine", "CosineRestarts", "Descent", "Linear", "Polynomial", "RootDescent"]


@dataclass(frozen=True)
class Descent(Schedule):
    """Something that goes from `initial` to `final` within `steps`, and `final` from there on.

    Attributes:
        initial: The value at step 0.
        final: The value from step `steps` on.
        steps: The number of steps of the descent.
    """

    initial: float
    final: float
    steps: int

    def __post_init__(self) -> None:
        whole_number("steps", self.steps, 1)

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
class Linear(Descent):
    """A straight line from `initial` to `final` within `steps`, and `final` from there on."""


@dataclass(frozen=True)
class Polynomial(Descent):
    """`final + (initial - final) * (1 - step / steps) ** power` within `steps`, then `final`.

    Attributes:
        power: The exponent; 1 gives `Linear`.
    """

    power: float = 2.0

    def _share(self, done: float) -> float:
        share: float = (1.0 - done) ** self.power
        return share


@dataclass(frozen=True)
class Cosine(Descent):
    """Half a cosine from `initial` to `final` within `steps`, and `final` from there on.

    Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5 without restarts.
    """

    def _share(self, done: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class RootDescent(Descent):
    """`final + (initial - final) * (1 - sqrt(step / steps))` within `steps`, then `final`.

    Haegele et al. 2024, arXiv 2405.18392: fast at first, slow at the end.
    """

    def _share(self, done: float) -> float:
        return 1.0 - math.sqrt(done)


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
        whole_number("period", self.period, 1)
        whole_number("growth", self.growth, 1)

    def _value(self, step: int) -> Any:
        period = self.period
        while step >= period:
            step, period = step - period, period * self.growth
        return Cosine(self.initial, self.final, period)._value(step)
