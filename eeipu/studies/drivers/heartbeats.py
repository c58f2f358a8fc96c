"""Heartbeats of running trials, in the storages that record them.

Whether a process on another host is alive cannot be seen from here. Optuna's relational storages
therefore record a time for each running trial, by the database's own clock, and its driver renews
that time again and again. A driver that finds an old time takes the trial over.
"""

import threading
from contextlib import suppress

import optuna
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeat, is_heartbeat_enabled

__all__ = ["Heart", "silent_trials"]


class Heart:
    """Records heartbeats for the trials that this process runs, from one thread of its own.

    The thread lives as long as any of the trials runs.

    Args:
        storage: The storage of the trials; if it records no heartbeats, nothing happens.
    """

    def __init__(self, storage: BaseStorage) -> None:
        is_enabled = is_heartbeat_enabled(storage)
        self._storage = storage if is_enabled and isinstance(storage, BaseHeartbeat) else None
        self._trials: set[int] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def beat_for(self, trial: optuna.Trial) -> None:
        """Start to record heartbeats for a trial."""
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
        """Stop recording heartbeats for a trial."""
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
                # The database may be unreachable for a while, or another driver may have taken the
                # trial over. The thread that runs the trial finds out by itself.
                with suppress(Exception):
                    self._storage.record_heartbeat(trial)


def silent_trials(study: optuna.Study) -> frozenset[int]:
    """The storage's ids of the running trials whose last heartbeat is too old.

    Trials that never had a heartbeat are not among them.
    """
    storage = study._storage
    if not (isinstance(storage, BaseHeartbeat) and is_heartbeat_enabled(storage)):
        return frozenset()
    return frozenset(storage._get_stale_trial_ids(study._study_id))
