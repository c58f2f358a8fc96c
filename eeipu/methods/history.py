"""The trials of a study as arrays.

Notation:
    n: trials that have run, successfully or not.
    d: hyper-parameters.
    K: stages.
    X: `n x d`, points of the unit cube.
    values: `n`, objective values, *maximised*; NaN where the trial failed.
    stage_costs: `n x K`, true costs; NaN where a stage was not executed or failed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from operator import is_

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.budget import spent
from eeipu.pipeline import Pipeline
from eeipu.space import Params

__all__ = ["History", "Ledger", "is_interrupted"]

Array = NDArray[np.float64]


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
        charges: What was charged for each remembered trial.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._names = pipeline.space.keys()
        self._forget()

    def _forget(self) -> None:
        self._trials: list[FrozenTrial] = []
        self.ended: list[FrozenTrial] = []
        self.interrupted: list[FrozenTrial] = []
        self.charges: list[float] = []
        self._X = np.empty((0, len(self.pipeline.cube)))
        self._values: list[float] = []
        self._identities: list[tuple[float, ...]] = []

    def read(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """Remember what has ended, of all trials of the study.

        Returns:
            The other trials.
        """
        if len(trials) < len(self._trials) or not all(map(is_, self._trials, trials)):
            self._forget()
        seen = len(self._trials)
        new = list(takewhile(lambda trial: trial.state.is_finished(), trials[seen:]))
        whole = [trial for trial in new if trial.params.keys() >= self._names]
        # Lists are replaced, not changed: threads may read at once.
        self.ended = self.ended + [trial for trial in whole if not is_interrupted(trial)]
        self.interrupted = self.interrupted + [trial for trial in whole if is_interrupted(trial)]
        self.charges = self.charges + [spent((trial,)) for trial in new]
        self._trials = [*trials[: seen + len(new)]]
        return trials[len(self._trials) :]

    def X(self, count: int) -> Array:  # noqa: N802
        """The first of the configurations that have run, `count x d`."""
        new = [trial.params for trial in self.ended[len(self._X) : count]]
        if new:
            self._X = np.concatenate([self._X, self.pipeline.cube.encode(new)])
        return self._X[:count]

    def values(self, count: int) -> list[float]:
        """Their values as the study has them; NaN for failed and pruned trials."""
        known = self._values
        self._values = known + [_value(trial) for trial in self.ended[len(known) : count]]
        return self._values[:count]

    def identities(self, count: int) -> list[tuple[float, ...]]:
        """The configurations as hashable values."""
        known = self._identities
        new = self.ended[len(known) : count]
        self._identities = known + [_identity(trial.params, self.pipeline) for trial in new]
        return self._identities[:count]


@dataclass(frozen=True)
class History:
    """The trials of a study that have a configuration of a pipeline.

    Attributes:
        pipeline: The pipeline that is tuned.
        ended: The trials that succeeded, failed or were pruned, by number.
        running: The trials that have a configuration but no result yet.
        interrupted: The trials that were cut off; they run again under other numbers.
        spent: The cost charged to the budget so far, for all trials of the study.
        is_minimized: Whether the study minimises; if so, values change sign here.
        ledger: What is remembered of the first trials that have ended.
    """

    pipeline: Pipeline
    ended: tuple[FrozenTrial, ...]
    running: tuple[FrozenTrial, ...]
    interrupted: tuple[FrozenTrial, ...]
    spent: float
    is_minimized: bool
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
        others = ledger.read(trials)
        names = pipeline.space.keys()
        ended, running, interrupted = list(ledger.ended), [], list(ledger.interrupted)
        for trial in others:
            state = trial.state
            if state is TrialState.WAITING or not trial.params.keys() >= names:
                continue
            if state is TrialState.RUNNING:
                running.append(trial)
            elif is_interrupted(trial):
                interrupted.append(trial)
            else:
                ended.append(trial)
        return cls(
            pipeline,
            tuple(ended),
            tuple(running),
            tuple(interrupted),
            math.fsum((*ledger.charges, spent(others))),
            study.direction is StudyDirection.MINIMIZE,
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
    def stage_costs(self) -> Array:
        """Their stages' true costs, `n x K`."""
        costs = np.array([self._costs_of(trial) for trial in self.ended], dtype=np.float64)
        # The stages that a trial finished before it was cut off are reused when it runs again.
        left = {
            key: cost
            for trial in self.interrupted
            for key, cost in zip(
                trial.user_attrs.get("stage_keys", []), self._costs_of(trial), strict=False
            )
            if not math.isnan(cost)
        }
        for trial, row in zip(self.ended, costs, strict=True):
            for k, key in enumerate(trial.user_attrs.get("stage_keys", [])):
                if math.isnan(row[k]):
                    row[k] = left.pop(key, math.nan)
        return costs.reshape(len(self.ended), len(self.pipeline.stages))

    def _costs_of(self, trial: FrozenTrial) -> list[float]:
        names = self.pipeline.stage_names
        recorded = trial.user_attrs.get("stage_costs") or [None] * len(names)
        # The cost of a stage that failed says nothing about the cost of a whole run of it.
        failed = trial.user_attrs.get("failed_stage")
        return [
            math.nan if cost is None or name == failed else cost
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
        names = self.pipeline.stage_names
        recorded = [t.user_attrs.get("stage_values", [None] * len(names)) for t in self.ended]
        values = np.array(recorded, dtype=np.float64).reshape(len(self.ended), len(names))
        values = self._known_by_key(values)
        values[:, -1] = self.values
        return values

    def _known_by_key(self, table: Array) -> Array:
        """Fill the gaps that reused stages leave in an `n x K` table.

        A gap gets the entry of the trial that executed the stage.
        """
        known: dict[str, float] = {}
        filled = table.copy()
        for trial, row in zip(self.ended, filled, strict=True):
            for k, key in enumerate(trial.user_attrs.get("stage_keys", [])):
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
        return spent(warm_up)


def _value(trial: FrozenTrial) -> float:
    return trial.values[0] if trial.state is TrialState.COMPLETE else math.nan


def _identity(params: Params, pipeline: Pipeline) -> tuple[float, ...]:
    """A configuration as a hashable value: choices, which may be any objects, by their index."""
    return tuple(
        distribution.to_internal_repr(params[name]) for name, distribution in pipeline.space.items()
    )
