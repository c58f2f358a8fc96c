"""The objective values of trials.

Notation:
    n: trials that have ended; M: objectives.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

__all__ = ["Objectives"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Objectives:
    """The objective values of the trials that have ended, all of them maximised.

    Attributes:
        trials: The trials, n of them.
        told: The values as the study has them, `n x M`; NaN for failed and pruned trials.
        are_minimized: Whether the study minimises each of its objectives.
    """

    trials: Sequence[FrozenTrial]
    told: Array
    are_minimized: tuple[bool, ...]

    @property
    def are_several(self) -> bool:
        """Whether there is more than one objective."""
        return len(self.are_minimized) > 1

    @property
    def signs(self) -> Array:
        """What the study's values are multiplied with, `M`: -1 where it minimises, otherwise 1."""
        return np.where(self.are_minimized, -1.0, 1.0)

    @cached_property
    def values(self) -> Array:
        """The values of all objectives, `n x M`.

        All values of a trial are NaN if it failed or was pruned, or if one of them is not finite.
        """
        values = self.told * self.signs
        finite: Array = np.where(np.isfinite(values).all(axis=1, keepdims=True), values, math.nan)
        return finite

    @cached_property
    def succeeded(self) -> Flags:
        """Which trials have finite values, `n`."""
        known: Flags = ~np.isnan(self.values[:, 0])
        return known

    @cached_property
    def failed(self) -> Flags:
        """Which trials failed, `n`; a pruned trial has neither failed nor succeeded."""
        pruned = [trial.state is TrialState.PRUNED for trial in self.trials]
        return ~self.succeeded & ~np.array(pruned, dtype=np.bool_)

    def estimates(self, objective: int) -> Array:
        """The values of one objective, with a guess for each pruned trial, `n`.

        A pruned trial reported something before it was found to be no good. The guess is the last
        value that it reported, but not better than half of the trials that have a value, nor worse
        than all of them. It is NaN if the trial reported nothing.

        Args:
            objective: The index of the objective.
        """
        estimates = self.values[:, objective].copy()
        if not self.succeeded.any():
            return estimates
        sign = self.signs[objective]
        worst, middle = np.nanmin(estimates), np.nanmedian(estimates)
        for i, trial in enumerate(self.trials):
            if trial.state is TrialState.PRUNED and trial.intermediate_values:
                reported = sign * trial.intermediate_values[max(trial.intermediate_values)]
                estimates[i] = (
                    reported if math.isnan(reported) else min(max(reported, worst), middle)
                )
        return estimates
