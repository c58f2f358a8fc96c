"""The trials of a study as arrays.

Notation:
    n: trials that have run, successfully or not.
    d: hyper-parameters.
    K: stages.
    X: `n x d`, points of the unit cube.
    values: `n`, objective values, *maximised*; NaN where the trial failed or was pruned.
    stage_costs: `n x K`, true costs; NaN where a stage was not executed or failed.
"""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from operator import is_
from threading import RLock
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.budget import STUDY_ID, spent
from eeipu.pipeline import Pipeline
from eeipu.space import Params
from eeipu.stages.runs import error_line

__all__ = ["CHANGES", "FORGET", "FORGOTTEN", "History", "Ledger", "is_interrupted"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# The study's user attributes that say which failures no longer count: the numbers of trials, and
# texts in their errors.
FORGOTTEN = "eeipu:forgotten"
FORGET = "eeipu:forget"

# The study's user attribute with what its trials lack since its pipeline has changed: "defaults",
# values of parameters that came later; "removed", parameters that are gone, with the values that
# they have now; "stages", pairs of a number and the names of the stages of trials before it.
CHANGES = "eeipu:changes"

# At least this many failures with the same error, which came one after another and ended, are taken
# for a fault of the surroundings if they are scattered: if the mean variance of their coordinates
# is at least this share of that of a uniform distribution.
LEAST_ALIKE = 3
SCATTERED = 0.5


def is_interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial was cut off by the user or by the end of its driver, not by an error."""
    attrs = trial.user_attrs
    cut_off = "interrupted" in attrs or ("driver" in attrs and "error" not in attrs)
    return trial.state is TrialState.FAIL and cut_off


class Ledger:
    """The trials of a study that have ended, each looked at once however often the study is read.

    Trials that have ended never change, and a storage hands out the same objects again. The ledger
    remembers those before the first one that has not ended, and what a history needs of them.

    Args:
        pipeline: The pipeline that the study tunes.

    Attributes:
        ended: The remembered trials that succeeded, failed or were pruned, by number.
        interrupted: The remembered trials that were cut off.
        left_out: The remembered trials that have no configuration of the pipeline, with the reason.
        charges: What was charged for each remembered trial.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        # A trial may be chosen on one thread while another one adds up what is spent.
        self.lock = RLock()
        self._study_id: str | None = None
        self._changes: Mapping[str, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._trials: list[FrozenTrial] = []
        self.ended: list[FrozenTrial] = []
        self.interrupted: list[FrozenTrial] = []
        self.left_out: list[tuple[FrozenTrial, str]] = []
        self.charges: list[float] = []
        self._X = np.empty((0, len(self.pipeline.cube)))
        self._values: list[float] = []
        self._identities: list[tuple[float, ...]] = []

    def read(
        self, trials: Sequence[FrozenTrial], study_id: str | None, changes: Mapping[str, Any]
    ) -> Sequence[FrozenTrial]:
        """Remember what has ended, of all trials of the study. Call it while holding the lock.

        Args:
            trials: All trials of the study.
            study_id: The study's own name, where it has one.
            changes: What has changed since the first trials; see `CHANGES`.

        Returns:
            The other trials.
        """
        is_other = (study_id, changes) != (self._study_id, self._changes)
        if is_other or len(trials) < len(self._trials) or not all(map(is_, self._trials, trials)):
            self._forget()
            self._study_id, self._changes = study_id, changes
        seen = len(self._trials)
        new = list(takewhile(lambda trial: trial.state.is_finished(), trials[seen:]))
        ended, interrupted, left_out = [], [], []
        for trial in new:
            fitted, why = _fitted(trial, self.pipeline, changes)
            if why is not None:
                if trial.state is not TrialState.FAIL:
                    left_out.append((fitted, why))
            elif is_interrupted(trial):
                interrupted.append(fitted)
            else:
                ended.append(fitted)
        self.ended += ended
        self.interrupted += interrupted
        self.left_out += left_out
        self.charges += [spent((trial,), study_id) for trial in new]
        self._trials = [*trials[: seen + len(new)]]
        return self.unended(trials)

    def unended(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """All trials of the study but those that are remembered."""
        return trials[len(self._trials) :]

    def X(self, count: int) -> Array:  # noqa: N802
        """The first of the configurations that have run, `count x d`."""
        with self.lock:
            new = [trial.params for trial in self.ended[len(self._X) : count]]
            if new:
                self._X = np.concatenate([self._X, self.pipeline.cube.encode(new)])
            return self._X[:count]

    def values(self, count: int) -> list[float]:
        """Their values as the study has them; NaN for failed and pruned trials."""
        with self.lock:
            self._values += map(_value, self.ended[len(self._values) : count])
            return self._values[:count]

    def identities(self, count: int) -> list[tuple[float, ...]]:
        """The configurations as hashable values."""
        with self.lock:
            new = self.ended[len(self._identities) : count]
            self._identities += [_identity(trial.params, self.pipeline) for trial in new]
            return self._identities[:count]


@dataclass(frozen=True)
class History:
    """The trials of a study that have a configuration of a pipeline.

    Attributes:
        pipeline: The pipeline that is tuned.
        ended: The trials that succeeded, failed or were pruned, by number.
        running: The trials that have a configuration but no result yet.
        interrupted: The trials that were cut off; they run again under other numbers.
        forgotten: The trials whose failure no longer counts; they may run again.
        spent: The cost charged to the budget so far, for all trials of the study.
        is_minimized: Whether the study minimises; if so, values change sign here.
        left_out: The trials that ended and have no configuration of this pipeline, with the reason.
        study_id: The study's own name, where it has one.
        stages: Pairs of a number and the names of the stages of all trials before that number.
        ledger: What is remembered of the first trials that have ended.
    """

    pipeline: Pipeline
    ended: tuple[FrozenTrial, ...]
    running: tuple[FrozenTrial, ...]
    interrupted: tuple[FrozenTrial, ...]
    spent: float
    is_minimized: bool
    forgotten: tuple[FrozenTrial, ...] = ()
    left_out: tuple[tuple[FrozenTrial, str], ...] = ()
    study_id: str | None = None
    stages: tuple[tuple[int, tuple[str, ...]], ...] = ()
    ledger: Ledger | None = field(default=None, repr=False, compare=False)

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
            others = ledger.read(trials, study_id, changes)
            ended, running, interrupted = list(ledger.ended), [], list(ledger.interrupted)
            left_out, charges = list(ledger.left_out), list(ledger.charges)
        for trial in others:
            state = trial.state
            if state is TrialState.WAITING:
                continue
            trial, why = _fitted(trial, pipeline, changes)
            if why is not None:
                if state in (TrialState.COMPLETE, TrialState.PRUNED):
                    left_out.append((trial, why))
            elif state is TrialState.RUNNING:
                running.append(trial)
            elif is_interrupted(trial):
                interrupted.append(trial)
            else:
                ended.append(trial)
        gone = _gone(told, pipeline, ended)
        return cls(
            pipeline,
            tuple(trial for trial in ended if trial.number not in gone),
            tuple(running),
            tuple(interrupted),
            math.fsum((*charges, spent(others, study_id))),
            study.direction is StudyDirection.MINIMIZE,
            tuple(trial for trial in ended if trial.number in gone),
            tuple(left_out),
            study_id,
            tuple((number, tuple(names)) for number, names in changes.get("stages", ())),
            ledger,
        )

    @cached_property
    def _remembered(self) -> int:
        """How many of the first trials are those of the ledger, which goes on with the study."""
        if self.ledger is None:
            return 0
        return sum(takewhile(bool, map(is_, self.ended, self.ledger.ended)))

    def __len__(self) -> int:
        return len(self.ended)

    @cached_property
    def X(self) -> Array:  # noqa: N802
        """The configurations that have run, `n x d`."""
        encode, count = self.pipeline.cube.encode, self._remembered
        others = encode([trial.params for trial in self.ended[count:]])
        return others if self.ledger is None else np.concatenate([self.ledger.X(count), others])

    @cached_property
    def values(self) -> Array:
        """Their objective values, `n`; NaN for failed and pruned trials, and infinite values."""
        count = self._remembered
        known = [] if self.ledger is None else self.ledger.values(count)
        values = np.array([*known, *map(_value, self.ended[count:])], dtype=np.float64)
        values *= -1.0 if self.is_minimized else 1.0
        return np.where(np.isfinite(values), values, math.nan)

    @cached_property
    def succeeded(self) -> Flags:
        """Which of them have a finite value, `n`."""
        return ~np.isnan(self.values)

    @cached_property
    def failed(self) -> Flags:
        """Which of them failed, `n`; pruned trials have neither failed nor succeeded."""
        pruned = [trial.state is TrialState.PRUNED for trial in self.ended]
        return ~self.succeeded & ~np.array(pruned, dtype=np.bool_)

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
    def total_costs(self) -> Array:
        """The total costs of their stages, `n`; NaN where a stage's cost is not known.

        A reused stage counts with the cost of the trial that executed it.
        """
        costs = self._known_by_key(self.stage_costs)
        return np.array([math.fsum(row) for row in costs], dtype=np.float64)

    @cached_property
    def stage_values(self) -> Array:
        """The outputs of their stages, `n x K`; NaN for an output that is not a number.

        The last column holds the objective.
        """
        recorded = [self._of_stages(trial, "stage_values") for trial in self.ended]
        shape = len(self.ended), len(self.pipeline.stages)
        values = np.array(recorded, dtype=np.float64).reshape(shape)
        values = self._known_by_key(values)
        values[:, -1] = self.values
        return values

    def _of_stages(self, trial: FrozenTrial, attr: str) -> list[Any]:
        """What a trial noted for each stage of this pipeline; `None` where it noted nothing."""
        names = self.pipeline.stage_names
        noted = trial.user_attrs.get(attr) or ()
        then = next((stages for end, stages in self.stages if trial.number < end), names)
        if len(noted) != len(then):
            return [None] * len(names)
        by_name = dict(zip(then, noted, strict=True))
        return [by_name.get(name) for name in names]

    def _known_by_key(self, table: Array) -> Array:
        """Fill the gaps that reused stages leave in an `n x K` table.

        A gap gets the entry of the trial that executed the stage.
        """
        known: dict[str, float] = {}
        filled = table.copy()
        for trial, row in zip(self.ended, filled, strict=True):
            for k, key in enumerate(self._of_stages(trial, "stage_keys")):
                if key is None:
                    continue
                row[k] = (
                    known.setdefault(key, row[k])
                    if not math.isnan(row[k])
                    else known.get(key, row[k])
                )
        return filled

    @cached_property
    def running_X(self) -> Array:  # noqa: N802
        """The configurations that are running, `m x d`."""
        return self.pipeline.cube.encode([trial.params for trial in self.running])

    @cached_property
    def configurations(self) -> frozenset[tuple[float, ...]]:
        """All configurations that have run or are running, as hashable values."""
        count = self._remembered
        known = [] if self.ledger is None else self.ledger.identities(count)
        others = (*self.ended[count:], *self.running)
        return frozenset((*known, *(_identity(trial.params, self.pipeline) for trial in others)))

    def is_new(self, params: Params) -> bool:
        """Whether a configuration has neither run nor is running."""
        return _identity(params, self.pipeline) not in self.configurations

    @property
    def is_exhausted(self) -> bool:
        """Whether every configuration of a finite space has run or is running."""
        size = self.pipeline.cube.size
        return size is not None and len(self.configurations) >= size

    def top(self, q: int) -> tuple[FrozenTrial, ...]:
        """The best `q` trials that succeeded, best first; earlier trials win ties."""
        order = np.argsort(-self.values, kind="stable")  # NaN sorts last
        return tuple(self.ended[i] for i in order[:q] if not math.isnan(self.values[i]))

    def spent_by(self, count: int) -> float:
        """The cost charged for the first `count` trials and all that were enqueued as warm-up."""
        warm_up = [
            trial
            for position, trial in enumerate(self.ended)
            if position < count or trial.user_attrs.get("warm_up")
        ]
        return spent(warm_up, self.study_id)


def _fitted(
    trial: FrozenTrial, pipeline: Pipeline, changes: Mapping[str, Any]
) -> tuple[FrozenTrial, str | None]:
    """A trial with a whole configuration of a pipeline, or why it has none.

    Args:
        trial: The trial.
        pipeline: The pipeline.
        changes: What has changed since; see `CHANGES`.
    """
    params = trial.params
    for name, values in changes.get("removed", {}).items():
        if name in params and params[name] not in values:
            return trial, f"{name} is gone"
    defaults = changes.get("defaults", {})
    if defaults and not defaults.keys() <= params.keys():
        trial = copy(trial)
        trial.params = {**defaults, **params}
    elif trial.distributions == pipeline.space:  # which is quickly seen, and nearly always so
        return trial, None
    return trial, pipeline.cube.misfit(trial.params)


def _gone(told: Mapping[str, Any], pipeline: Pipeline, ended: Sequence[FrozenTrial]) -> set[int]:
    """The numbers of the failed trials whose failure says nothing about further trials.

    They are those that the user has told to forget, those of code that has changed since, and those
    that came one after another with the same error at scattered places, and then came no more.

    Args:
        told: The study's user attributes.
        pipeline: The pipeline that it tunes.
        ended: Its trials that have ended.
    """
    failed = [trial for trial in ended if trial.state is TrialState.FAIL]
    if not failed:
        return set()
    texts = told.get(FORGET, ())
    gone = set(told.get(FORGOTTEN, ()))
    alike: dict[tuple[str | None, str], list[FrozenTrial]] = {}
    for trial in failed:
        attrs = trial.user_attrs
        error, stage = attrs.get("error", ""), attrs.get("failed_stage")
        code = attrs.get("failed_code")
        if any(text in error for text in texts) or (
            code is not None and code != pipeline.code_up_to(stage)
        ):
            gone.add(trial.number)
        elif error:
            alike.setdefault((stage, error_line(error)), []).append(trial)
    successes = [trial.number for trial in ended if trial.state is TrialState.COMPLETE]
    for group in alike.values():
        first, last = group[0].number, group[-1].number
        has_ended = any(number > last for number in successes)
        is_unbroken = not any(first < number < last for number in successes)
        if has_ended and is_unbroken and _are_scattered(group, pipeline):
            gone.update(trial.number for trial in group)
    return gone


def _are_scattered(group: Sequence[FrozenTrial], pipeline: Pipeline) -> bool:
    """Whether trials are spread over the whole space, so that no region of it is their cause."""
    if len(group) < LEAST_ALIKE:
        return False
    X = pipeline.cube.encode([trial.params for trial in group])
    spread = 12.0 * X.var(axis=0, ddof=1)
    for column in pipeline.cube.categorical_columns:
        spread[column] = len(np.unique(X[:, column])) > 1
    several = [cells != 1 for cells in pipeline.cube.cells]
    return bool(several and np.mean(spread[several].clip(max=1.0)) >= SCATTERED)


def _value(trial: FrozenTrial) -> float:
    return trial.values[0] if trial.state is TrialState.COMPLETE else math.nan


def _identity(params: Params, pipeline: Pipeline) -> tuple[float, ...]:
    """A configuration as a hashable value: choices, which may be any objects, by their index."""
    return tuple(
        distribution.to_internal_repr(params[name]) for name, distribution in pipeline.space.items()
    )
