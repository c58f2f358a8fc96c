"""The trials of a study as arrays.

Notation:
    n: trials that have run, successfully or not.
    d: hyper-parameters.
    K: stages.
    M: objectives.
    J: constraints on outcomes.
    X: `n x d`, points of the unit cube.
    values: `n`, objective values, *maximised*; NaN where the trial failed or was pruned.
    stage_costs: `n x K`, true costs; NaN where a stage was not executed or failed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from operator import is_
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.budget import STUDY_ID, spent
from eeipu.methods.forgotten_failures import forgotten_failures
from eeipu.methods.ledger import CHANGES, Ledger, identity, is_suspended, values_of
from eeipu.methods.several_objectives.fronts import best_first
from eeipu.pipeline import Pipeline
from eeipu.space import Params
from eeipu.stages.running.outcomes import names_entry
from eeipu.stages.runs import noted_observations

__all__ = ["History", "Observed"]

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


# It has many methods, and each is one small array or question that models and methods ask for.
@dataclass(frozen=True)
class History:
    """The trials of a study that have a configuration of a pipeline.

    Attributes:
        pipeline: The pipeline that is tuned.
        ended: The trials that succeeded, failed or were pruned, by number.
        running: The trials that have a configuration but no result yet.
        interrupted: The trials that were cut off; they run again under other numbers.
        waiting: The trials that are enqueued with a configuration, and that nobody has begun.
        forgotten: The trials whose failure no longer counts; they may run again.
        spent: The cost charged to the budget so far, for all trials of the study.
        are_minimized: Whether the study minimises each of its objectives, whose values change sign
            here if so.
        left_out: The trials that ended and have no configuration of this pipeline, with the reason.
        study_id: The study's own name, where it has one.
        stages: Pairs of a number and the names of the stages of all trials before that number.
        ledger: What is remembered of them, which goes on with the study.
        objective: Which of several objectives `values` are those of.
    """

    pipeline: Pipeline
    ended: tuple[FrozenTrial, ...]
    running: tuple[FrozenTrial, ...]
    interrupted: tuple[FrozenTrial, ...]
    spent: float
    are_minimized: tuple[bool, ...]
    waiting: tuple[FrozenTrial, ...] = ()
    forgotten: tuple[FrozenTrial, ...] = ()
    left_out: tuple[tuple[FrozenTrial, str], ...] = ()
    study_id: str | None = None
    stages: tuple[tuple[int, tuple[str, ...]], ...] = ()
    ledger: Ledger | None = field(default=None, repr=False, compare=False)
    objective: int = 0

    @classmethod
    def of(
        cls,
        study: optuna.Study,
        pipeline: Pipeline,
        trials: Sequence[FrozenTrial] | None = None,
        ledger: Ledger | None = None,
    ) -> "History":
        """Read a study. Trials without a whole configuration of this pipeline are left out.

        Trials may have parameters besides the pipeline's, which plain Optuna users suggest.

        Args:
            study: The study.
            pipeline: The pipeline that it tunes.
            trials: All trials of the study, if the caller has just read them.
            ledger: The ledger of this study and pipeline, if it is read more than once.
        """
        if trials is None:
            trials = study.get_trials(deepcopy=False)
        ledger = Ledger(pipeline) if ledger is None else ledger
        told = study.user_attrs
        changes, study_id = told.get(CHANGES, {}), told.get(STUDY_ID)
        with ledger.lock:
            ledger.read(trials, study_id, changes)
            ended, running, by_end = ledger.ended, ledger.running, ledger.sorted
            interrupted, waiting = tuple(by_end.interrupted), tuple(by_end.waiting)
            left_out, charged, has_failures = tuple(by_end.left_out), ledger.spent, ledger.failures
        gone = forgotten_failures(told, pipeline, ended) if has_failures else set()
        return cls(
            pipeline,
            tuple(trial for trial in ended if trial.number not in gone) if gone else ended,
            running,
            interrupted,
            charged,
            tuple(direction is StudyDirection.MINIMIZE for direction in study.directions),
            waiting,
            tuple(trial for trial in ended if trial.number in gone) if gone else (),
            left_out,
            study_id,
            tuple((number, tuple(names)) for number, names in changes.get("stages", ())),
            ledger,
        )

    @cached_property
    def _remembered(self) -> int:
        """How many of the first trials are those of the ledger, which goes on with the study."""
        if self.ledger is None:
            return 0
        return sum(takewhile(bool, map(is_, self.ended, self.ledger.sorted.ended)))

    def __len__(self) -> int:
        return len(self.ended)

    @cached_property
    def X(self) -> Array:  # noqa: N802
        """The configurations that have run, `n x d`."""
        encode, count = self.pipeline.cube.encode, self._remembered
        others = encode([trial.params for trial in self.ended[count:]])
        return others if self.ledger is None else np.concatenate([self.ledger.X(count), others])

    @property
    def is_minimized(self) -> bool:
        """Whether the study minimises the objective of `values`."""
        return self.are_minimized[self.objective]

    @property
    def has_several_objectives(self) -> bool:
        """Whether there are several objectives."""
        return len(self.are_minimized) > 1

    @cached_property
    def objectives(self) -> Array:
        """Their values of all objectives, `n x M`; NaN where `values` are."""
        count, M = self._remembered, len(self.are_minimized)
        known = [] if self.ledger is None else self.ledger.values(count)
        rows = [*known, *map(values_of, self.ended[count:])]
        unknown = (math.nan,) * M
        values = np.array([row if len(row) == M else unknown for row in rows], dtype=np.float64)
        values = values.reshape(len(rows), M) * np.where(self.are_minimized, -1.0, 1.0)
        finite: Array = np.where(np.isfinite(values).all(axis=1, keepdims=True), values, math.nan)
        return finite

    @property
    def values(self) -> Array:
        """Their objective values, `n`; NaN for failed and pruned trials, and infinite values."""
        return self.objectives[:, self.objective]

    @cached_property
    def succeeded(self) -> Flags:
        """Which of them have a finite value, `n`."""
        return ~np.isnan(self.values)

    @cached_property
    def failed(self) -> Flags:
        """Which of them failed, `n`; pruned trials have neither failed nor succeeded."""
        pruned = [trial.state is TrialState.PRUNED for trial in self.ended]
        return ~self.succeeded & ~np.array(pruned, dtype=np.bool_)

    @property
    def suspended(self) -> tuple[FrozenTrial, ...]:
        """The trials that were stopped after a stage; see `eeipu.methods.suspension`."""
        return tuple(filter(is_suspended, self.ended))

    @cached_property
    def estimates(self) -> Array:
        """`values`, with a guess for pruned trials, `n`.

        A pruned trial reported something before it was found to be no good. The guess is the last
        value that it reported, but not better than half of the trials that have a value, nor worse
        than all of them. Without a report it is NaN.
        """
        estimates = self.values.copy()
        if not self.succeeded.any():
            return estimates
        sign = -1.0 if self.is_minimized else 1.0
        worst, middle = np.nanmin(self.values), np.nanmedian(self.values)
        for i, trial in enumerate(self.ended):
            if trial.state is TrialState.PRUNED and trial.intermediate_values:
                reported = sign * trial.intermediate_values[max(trial.intermediate_values)]
                estimates[i] = (
                    reported if math.isnan(reported) else min(max(reported, worst), middle)
                )
        return estimates

    @cached_property
    def stage_costs(self) -> Array:
        """Their stages' true costs, `n x K`."""
        costs = np.array([self._costs_of(trial) for trial in self.ended], dtype=np.float64)
        # The stages that a trial finished before it was cut off are reused when it runs again.
        left = {
            key: cost
            for trial in self.interrupted
            for key, cost in zip(
                self._of_stages(trial, "stage_keys"), self._costs_of(trial), strict=True
            )
            if key is not None and not math.isnan(cost)
        }
        for trial, row in zip(self.ended, costs, strict=True):
            for k, key in enumerate(self._of_stages(trial, "stage_keys")):
                if math.isnan(row[k]):
                    row[k] = left.pop(key, math.nan)
        return costs.reshape(len(self.ended), len(self.pipeline.stages))

    def _costs_of(self, trial: FrozenTrial) -> list[float]:
        names = self.pipeline.stage_names
        recorded = self._of_stages(trial, "stage_costs")
        # The cost of a stage that broke off says nothing about the cost of a whole run of it.
        attrs = trial.user_attrs
        broken = attrs.get("failed_stage", attrs.get("pruned_stage"))
        return [
            math.nan if cost is None or name == broken else cost
            for name, cost in zip(names, recorded, strict=True)
        ]

    @cached_property
    def _is_left_out(self) -> Flags:
        """Which stages their configurations leave out, `n x K`."""
        chosen_by = self.pipeline.layout.chosen_by
        found = [
            [any(trial.params[name] != choice for name, choice in each) for each in chosen_by]
            for trial in self.ended
        ]
        shape = len(self.ended), len(self.pipeline.stages)
        return np.array(found, dtype=np.bool_).reshape(shape)

    @cached_property
    def total_costs(self) -> Array:
        """The total costs of their stages, `n`; NaN where a stage's cost is not known.

        A reused stage counts with the cost of the trial that executed it, and one that the
        configuration leaves out with nothing.
        """
        costs = [
            np.where(self._is_left_out[:, k], 0.0, self._known_by_key(column, k))
            for k, column in enumerate(self.stage_costs.T)
        ]
        return np.array([math.fsum(row) for row in zip(*costs, strict=True)], dtype=np.float64)

    @cached_property
    def observations(self) -> dict[str, Observed]:
        """What was observed of their stages' outputs, by flat names such as `"train.loss"`.

        Where a trial has noted nothing of an output, it has what is known from another trial with
        the same output.
        """
        noted = [noted_observations(t.user_attrs, self.stages_of(t)) for t in self.ended]
        places = {name: k for k, name in enumerate(self.pipeline.stage_names)}
        columns: dict[str, Observed] = {}
        for name in dict.fromkeys(name for each in noted for name in each):
            k = places.get(name.partition(".")[0])
            if k is not None:
                column = np.array([each.get(name, math.nan) for each in noted], dtype=np.float64)
                columns[name] = Observed(k, self._known_by_key(column, k))
        return columns

    @cached_property
    def stage_values(self) -> Array:
        """The outputs of their stages, `n x K`; NaN for an output that is not a number.

        What an observer says of an output is not the output, from which the next stage goes on. The
        last column holds the objective.
        """
        stages = self.pipeline.stages
        values = np.full((len(self.ended), len(stages)), math.nan)
        for k, stage in enumerate(stages):
            if (
                stage.name in self.observations
                and stage.function is not None
                and stage.observe is None
            ):
                values[:, k] = self.observations[stage.name].values
        values[:, -1] = self.values
        return values

    @cached_property
    def outcomes(self) -> tuple[Observed, ...]:
        """What the constraints on outcomes are about, J entries.

        An outcome comes from the first stage that shows it, or otherwise from the last one.
        """
        if not self.pipeline.outcome_constraints:
            return ()
        last = len(self.pipeline.stages) - 1
        metrics = [trial.user_attrs.get("metrics") or {} for trial in self.ended]
        found = []
        for constraint in self.pipeline.outcome_constraints:
            name = constraint.name
            values = np.array([each.get(name, math.nan) for each in metrics], dtype=np.float64)
            shown = [o for flat, o in self.observations.items() if names_entry(flat, name)]
            for each in shown:
                values = np.where(np.isnan(values), each.values, values)
            stage = min((each.stage for each in shown), default=last)
            found.append(Observed(stage, values))
        return tuple(found)

    @cached_property
    def violations(self) -> Array:
        """How far their outcomes are beyond their limits, `n x J`; NaN where that is not known."""
        limits = zip(self.pipeline.outcome_constraints, self.outcomes, strict=True)
        columns = [
            each.values - limit.limit if limit.is_upper else limit.limit - each.values
            for limit, each in limits
        ]
        return np.array(columns, dtype=np.float64).reshape(len(columns), len(self.ended)).T

    @cached_property
    def feasible(self) -> Flags:
        """Which of them succeeded and are not known to be beyond a limit, `n`."""
        return self.succeeded & ~(self.violations > 0).any(axis=1)

    def stages_of(self, trial: FrozenTrial) -> tuple[str, ...]:
        """The names of the stages that a trial had."""
        names = self.pipeline.stage_names
        return next((stages for end, stages in self.stages if trial.number < end), names)

    def _of_stages(self, trial: FrozenTrial, attr: str) -> list[Any]:
        """What a trial noted for each stage of this pipeline; `None` where it noted nothing."""
        names = self.pipeline.stage_names
        noted = trial.user_attrs.get(attr) or ()
        then = self.stages_of(trial)
        if len(noted) != len(then):
            return [None] * len(names)
        by_name = dict(zip(then, noted, strict=True))
        return [by_name.get(name) for name in names]

    @cached_property
    def _stage_keys(self) -> list[list[str | None]]:
        """The content keys of their stages' outputs."""
        return [self._of_stages(trial, "stage_keys") for trial in self.ended]

    def _known_by_key(self, column: Array, k: int) -> Array:
        """Fill the gaps that reused stages leave in what is known of stage `k`, `n`.

        A gap gets the entry of the first trial that has one for the same output.
        """
        known: dict[str, float] = {}
        filled = column.copy()
        for i, keys in enumerate(self._stage_keys):
            key = keys[k]
            if key is not None and math.isnan(filled[i]):
                filled[i] = known.get(key, math.nan)
            elif key is not None:
                filled[i] = known.setdefault(key, filled[i])
        return filled

    @cached_property
    def running_X(self) -> Array:  # noqa: N802
        """The configurations that are running, `m x d`."""
        return self.pipeline.cube.encode([trial.params for trial in self.running])

    @cached_property
    def configurations(self) -> frozenset[tuple[float, ...]]:
        """All configurations that have run or are running, as hashable values.

        One that was suspended on the way is not among them: it may be gone on with.
        """
        count = self._remembered
        known = [] if self.ledger is None else self.ledger.identities(count)
        trials = (*self.ended, *self.running)
        others = (identity(trial.params, self.pipeline) for trial in trials[count:])
        keys = zip((*known, *others), trials, strict=True)
        return frozenset(key for key, trial in keys if not is_suspended(trial))

    @cached_property
    def _coming(self) -> frozenset[tuple[float, ...]]:
        """The configurations that will run without being chosen, as hashable values.

        They are those that are enqueued. What was cut off is one of them even before it is: its
        driver closes the trial first, and then enqueues it again.
        """
        last_forgotten = {identity(t.params, self.pipeline): t.number for t in self.forgotten}
        cut_off = {identity(t.params, self.pipeline): t.number for t in self.interrupted}
        return frozenset(
            [
                *(identity(trial.params, self.pipeline) for trial in self.waiting),
                *(key for key, number in cut_off.items() if number > last_forgotten.get(key, -1)),
            ]
        )

    def is_new(self, params: Params) -> bool:
        """Whether a configuration has not run, does not run, and is not enqueued to run."""
        key = identity(params, self.pipeline)
        return not self._has(key) and key not in self._coming

    def _has(self, key: tuple[float, ...]) -> bool:
        """Whether a configuration is one of `configurations`."""
        if self.ledger is not None and "configurations" not in vars(self):
            with self.ledger.lock:
                if self.ended is self.ledger.ended and self.running is self.ledger.running:
                    return self.ledger.has(key)
        return key in self.configurations

    @property
    def is_exhausted(self) -> bool:
        """Whether every configuration of a finite space has run or is running."""
        size = self.pipeline.cube.size
        if size is None or len(self.ended) + len(self.running) < size:
            return False
        return len(self.configurations) >= size

    @cached_property
    def best_first(self) -> NDArray[np.intp]:
        """The trials that succeeded, the best one first; see `eeipu.methods.several_objectives`."""
        return best_first(self.objectives, self.violations)

    def top(self, q: int) -> tuple[FrozenTrial, ...]:
        """The best `q` trials that succeeded, best first; see `best_first`."""
        return tuple(self.ended[i] for i in self.best_first[:q])

    def spent_by(self, count: int) -> float:
        """The cost charged for the first `count` trials and all that were enqueued as warm-up."""
        warm_up = [
            trial
            for position, trial in enumerate(self.ended)
            if position < count or trial.user_attrs.get("warm_up")
        ]
        return spent(warm_up, self.study_id)
