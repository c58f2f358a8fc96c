"""A study some of whose trials pause, because it is open whether they will be trained further.

Optuna has no such state. To a storage these trials are running ones, so that they can go on; to
samplers, and to callbacks of the user's, they are pruned ones, which have told something already.
"""

import copy
import threading
from collections.abc import Container, Iterable
from datetime import datetime

import optuna
from optuna.pruners import BasePruner
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.trials.following import changed_places
from eeipu.studies.records.tuned_study import TunedStudy

__all__ = ["StudyWithPauses"]


class StudyWithPauses(TunedStudy):
    """An Optuna study in which running trials may pause."""

    @classmethod
    def of(cls, study: optuna.Study, pruner: BasePruner) -> "StudyWithPauses":
        """The same study, in which trials may pause, with a pruner."""
        mine = cls(study.study_name, study._storage, study.sampler, pruner)
        mine._paused, mine._touched = {}, set()
        mine._raw, mine._view = [], []
        mine._lock = threading.Lock()
        return mine

    _paused: dict[int, FrozenTrial | None]  # number -> the trial as it is seen
    _touched: set[int]  # the numbers of those that began or ended to pause since the last look
    _raw: list[FrozenTrial]  # all trials as the storage had them at the last look
    _view: list[FrozenTrial]  # the same as they were seen
    _lock: threading.Lock

    def pause(self, number: int) -> None:
        """Let a running trial pause."""
        with self._lock:
            self._paused[number] = None
            self._touch(number)

    def look_again(self, number: int) -> None:
        """Take note that a trial was changed, which may pause."""
        with self._lock:
            if number in self._paused:
                self._touch(number)

    def go_on(self, number: int) -> None:
        """End the pause of a trial, which goes on or ends."""
        with self._lock:
            if number not in self._paused:
                return
            del self._paused[number]
            self._touch(number)

    def _touch(self, number: int) -> None:
        self._touched.add(number)
        cache = _cache_of(self)
        if cache is not None and number < len(self._raw):
            cache.unfinished_trial_ids.add(self._raw[number]._trial_id)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        with self._lock:
            raw = super()._get_trials(deepcopy=False, use_cache=use_cache)
            self._look(raw)
            found = self._view.copy()
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _look(self, raw: list[FrozenTrial]) -> None:
        """Take in how the storage has the trials now."""
        places = changed_places(self._raw, raw)
        touched = [number for number in self._touched if number < len(raw)]
        del self._view[len(raw) :]
        self._view += raw[len(self._view) :]
        for number in {*places, *touched}:
            self._view[number] = self._seen(raw[number])
        self._touched.difference_update(touched)
        self._raw = raw
        self._spare(number for number in touched if number in self._paused)

    def _spare(self, numbers: Iterable[int]) -> None:
        """Do not read trials again while they pause, however many these are.

        Optuna keeps finished trials of a database in memory, and reads all others at each look.
        """
        cache = _cache_of(self)
        if cache is not None:
            for number in numbers:
                own = self._raw[number]._trial_id
                cache.unfinished_trial_ids.discard(own)
                cache.last_finished_trial_id = max(cache.last_finished_trial_id, own)

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial as it is seen."""
        if trial.number not in self._paused or trial.state is not TrialState.RUNNING:
            return trial
        seen = self._paused[trial.number] = copy.copy(trial)
        seen.state = TrialState.PRUNED
        seen.datetime_complete = datetime.now()
        if trial.last_step is not None:
            seen.value = trial.intermediate_values[trial.last_step]
        return seen


def _cache_of(study: optuna.Study) -> _StudyInfo | None:
    """What Optuna keeps of a study in a database; `None` for other storages."""
    storage = study._storage
    return storage._studies.get(study._study_id) if isinstance(storage, _CachedStorage) else None
