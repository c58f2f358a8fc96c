"""Signs of life of running trials, where their storage keeps them.

A process on another host cannot be asked whether it lives. Optuna's relational storages keep a
time for each running trial, by the database's own clock; whoever finds it old takes the trial over.
"""

import threading
from contextlib import suppress

import optuna
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled

__all__ = ["Heart", "silent_trials"]


class Heart:
    """Beats for trials of this process, from one thread that lives as long as they run.

    Args:
        storage: Where trials live; in one without a heartbeat nothing happens.
    """

    def __init__(self, storage: BaseStorage) -> None:
        is_enabled = is_heartbeat_enabled(storage)
        self._storage = storage if is_enabled and isinstance(storage, BaseHeartbeat) else None
        self._trials: set[int] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def beat_for(self, trial: optuna.Trial) -> None:
        """Begin to beat for a trial."""
        if self._storage is None:
            return
        self._storage.record_heartbeat(trial._trial_id)
        with self._lock:
            self._trials.add(trial._trial_id)
            if self._thread is None:
                self._is_over = threading.Event()
                self._thread = threading.Thread(
                    target=self._beat, args=(self._is_over,), name="eeipu heart", daemon=True
                )
                self._thread.start()

    def stop_for(self, trial: optuna.Trial) -> None:
        """Beat for a trial no more."""
        with self._lock:
            self._trials.discard(trial._trial_id)
            if not self._trials and self._thread is not None:
                self._thread = None
                self._is_over.set()

    def _beat(self, is_over: threading.Event) -> None:
        assert self._storage is not None
        interval_s = self._storage.get_heartbeat_interval()
        while not is_over.wait(interval_s):
            with self._lock:
                trials = sorted(self._trials)
            for trial in trials:
                # A database that is away for a while, or a trial that others took over: whoever
                # runs the trial hears of it.
                with suppress(Exception):
                    self._storage.record_heartbeat(trial)


def silent_trials(study: optuna.Study) -> frozenset[int]:
    """The ids of running trials that have had a heartbeat, and have none any more."""
    storage = study._storage
    if not (isinstance(storage, BaseHeartbeat) and is_heartbeat_enabled(storage)):
        return frozenset()
    return frozenset(storage._get_stale_trial_ids(study._study_id))
