"""Attributes of trials that are written together."""

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event

from eeipu.stages.running.trial_notes import TrialNotes, flat_notes, written_together


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request, tmp_path):
    match request.param:
        case "memory":
            yield InMemoryStorage()
        case "sqlite":
            storage = RDBStorage(f"sqlite:///{tmp_path}/tune.db")
            yield storage
            storage.engine.dispose()
        case "journal":
            yield JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))


def noted(trial):
    notes = TrialNotes(trial)
    notes.set_user_attr("a", 1)
    notes.set_user_attr("b", [None, 2.0])
    notes.write()


def test_what_was_noted_is_in_the_trial(storage):
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    trial.set_user_attr("a", 0)

    noted(trial)

    assert trial.user_attrs == {"a": 1, "b": [None, 2.0]}
    study.tell(trial, 1.0)
    assert study.trials[0].user_attrs == {"a": 1, "b": [None, 2.0]}


def test_what_was_suggested_before_an_error_is_in_the_trial(storage):
    trial = optuna.create_study(storage=storage).ask()

    def suggest():
        with written_together(trial):
            trial.suggest_float("x", 0.5, 0.5)
            return trial.suggest_float("y", 1.0, 0.0)

    with pytest.raises(ValueError, match="low"):
        suggest()
    assert trial.study.trials[0].params == {"x": 0.5}


def test_what_a_trial_suggests_and_reports_is_in_it_once_it_is_written(storage):
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    notes = TrialNotes(trial)

    with notes.gathering():
        x = trial.suggest_float("x", 0.0, 1.0)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        trial.report(0.5, step=3)
        trial.set_constraint("size <= 9", -1.0)
    assert trial.params == {"x": x, "kind": kind}
    (seen,) = study.trials
    assert (seen.params, seen.intermediate_values, seen.user_attrs) == ({}, {}, {})
    notes.set_user_attr("b", 2)
    notes.write()

    (seen,) = study.trials
    assert seen.params == {"x": x, "kind": kind}
    assert seen.distributions == trial.distributions
    assert seen.intermediate_values == {3: 0.5}
    assert seen.constraints == {"size <= 9": -1.0}
    assert seen.user_attrs == {"b": 2}
    trial.report(0.25, step=9)  # written at once, outside of the block
    assert study.trials[0].intermediate_values == {3: 0.5, 9: 0.25}


def test_a_parameter_that_changes_its_choices_is_refused_as_optuna_does(storage):
    study = optuna.create_study(storage=storage)
    study.ask().suggest_categorical("kind", ["a", "b"])
    trial = study.ask()
    notes = TrialNotes(trial)
    with notes.gathering():
        trial.suggest_categorical("kind", ["a", "b", "c"])

    with pytest.raises(ValueError, match="dynamic value space"):
        notes.write()

    assert study.trials[1].params == {}


def test_an_attribute_is_written_again_only_if_it_has_changed(storage):
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    ran = ["prep"]
    for each in (["prep"], ["prep", "fit"], ["prep", "fit"]):
        ran[:] = each  # who notes it may change it later
        notes = TrialNotes(trial)
        notes.set_user_attr("ran", ran)
        notes.write()
    assert study.trials[0].user_attrs == {"ran": ["prep", "fit"]}
    study.tell(trial, 1.0)
    notes.write()  # has nothing to write, which could be refused
    notes.set_user_attr("ran", ["prep", "fit"])
    notes.write()


def test_notes_of_a_trial_that_has_ended_are_refused(storage):
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    study.tell(trial, 1.0)

    with pytest.raises(UpdateFinishedTrialError):
        noted(trial)

    assert study.trials[0].user_attrs == {}


def test_a_trial_has_the_duration_of_its_stages(storage):
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    created = trial.datetime_start
    notes = TrialNotes(trial)
    notes.start_now(choosing_s=5.0)
    notes.write()
    study.tell(trial, 1.0)

    (told,) = study.trials
    if isinstance(storage, JournalStorage):
        assert (told.datetime_start, told.user_attrs) == (created, {})
    else:
        assert told.datetime_start > created
        assert trial.datetime_start == told.datetime_start
        asked_at = told.user_attrs["asked_at"]
        assert told.datetime_start.timestamp() - asked_at == pytest.approx(5.0, abs=0.001)


def test_a_database_is_written_once(tmp_path):
    storage = RDBStorage(f"sqlite:///{tmp_path}/tune.db")
    trial = optuna.create_study(storage=storage).ask()
    commits = []
    event.listen(storage.engine, "commit", commits.append)

    noted(trial)

    assert len(commits) == 1
    storage.engine.dispose()


def test_a_journal_is_written_once(tmp_path, monkeypatch):
    backend = JournalFileBackend(str(tmp_path / "journal.log"))
    trial = optuna.create_study(storage=JournalStorage(backend)).ask()
    written = []
    append = backend.append_logs
    monkeypatch.setattr(
        backend, "append_logs", lambda logs: (written.append(len(logs)), append(logs))
    )

    noted(trial)

    assert written == [2]


def test_flat_notes_have_a_name_for_each_number():
    notes = flat_notes(
        ("prep", "fit", "score"), [None, 2.0, None], [True, False, False], {"auc": 0.5}
    )

    assert notes == {"reused:prep": 1, "cost:fit": 2.0, "metric:auc": 0.5}
