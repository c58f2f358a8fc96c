"""Databases that several processes open and write at once."""

import threading

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

import eeipu.studies.storages
from eeipu.errors import MissingExtraError
from eeipu.studies.storages import HEARTBEAT_S, TRIES, open_storage


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/tune.db"


def no_pause(seconds):
    pass


def test_running_trials_have_a_heartbeat(url):
    storage = open_storage(url)
    assert storage.get_heartbeat_interval() == HEARTBEAT_S
    storage.engine.dispose()


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_of_two_that_take_an_enqueued_trial_one_gets_it(url):
    study = optuna.create_study(storage=open_storage(url), study_name="s")
    count, threads = 30, 3
    for i in range(count):
        study.enqueue_trial({"x": i})
    start = threading.Barrier(threads)
    taken = []

    def take():
        storage = open_storage(url)  # a connection of its own, as a process has
        mine = optuna.load_study(study_name="s", storage=storage)
        start.wait()
        while (number := mine.ask().number) < count:
            taken.append(number)
        storage.engine.dispose()

    workers = [threading.Thread(target=take) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(taken) == list(range(count))


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_lock_is_waited_for(url):
    storage = open_storage(url)
    study = optuna.create_study(storage=storage, study_name="s")
    with storage.engine.connect() as other:
        other.exec_driver_sql("SELECT 1")  # which begins a transaction, and locks
        waiting = threading.Thread(target=study.ask)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(30)
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING]
    storage.engine.dispose()


def test_whoever_loses_a_race_for_the_tables_comes_again(url, monkeypatch):
    left = [2]

    def race(*arguments, **keywords):
        left[0] -= 1
        if left[0] >= 0:
            raise OperationalError("CREATE TABLE studies", {}, Exception("already exists"))
        return RDBStorage(*arguments, **keywords)

    monkeypatch.setattr(eeipu.studies.storages, "RDBStorage", race)
    paused = []
    open_storage(url, pause=paused.append).engine.dispose()
    assert len(paused) == 2


def test_a_database_that_is_not_there_is_told(tmp_path):
    paused = []
    with pytest.raises(OperationalError, match="unable to open"):
        open_storage(f"sqlite:///{tmp_path}/missing/tune.db", pause=paused.append)
    assert len(paused) == TRIES - 1


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    def refuse(*arguments, **keywords):
        raise ImportError("No module named 'psycopg'")

    monkeypatch.setattr(eeipu.studies.storages, "RDBStorage", refuse)
    with pytest.raises(MissingExtraError, match=r"psycopg.*eeipu\[postgresql\]"):
        open_storage("postgresql+psycopg://host/tune")
