"""What models recommend of a stored study, and where it is shown."""

import optuna
import pytest
from looking import add, study_of

from eeipu import Float, Pipeline, Tuner
from eeipu.errors import ConfigurationError
from eeipu.report.page.document import draw_models
from eeipu.studies.records.recommended import (
    MOST_TRIALS,
    recommendation_facts,
    recommended_by,
    tuner_html,
)
from eeipu.studies.records.study_record import StudyRecord


def hill(**more):
    """A hill with its top at x = .5, and one lucky value far from it."""
    study = study_of(**more)
    for k in range(15):
        x = (k + 0.5) / 15
        noise = 0.02 * (-1) ** k
        add(study, 1.0 - 4.0 * (x - 0.5) ** 2 + noise, x=x)
    for k in range(4):  # the noise is known from values of one configuration
        add(study, 0.13 + (-0.05, 0.05, -0.03, 0.97)[k], x=0.97)
    return study


def test_of_a_stored_study_the_lucky_trial_is_not_recommended():
    record = StudyRecord.of(hill())

    found = recommended_by(record)

    assert record.best.trial.params["prep.x"] == 0.97
    assert abs(found.params["prep.x"] - 0.5) < 0.2
    assert found.number != record.best.number


def test_it_is_what_the_tuner_recommends():
    pipeline = Pipeline.declare({"prep": {"x": Float(0.0, 1.0)}, "fit": {"y": Float(0.0, 1.0)}})
    tuner = Tuner(pipeline, budget=None, seed=0)
    for trial in hill().trials:
        tuner.add_trial(trial.params, trial.value)

    assert recommended_by(StudyRecord.of(tuner.study)) == tuner.recommend()
    assert f"recommended <b>trial {tuner.recommend().number}</b>" in tuner._repr_html_()


def test_the_page_has_it_beside_the_best_trial():
    record = StudyRecord.of(hill())

    first = draw_models(record).sections[0]

    assert "Recommended" in first
    assert f"recommended <b>trial {recommended_by(record).number}</b>" in first
    assert "0.97" in first  # of the best trial
    assert "best trial" in first


def test_where_the_best_trial_is_recommended_it_is_said():
    study = study_of()
    for k in range(9):
        add(study, 1.0 - (k / 8 - 0.5) ** 2, x=k / 8)
    record = StudyRecord.of(study)

    known = recommendation_facts(record, recommended_by(record))

    assert known["recommended"] == "trial 4, the best one"
    assert known["it gave"] == "1"


def test_few_values_recommend_nothing():
    study = study_of({"value": 1.0}, {"value": 2.0, "x": 0.7})
    record = StudyRecord.of(study)

    with pytest.raises(ConfigurationError, match="fewer than"):
        recommended_by(record)
    assert "Recommended" not in "".join(draw_models(record).sections)


def test_with_several_objectives_there_is_none():
    study = optuna.create_study(directions=["minimize", "minimize"])

    with pytest.raises(ConfigurationError, match="several objectives"):
        recommended_by(StudyRecord.of(study))


def test_a_tuner_of_very_many_trials_fits_no_models_to_show_itself():
    def never():
        raise AssertionError("models were fitted")

    study = study_of()
    for k in range(MOST_TRIALS + 1):
        add(study, float(k))

    assert "recommended" not in tuner_html("mine", study, never)


def test_a_tuner_that_can_recommend_nothing_shows_its_study():
    def cannot():
        raise ConfigurationError("no trial fits the pipeline.")

    html = tuner_html("mine", hill(), cannot)

    assert "best auc" in html
    assert "recommended" not in html
