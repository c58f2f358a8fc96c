"""What is remembered of the trials of a study that have ended, so that they are looked at once."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import takewhile
from operator import is_
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.budget import spent
from eeipu.pipeline import Pipeline
from eeipu.space import Params

__all__ = ["CHANGES", "Ledger", "SortedTrials", "identity", "is_interrupted", "values_of"]

Array = NDArray[np.float64]

# The study's user attribute with what its trials lack since its pipeline has changed: "defaults",
# values of parameters that came later; "removed", parameters that are gone, with the values that
# they have now; "stages", pairs of a number and the names of the stages of trials before it.
CHANGES = "eeipu:changes"


def is_interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial was cut off by the user or by the end of its driver, not by an error."""
    attrs = trial.user_attrs
    cut_off = "interrupted" in attrs or ("driver" in attrs and "error" not in attrs)
    return trial.state is TrialState.FAIL and cut_off


@dataclass
class SortedTrials:
    """Trials of a study, by what became of them.

    Attributes:
        ended: Those that succeeded, failed or were pruned, by number.
        waiting: Those that are enqueued with a whole configuration, and that nobody has begun.
        running: Those that have a configuration but no result yet.
        interrupted: Those that were cut off.
        left_out: Those that ended and have no configuration of the pipeline, with the reason.
    """

    ended: list[FrozenTrial] = field(default_factory=list)
    waiting: list[FrozenTrial] = field(default_factory=list)
    running: list[FrozenTrial] = field(default_factory=list)
    interrupted: list[FrozenTrial] = field(default_factory=list)
    left_out: list[tuple[FrozenTrial, str]] = field(default_factory=list)

    def add(self, trial: FrozenTrial, pipeline: Pipeline, changes: Mapping[str, Any]) -> None:
        """Put a trial where it belongs; one without a whole configuration belongs nowhere.

        Args:
            trial: The trial.
            pipeline: The pipeline that the study tunes.
            changes: What has changed since the first trials; see `CHANGES`.
        """
        state = trial.state
        trial, why = _fitted(trial, pipeline, changes)
        if why is not None:
            if state in (TrialState.COMPLETE, TrialState.PRUNED):
                self.left_out.append((trial, why))
        elif state is TrialState.WAITING:
            self.waiting.append(trial)
        elif state is TrialState.RUNNING:
            self.running.append(trial)
        elif is_interrupted(trial):
            self.interrupted.append(trial)
        else:
            self.ended.append(trial)

    def copy(self) -> "SortedTrials":
        """The same trials, to which others are added."""
        return SortedTrials(*map(list, vars(self).values()))


class Ledger:
    """The trials of a study that have ended, each looked at once however often the study is read.

    Trials that have ended never change, and a storage hands out the same objects again. The ledger
    remembers those before the first one that has not ended, and what a history needs of them.

    Args:
        pipeline: The pipeline that the study tunes.

    Attributes:
        lock: To hold while the ledger is read: a trial may be chosen on one thread while another
            adds up what is spent.
        sorted: The remembered trials, by what became of them.
        charges: What was charged for each remembered trial.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.lock = RLock()
        self._study_id: str | None = None
        self._changes: Mapping[str, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._trials: list[FrozenTrial] = []
        self.sorted = SortedTrials()
        self.charges: list[float] = []
        self._X = np.empty((0, len(self.pipeline.cube)))
        self._values: list[tuple[float, ...]] = []
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
        for trial in new:
            self.sorted.add(trial, self.pipeline, changes)
        self.charges += [spent((trial,), study_id) for trial in new]
        self._trials = [*trials[: seen + len(new)]]
        return self.unended(trials)

    def unended(self, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """All trials of the study but those that are remembered."""
        return trials[len(self._trials) :]

    def X(self, count: int) -> Array:  # noqa: N802
        """The first of the configurations that have run, `count x d`."""
        with self.lock:
            new = [trial.params for trial in self.sorted.ended[len(self._X) : count]]
            if new:
                self._X = np.concatenate([self._X, self.pipeline.cube.encode(new)])
            return self._X[:count]

    def values(self, count: int) -> list[tuple[float, ...]]:
        """Their values as the study has them; none for failed and pruned trials."""
        with self.lock:
            self._values += map(values_of, self.sorted.ended[len(self._values) : count])
            return self._values[:count]

    def identities(self, count: int) -> list[tuple[float, ...]]:
        """The configurations as hashable values."""
        with self.lock:
            new = self.sorted.ended[len(self._identities) : count]
            self._identities += [identity(trial.params, self.pipeline) for trial in new]
            return self._identities[:count]


def _fitted(
    trial: FrozenTrial, pipeline: Pipeline, changes: Mapping[str, Any]
) -> tuple[FrozenTrial, str | None]:
    """A trial with a whole configuration of a pipeline, or why it has none.

    What a trial was enqueued with is its configuration before it has begun, and until its driver
    has written the last of its parameters.

    Args:
        trial: The trial.
        pipeline: The pipeline.
        changes: What has changed since; see `CHANGES`.
    """
    if not trial.state.is_finished() and "fixed_params" in trial.system_attrs:
        trial = copy(trial)
        trial.params = {**trial.system_attrs["fixed_params"], **trial.params}
    params = trial.params
    for name, values in changes.get("removed", {}).items():
        if name in params and params[name] not in values:
            return trial, f"{name} is gone"
    defaults = changes.get("defaults", {})
    if defaults and not defaults.keys() <= params.keys():
        trial = copy(trial)
        trial.params = {**defaults, **params}
    elif trial.distributions == pipeline.space and not pipeline.cube.constraints:
        return trial, None  # which is quickly seen, and nearly always so
    why = pipeline.cube.misfit(trial.params)
    if why is None and pipeline.cube.conditions:
        trial = copy(trial)
        trial.params = pipeline.cube.settled(trial.params)
    return trial, why


def values_of(trial: FrozenTrial) -> tuple[float, ...]:
    """The values of a trial as the study has them; none for failed and pruned trials."""
    return tuple(trial.values) if trial.state is TrialState.COMPLETE else ()


def identity(params: Params, pipeline: Pipeline) -> tuple[float, ...]:
    """A configuration as a hashable value: choices, which may be any objects, by their index."""
    whole = pipeline.cube.settled(params)
    return tuple(
        distribution.to_internal_repr(whole[name]) for name, distribution in pipeline.space.items()
    )
