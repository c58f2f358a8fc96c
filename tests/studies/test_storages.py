"""Databases that several processes open and write at once."""

import sqlite3
import threading
from contextlib import closing

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

import eeipu.studies.storages
from eeipu.errors import ConfigurationError, MissingExtraError, StorageError
from eeipu.studies.storages import HEARTBEAT_S, TRIES, open_storage, using_storage


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


def no_tries(seconds):
    raise AssertionError("another try is no use")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///{}/missing/tune.db", r"in the folder '.*missing', which is not there; create"),
        ("sqlite:///~/missing/tune.db", "~ stands for no folder"),
        ("sqlite:///{}", "names a folder; name a file in it"),
        ("sqlite:///{}/text.db", "file is not a database; choose another file"),
        ("sqlite:///{}/old.db", "optuna storage upgrade"),
        ("foo://host/tune", r"'foo://host/tune' is not the URL.*postgresql\+psycopg://"),
        ("postgres://me:secret@host/tune", r"me:\*\*\*@host.*postgresql\+psycopg://"),
        ("postgresql+psycopg://me:secret@host:port/tune", r"me:\*\*\*@host.*'port'"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told_at_once_with_the_remedy(tmp_path, url, words):
    (tmp_path / "text.db").write_text("These are only words. " * 100)
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.execute(
            "create table version_info"
            "(version_info_id integer primary key, schema_version integer, library_version varchar)"
        )
        old.execute("insert into version_info values (1, 5, '1.0')")
        old.commit()
    with pytest.raises(ConfigurationError, match=words) as caught:
        open_storage(url.format(tmp_path), pause=no_tries)
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_asked_again_and_then_named(monkeypatch):
    def refuse(*arguments, **keywords):
        raise OperationalError("SELECT 1", {}, Exception("connection refused\n"))

    monkeypatch.setattr(eeipu.studies.storages, "RDBStorage", refuse)
    paused = []
    message = (
        r"postgresql\+psycopg://me:\*\*\*@host/tune.*: connection refused; check that its server"
    )
    with pytest.raises(ConfigurationError, match=message):
        open_storage("postgresql+psycopg://me:secret@host/tune", pause=paused.append)
    assert len(paused) == TRIES - 1


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_lock_that_is_not_given_back_is_told_with_the_remedy(url, monkeypatch):
    monkeypatch.setattr(eeipu.studies.storages, "SQLITE_TIMEOUT_S", 0.1)
    study = optuna.create_study(storage=open_storage(url), study_name="s")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match=r"locked; another process holds it"):
            open_storage(url, pause=no_tries)
        with (
            pytest.raises(StorageError, match=r"locked; another process holds it.*then goes on"),
            using_storage(),
        ):
            study.ask()
    study._storage._backend.engine.dispose()


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    def refuse(*arguments, **keywords):
        raise ImportError("No module named 'psycopg'")

    monkeypatch.setattr(eeipu.studies.storages, "RDBStorage", refuse)
    with pytest.raises(MissingExtraError, match=r"psycopg.*eeipu\[postgresql\]"):
        open_storage("postgresql+psycopg://host/tune")
