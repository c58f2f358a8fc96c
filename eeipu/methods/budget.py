"""The budget of a study: what its trials may cost together, and what they have cost so far.

Costs are seconds or, where stages declare their costs, the unit of those. A trial's cost is its
user attribute `"charged"`, which is written while it runs.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from eeipu.errors import ConfigurationError

__all__ = ["Budget", "check_positive", "spent"]


def spent(trials: Iterable[FrozenTrial]) -> float:
    """What has been charged to the budget for these trials, including those that still run."""
    return math.fsum(trial.user_attrs.get("charged") or 0.0 for trial in trials)


@dataclass(frozen=True)
class Budget:
    """What all trials of a study may cost together.

    The tuner makes one, and everything that asks about the budget is given that one.

    Attributes:
        total: The amount, positive and finite.
    """

    total: float

    @classmethod
    def of(cls, total: "float | Budget") -> "Budget":
        """Make a budget of a number; a budget is returned as it is.

        Raises:
            ConfigurationError: The number is not positive and finite.
        """
        if isinstance(total, Budget):
            return total
        unit = "in seconds or in the unit of the declared costs"
        return cls(check_positive(total, "the budget", unit))

    def remaining(self, spent: float) -> float:
        """What is left of the budget; never negative.

        Args:
            spent: What has been spent of it; see `spent`.
        """
        return max(0.0, self.total - spent)

    def is_spent(self, spent: float, due: Iterable[float] = ()) -> bool:
        """Whether nothing is left for another trial.

        Args:
            spent: What has been spent of the budget; see `spent`.
            due: The amounts that running trials are still expected to cost.
        """
        return math.fsum([spent, *due]) >= self.total


def check_positive(value: object, what: str, unit: str) -> float:
    """A user's number as a float.

    Args:
        value: What the user gave.
        what: What it is, for the message.
        unit: Its unit, for the message.

    Raises:
        ConfigurationError: It is not a positive, finite number.
    """
    if isinstance(value, float | int | np.number) and not isinstance(value, bool):
        number = float(value)
        if 0 < number < math.inf:
            return number
    raise ConfigurationError(
        f"{what} must be a positive, finite number, {unit}, but got {value!r}."
    )
