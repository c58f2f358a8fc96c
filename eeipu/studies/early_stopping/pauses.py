"""A study some of whose trials pause, because it is open whether they will be trained further.

Optuna has no such state. To a storage these trials are running ones, so that they can go on; to
samplers, and to callbacks of the user's, they are pruned ones, which have told something already.
"""

import copy
from collections.abc import Container
from datetime import datetime

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from eeipu.studies.records.tuned_study import TunedStudy

__all__ = ["StudyWithPauses"]


class StudyWithPauses(TunedStudy):
    """An Optuna study in which running trials may pause."""

    @classmethod
    def of(cls, study: optuna.Study, pruner: BasePruner) -> "StudyWithPauses":
        """The same study, in which trials may pause, with a pruner."""
        mine = cls(study.study_name, study._storage, study.sampler, pruner)
        mine._paused = {}
        return mine

    _paused: dict[int, FrozenTrial | None]

    def pause(self, number: int) -> None:
        """Let a running trial pause."""
        self._paused[number] = None

    def go_on(self, number: int) -> None:
        """End the pause of a trial, which goes on or ends."""
        self._paused.pop(number, None)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        if not self._paused:
            return super()._get_trials(deepcopy, states, use_cache)
        trials = map(self._seen, super()._get_trials(deepcopy=False, use_cache=use_cache))
        found = [trial for trial in trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial as it is seen; the same object again and again while it pauses."""
        if trial.number not in self._paused or trial.state is not TrialState.RUNNING:
            return trial
        seen = self._paused[trial.number]
        if seen is None:
            seen = self._paused[trial.number] = copy.copy(trial)
            seen.state = TrialState.PRUNED
            seen.datetime_complete = datetime.now()
            if trial.last_step is not None:
                seen.value = trial.intermediate_values[trial.last_step]
        return seen
