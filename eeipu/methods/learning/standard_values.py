"""The values of an objective in the unit in which models learn them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eeipu.methods.history import History
from eeipu.models.objective import middle_value

__all__ = ["StandardValues"]

Array = NDArray[np.float64]

# Values cannot be worse than this: the square of a larger number may be infinite.
WORST = -1e100


@dataclass(frozen=True)
class StandardValues:
    """The values of an objective, maximised, with 0 at their middle and 1 at the best.

    Attributes:
        history: The trials so far, some of which have a value.
    """

    history: History

    @cached_property
    def middle(self) -> float:
        """Which value of the objective is 0 here; see `middle_value`."""
        return middle_value(self.history.values)

    @cached_property
    def unit(self) -> float:
        """How many units of the objective are 1 here, positive."""
        values = self.history.values
        # More than half of the values may equal the best.
        spans = [float(np.nanmax(values) - self.middle), float(self.middle - np.nanmin(values))]
        return next((span for span in spans if span > 0), 1.0)

    @cached_property
    def values(self) -> Array:
        """The standard values, `n`.

        Those of pruned trials are guesses; see `Objectives.estimates`. One that reported nothing
        counts as the worst value, since its user has found it to be no good. A failure is NaN: as
        the worst value beside good ones it would keep the search from a best value at the edge of
        a region that fails, of which `eeipu.models.feasibility` knows.
        """
        objectives = self.history.objectives
        with np.errstate(over="ignore"):
            estimates = objectives.estimates(self.history.objective)
            standard: Array = (estimates - self.middle) / self.unit
        standard[~objectives.failed & np.isnan(standard)] = np.nanmin(standard)
        return np.maximum(standard, WORST)

    def in_units(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """A mean and a standard deviation in the unit and with the sign of the study."""
        return self.history.sign * (self.unit * mean + self.middle), self.unit * std
