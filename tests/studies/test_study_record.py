"""Studies as plain rows."""

import json

import numpy as np
import optuna
import pytest
from looking import add, paid, study_of
from optuna.trial import TrialState, create_trial

from eeipu.errors import ConfigurationError
from eeipu.studies.records.study_record import StudyRecord
from eeipu.studies.records.tables import account, aim, as_json, counts, export_rows, stage_facts


def record_of(*trials, **options):
    return StudyRecord.of(study_of(*trials, **options))


def test_what_is_known_of_stages_is_known_by_their_names():
    [trial] = record_of({"value": 1.0, **paid(None, 2.0)}).trials

    assert trial.costs == {"fit": 2.0}
    assert trial.reused == ("prep",)
    assert trial.keys == {"prep": "a", "fit": "b"}


def test_trials_before_a_stage_was_added_have_the_stages_of_then():
    told = {"eeipu:changes": {"stages": [[1, ["fit"]]]}}
    record = record_of(
        {"value": 1.0, "stage_costs": [5.0], "memoized": [False]},
        {"value": 1.0, **paid(1.0, 2.0)},
        **told,
    )

    assert [each.costs for each in record.trials] == [{"fit": 5.0}, {"prep": 1.0, "fit": 2.0}]


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"value": 1.0}, "complete"),
        ({}, "failed"),
        ({"interrupted": True}, "interrupted"),
        ({"state": TrialState.PRUNED}, "pruned"),
        ({"state": TrialState.RUNNING}, "running"),
        ({"state": TrialState.WAITING}, "waiting"),
    ],
)
def test_states(options, state):
    record = record_of(options)

    assert record.trials[0].state == state
    assert counts(record) == {state: 1}


def test_the_account_adds_up_to_what_was_spent():
    costs = {"load_s": 0.5, "keep_s": 0.25, "overhead": 2.0}
    record = record_of(
        {"value": 1.0, **paid(1.0, 2.0)},
        {"value": 2.0, **paid(None, 4.0), "charged": 8.0, **costs},
    )

    assert account(record) == {
        "prep": 1.0,
        "fit": 6.0,
        "loading": 0.5,
        "keeping": 0.25,
        "choosing": 2.0,
        "other": 1.25,
    }
    assert sum(account(record).values()) == record.spent == 11.0


def test_trials_of_another_study_cost_nothing():
    told = {"eeipu:id": "mine"}
    record = record_of(
        {"value": 1.0, **paid(1.0, 2.0, study="theirs")},
        {"value": 1.0, **paid(1.0, 4.0, study="mine")},
        **told,
    )

    assert record.spent == 5.0
    assert (account(record)["prep"], account(record)["fit"]) == (1.0, 4.0)


@pytest.mark.parametrize(
    ("direction", "numbers"), [("maximize", [1, 0, 3]), ("minimize", [0, 3, 1])]
)
def test_the_best_come_first_and_earlier_ones_win_ties(direction, numbers):
    record = record_of(
        {"value": 1.0},
        {"value": 2.0},
        {},
        {"value": 1.0},
        direction=direction,
    )

    assert [each.number for each in record.ranked] == numbers
    assert record.best.number == numbers[0]


def test_a_study_without_trials():
    record = record_of()

    assert (record.best, record.spent, counts(record), record.ended) == (None, 0.0, {}, ())
    assert export_rows(record) == []


def test_a_plain_study_of_optuna():
    study = optuna.create_study()
    study.add_trial(create_trial(value=1.0))
    record = StudyRecord.of(study)

    assert (aim(record), record.budget) == ("minimize value", None)
    assert record.stage_names == ()
    with pytest.raises(ConfigurationError, match="does not tell its space"):
        record.models  # noqa: B018 - looking it up is what is tested


def test_models_need_some_values():
    with pytest.raises(ConfigurationError, match="fewer than 5 trials with a value"):
        record_of({"value": 1.0}).models  # noqa: B018


def test_stage_facts():
    record = record_of(
        {"value": 1.0, **paid(1.0, 2.0)}, {"value": 1.0, **paid(None, 4.0)}, {"failed_stage": "fit"}
    )

    assert stage_facts(record, "fit") == {
        "stage": "fit",
        "executed": 2,
        "reused": 0,
        "failed": 1,
        "mean_cost": 3.0,
        "total_cost": 6.0,
    }
    assert stage_facts(record, "prep")["reused"] == 1


def test_all_rows_have_the_same_columns():
    study = study_of({"value": 1.0, "metrics": {"f1": 0.5}, **paid(1.0, 2.0)})
    add(study, error="Traceback (most recent call last):\n  File\nValueError: no")

    rows = export_rows(study)

    assert rows[0].keys() == rows[1].keys()
    assert (rows[0]["metric:f1"], rows[1]["metric:f1"]) == (0.5, None)
    assert rows[1]["error"] == "ValueError: no"


def test_json_has_no_numbers_that_are_not_finite():
    text = as_json(
        {
            "a": [float("inf"), 1.0],
            "b": (float("nan"),),
            "c": {"d": None},
            "e": np.array([1, np.nan]),
        }
    )

    assert json.loads(text) == {"a": [None, 1.0], "b": [None], "c": {"d": None}, "e": [1.0, None]}
