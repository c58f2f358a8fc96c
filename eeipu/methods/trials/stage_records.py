"""What trials have recorded of their stages: costs, keys, and what was observed of outputs.

Notation:
    n: trials that have ended; K: stages.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from eeipu.pipeline import Pipeline
from eeipu.stages.runs import noted_observations

__all__ = ["Observed", "StageRecords"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Observed:
    """A number that was observed of a stage's output, in each trial.

    Attributes:
        stage: The index of the stage.
        values: `n`; NaN where nothing is known.
    """

    stage: int
    values: Array


@dataclass(frozen=True)
class StageRecords:
    """What the trials that have ended recorded of each stage of a pipeline.

    Attributes:
        pipeline: The pipeline.
        trials: The trials, n of them.
        interrupted: The trials that were cut off. The stages that they finished are known, too.
        former: Pairs of a number and the names of the stages that all trials before it had.
    """

    pipeline: Pipeline
    trials: Sequence[FrozenTrial]
    interrupted: Sequence[FrozenTrial]
    former: tuple[tuple[int, tuple[str, ...]], ...]

    def names_of(self, trial: FrozenTrial) -> tuple[str, ...]:
        """The names of the stages that a trial had."""
        names = self.pipeline.stage_names
        return next((stages for end, stages in self.former if trial.number < end), names)

    def _noted(self, trial: FrozenTrial, attr: str) -> list[Any]:
        """What a trial noted for each stage of this pipeline; `None` where it noted nothing."""
        names = self.pipeline.stage_names
        noted = trial.user_attrs.get(attr) or ()
        then = self.names_of(trial)
        if len(noted) != len(then):
            return [None] * len(names)
        by_name = dict(zip(then, noted, strict=True))
        return [by_name.get(name) for name in names]

    @cached_property
    def _keys(self) -> list[list[str | None]]:
        """The content keys of the stages' outputs, `n x K`."""
        return [self._noted(trial, "stage_keys") for trial in self.trials]

    def _known_by_key(self, column: Array, k: int) -> Array:
        """Fill the gaps that reused stages leave in what is known of stage `k`, `n`.

        A gap gets the entry of the first trial that has one for the same output.
        """
        known: dict[str, float] = {}
        filled = column.copy()
        for i, keys in enumerate(self._keys):
            key = keys[k]
            if key is not None and math.isnan(filled[i]):
                filled[i] = known.get(key, math.nan)
            elif key is not None:
                filled[i] = known.setdefault(key, filled[i])
        return filled

    # --- Costs

    @cached_property
    def costs(self) -> Array:
        """The stages' true costs, `n x K`; NaN where a stage was not executed or broke off."""
        costs = np.array([self._costs_of(trial) for trial in self.trials], dtype=np.float64)
        # The stages that a trial finished before it was cut off are reused when it runs again.
        left = {
            key: cost
            for trial in self.interrupted
            for key, cost in zip(
                self._noted(trial, "stage_keys"), self._costs_of(trial), strict=True
            )
            if key is not None and not math.isnan(cost)
        }
        for keys, row in zip(self._keys, costs, strict=True):
            for k, key in enumerate(keys):
                if math.isnan(row[k]):
                    row[k] = left.pop(key, math.nan)
        return costs.reshape(len(self.trials), len(self.pipeline.stages))

    def _costs_of(self, trial: FrozenTrial) -> list[float]:
        names = self.pipeline.stage_names
        recorded = self._noted(trial, "stage_costs")
        # The cost of a stage that broke off says nothing about the cost of a whole run of it.
        attrs = trial.user_attrs
        broken = attrs.get("failed_stage", attrs.get("pruned_stage"))
        return [
            math.nan if cost is None or name == broken else cost
            for name, cost in zip(names, recorded, strict=True)
        ]

    @cached_property
    def total_costs(self) -> Array:
        """The total costs of the stages, `n`; NaN where a stage's cost is not known.

        A reused stage counts with the cost of the trial that executed it, and one that the
        configuration leaves out with nothing.
        """
        are_left_out = self._are_left_out
        costs = [
            np.where(are_left_out[:, k], 0.0, self._known_by_key(column, k))
            for k, column in enumerate(self.costs.T)
        ]
        return np.array([math.fsum(row) for row in zip(*costs, strict=True)], dtype=np.float64)

    @property
    def _are_left_out(self) -> Flags:
        """Which stages the trials' configurations leave out, `n x K`."""
        chosen_by = self.pipeline.layout.chosen_by
        found = [
            [any(trial.params[name] != choice for name, choice in each) for each in chosen_by]
            for trial in self.trials
        ]
        shape = len(self.trials), len(self.pipeline.stages)
        return np.array(found, dtype=np.bool_).reshape(shape)

    # --- Outputs

    @cached_property
    def observations(self) -> dict[str, Observed]:
        """What was observed of the stages' outputs, by flat names such as `"train.loss"`.

        Where a trial has noted nothing of an output, it has what is known from another trial with
        the same output.
        """
        noted = [noted_observations(t.user_attrs, self.names_of(t)) for t in self.trials]
        places = {name: k for k, name in enumerate(self.pipeline.stage_names)}
        columns: dict[str, Observed] = {}
        for name in dict.fromkeys(name for each in noted for name in each):
            k = places.get(name.partition(".")[0])
            if k is not None:
                column = np.array([each.get(name, math.nan) for each in noted], dtype=np.float64)
                columns[name] = Observed(k, self._known_by_key(column, k))
        return columns

    @property
    def outputs(self) -> Array:
        """The outputs of all stages but the last, `n x (K - 1)`; NaN where one is not a number.

        What an observer says of an output is not the output, from which the next stage goes on.
        """
        stages, observations = self.pipeline.stages[:-1], self.observations
        outputs = np.full((len(self.trials), len(stages)), math.nan)
        for k, stage in enumerate(stages):
            is_observed = stage.name in observations
            if is_observed and stage.function is not None and stage.observe is None:
                outputs[:, k] = observations[stage.name].values
        return outputs
