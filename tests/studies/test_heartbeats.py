"""Signs of life of running trials."""

import threading
import warnings

import optuna
import pytest
from optuna.storages import InMemoryStorage, RDBStorage

from eeipu.studies.drivers.heartbeats import Heart, silent_trials


@pytest.fixture
def study(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = RDBStorage(f"sqlite:///{tmp_path}/t.db", heartbeat_interval=1, grace_period=1)
    study = optuna.create_study(storage=storage)
    study._thread_local.in_optimize_loop = True
    yield study
    storage.engine.dispose()


@pytest.fixture
def hearts():
    """Lists the threads that beat since this test began; earlier ones may have left theirs."""

    def living():
        return {thread for thread in threading.enumerate() if thread.name == "eeipu heart"}

    before = living()
    return lambda: list(living() - before)


def test_a_heart_beats_for_its_trials_until_the_last_has_ended(study, hearts):
    heart, beats = Heart(study._storage), []
    storage = heart._storage
    record, both = storage.record_heartbeat, threading.Event()

    def note(trial_id):
        record(trial_id)
        beats.append(trial_id)
        if len(beats) == 4:
            both.set()
            raise OSError  # the database is away

    storage.record_heartbeat = note
    first, second = study.ask(), study.ask()
    heart.beat_for(first)
    heart.beat_for(second)
    (thread,) = hearts()
    assert both.wait(30)
    assert sorted(beats[:4]) == sorted([first._trial_id, second._trial_id] * 2)

    heart.stop_for(first)
    assert thread.is_alive()
    heart.stop_for(second)
    thread.join(30)
    assert not thread.is_alive()


def test_a_storage_without_heartbeats_needs_no_heart(hearts):
    study = optuna.create_study(storage=InMemoryStorage())
    heart, trial = Heart(study._storage), study.ask()
    heart.beat_for(trial)
    assert hearts() == []
    heart.stop_for(trial)
    assert silent_trials(study) == frozenset()


def test_a_trial_is_silent_once_its_heartbeat_is_old(study, monkeypatch):
    trial, never = study.ask(), study.ask()
    study._storage.record_heartbeat(trial._trial_id)
    assert silent_trials(study) == frozenset()

    monkeypatch.setattr(study._storage._backend, "grace_period", -1)
    assert silent_trials(study) == {trial._trial_id}
    assert never._trial_id not in silent_trials(study)
