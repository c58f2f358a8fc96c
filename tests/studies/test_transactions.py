"""How many transactions of a database a trial takes: each waits for the disk.

Those that only read are not counted: they do not wait for it.
"""

from contextlib import contextmanager

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from trainings import pipeline as training_pipeline

from eeipu import ASHA, EEIPUSampler, Float, Int, Pipeline, StageCache, Tuner, stage
from eeipu.studies.storages import open_storage

TRIALS = 4


@stage(space={"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}, version="1")
def first(x, *, a, b):
    return x + a + b


@stage(space={"c": Float(0.0, 1.0), "d": Int(1, 9)}, version="1")
def second(x, *, c, d):
    return x + c + d


@stage(space={"e": Float(0.0, 1.0)}, version="1")
def last(x, *, e):
    return x + e


PIPELINE = Pipeline([first, second, last], outcome_constraints={"first": "<= 9", "second": "<= 9"})
WITHOUT_LIMITS = Pipeline([first, second, last])


@pytest.fixture
def storage(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/tune.db")
    yield storage
    storage.engine.dispose()


@contextmanager
def counted(storage):
    """A list of the transactions that have written something within this block."""
    writing, ended = set(), []

    def executes(connection, cursor, statement, *_):
        if not statement.lstrip().upper().startswith(("SELECT", "BEGIN", "PRAGMA")):
            writing.add(connection)

    def commits(connection):
        if connection in writing:
            writing.remove(connection)
            ended.append(connection)

    listeners = {"before_cursor_execute": executes, "commit": commits}
    for name, listener in listeners.items():
        event.listen(storage.engine, name, listener)
    try:
        yield ended
    finally:
        for name, listener in listeners.items():
            event.remove(storage.engine, name, listener)


def tuner_of(storage, pipeline=WITHOUT_LIMITS, **options):
    options = {"method": "random", "seed": 0, "budget": 1e6, **options}
    return Tuner(pipeline, storage=storage, cache=StageCache(), **options)


def test_a_trial_takes_one_for_each_of_its_moments(storage):
    tuner = tuner_of(storage)
    tuner.run(0.0, max_trials=1, progress=False)
    with counted(storage) as transactions:
        tuner.run(0.0, max_trials=TRIALS, progress=False)
    # It is created and beats, is chosen, begins; two calls end; the last one does, and it is told.
    assert len(transactions) == 8 * TRIALS


def test_limits_of_outcomes_take_one(storage):
    tuner = tuner_of(storage, PIPELINE)
    tuner.run(0.0, max_trials=1, progress=False)
    with counted(storage) as transactions:
        tuner.run(0.0, max_trials=TRIALS, progress=False)
    assert len(transactions) == 9 * TRIALS
    assert all(len(trial.constraints) == 2 for trial in tuner.study.trials)


def test_what_is_reused_takes_none(storage):
    tuner = tuner_of(storage)
    tuner.run(0.0, max_trials=1, progress=False)
    best = tuner.study.best_params
    tuner.enqueue({**best, "last.e": 0.5})
    with counted(storage) as transactions:
        tuner.run(0.0, max_trials=1, progress=False)
    # It is taken from the queue and named, beats, is chosen, begins, ends and is told.
    assert len(transactions) == 7
    assert tuner.study.trials[-1].user_attrs["memoized"] == [True, True, False]


def test_a_trial_that_is_asked_for_and_told(storage):
    tuner = tuner_of(storage, overhead=0.5)
    with counted(storage) as transactions:
        for _ in range(TRIALS):
            tuner.tell(tuner.ask(), 1.0, stage_costs=[1.0, 1.0, 1.0])
    assert len(transactions) == 4 * TRIALS  # created, asked for, written down, told


def test_a_trial_of_a_plain_study(tmp_path):
    storage = RDBStorage(f"sqlite:///{tmp_path}/plain.db")
    sampler = EEIPUSampler(WITHOUT_LIMITS, budget=1e6, method="random", seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler, direction="maximize")
    with counted(storage) as transactions:
        study.optimize(lambda trial: WITHOUT_LIMITS.run(trial, 0.0).value, n_trials=TRIALS)
    assert len(transactions) == 4 * TRIALS  # created, chosen, written down, told
    storage.engine.dispose()


def test_a_trial_that_is_trained_in_stretches(storage, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    rule = ASHA(min_steps=3, reduction=3)
    tuner = tuner_of(storage, training_pipeline(), early_stopping=rule, budget=None)
    tuner.run(str(notes), max_trials=1, progress=False)
    ran, had = calls_of(tuner.study), values_of(tuner.study)
    with counted(storage) as transactions:
        tuner.run(str(notes), max_trials=9, progress=False)
    calls = calls_of(tuner.study) - ran
    # Each is created and beats, is chosen, and is told; and each call that ends is paid, or written
    # down with the value that it gives. Where calls lead to a value, it is noted that they run.
    assert len(transactions) <= 4 * 9 + calls + (values_of(tuner.study) - had)
    assert calls > 2 * 9


def values_of(study):
    return sum(len(trial.intermediate_values) for trial in study.trials)


def calls_of(study):
    return sum(len(trial.user_attrs["ran"]) for trial in study.trials)


def test_a_run_that_finds_its_study_as_it_was_writes_nothing_into_it(storage):
    tuner_of(storage).run(0.0, max_trials=1, progress=False)
    with counted(storage) as transactions:
        tuner_of(storage).run(0.0, max_trials=0, progress=False)
    assert not transactions


def test_a_journal_is_synced_as_often(tmp_path, monkeypatch):
    backend = JournalFileBackend(str(tmp_path / "journal.log"))
    tuner = tuner_of(JournalStorage(backend))
    tuner.run(0.0, max_trials=1, progress=False)
    appended, append = [], backend.append_logs
    monkeypatch.setattr(backend, "append_logs", lambda logs: (appended.append(logs), append(logs)))
    tuner.run(0.0, max_trials=TRIALS, progress=False)
    assert len(appended) == 7 * TRIALS  # without heartbeats


def test_another_driver_may_write_while_a_configuration_is_chosen(tmp_path, storage):
    url = f"sqlite:///{tmp_path}/tune.db"
    written = []

    class Slow(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            other = RDBStorage(url)
            optuna.load_study(study_name="s", storage=other).set_user_attr("seen", name)
            other.engine.dispose()
            written.append(name)
            return super().sample_independent(study, trial, name, distribution)

    tuner = tuner_of(storage, method=Slow(), study_name="s")
    tuner.run(0.0, max_trials=1, progress=False)
    assert written == list(WITHOUT_LIMITS.space)
