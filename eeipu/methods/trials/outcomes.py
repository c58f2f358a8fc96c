"""The outcomes of trials that have limits, such as the memory that a model takes.

Notation:
    n: trials that have ended; J: constraints on outcomes.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eeipu.methods.trials.stage_records import Observed, StageRecords
from eeipu.stages.running.outcomes import names_entry

__all__ = ["Outcomes"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """What the constraints on outcomes of a pipeline are about, in the trials that have ended.

    Attributes:
        stages: What the trials, n of them, recorded of the stages.
    """

    stages: StageRecords

    @cached_property
    def observed(self) -> tuple[Observed, ...]:
        """The outcome of each constraint, J of them.

        An outcome comes from the first stage that shows it, or otherwise from the last one.
        """
        constraints = self.stages.pipeline.outcome_constraints
        if not constraints:
            return ()
        last = len(self.stages.pipeline.stages) - 1
        metrics = [trial.user_attrs.get("metrics") or {} for trial in self.stages.trials]
        found = []
        for constraint in constraints:
            name = constraint.name
            values = np.array([each.get(name, math.nan) for each in metrics], dtype=np.float64)
            shown = [o for flat, o in self.stages.observations.items() if names_entry(flat, name)]
            for each in shown:
                values = np.where(np.isnan(values), each.values, values)
            stage = min((each.stage for each in shown), default=last)
            found.append(Observed(stage, values))
        return tuple(found)

    @cached_property
    def violations(self) -> Array:
        """How far outcomes are beyond their limits, `n x J`; NaN where that is not known."""
        limits = zip(self.stages.pipeline.outcome_constraints, self.observed, strict=True)
        columns = [
            each.values - limit.limit if limit.is_upper else limit.limit - each.values
            for limit, each in limits
        ]
        return np.array(columns, dtype=np.float64).reshape(len(columns), len(self.stages.trials)).T
