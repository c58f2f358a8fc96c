"""Failures that no longer count."""

import optuna
import pytest
from histories import PIPELINE, history_of, trial
from optuna.trial import TrialState

from eeipu import Categorical, Float, Pipeline
from eeipu.methods.history import History
from eeipu.methods.trials.forgotten_failures import FORGET, FORGOTTEN
from eeipu.stages.declaration import Stage
from eeipu.stages.running.records import code_up_to


def failure(x, y=0.5, error="FileNotFoundError: data.csv", **attrs):
    return trial(x, y, None, error=f"Traceback (most recent call last):\n  ...\n{error}", **attrs)


def scattered(error="FileNotFoundError: data.csv"):
    return [failure(x, y, error) for x, y in [(0.1, 0.8), (0.9, 0.1), (0.4, 0.5), (0.7, 0.9)]]


def test_failures_with_one_error_at_scattered_places_are_forgotten_once_they_have_ended():
    history = history_of(*scattered(), trial(0.2, 0.3))

    assert (len(history), len(history.forgotten)) == (1, 4)
    assert history.configurations.is_new(history.forgotten[0].params)


@pytest.mark.parametrize(
    "trials",
    [
        scattered(),  # nothing has succeeded since
        [*scattered()[:2], trial(0.2, 0.3), *scattered()[2:], trial(0.3, 0.3)],  # they come again
        [*[failure(0.9, 0.1 * i) for i in range(4)], trial(0.2, 0.3)],  # in one region
        [*[failure(x, x, f"ValueError: {x}") for x in (0.1, 0.5, 0.9)], trial(0.2, 0.3)],
        [*scattered()[:2], trial(0.2, 0.3)],  # too few
    ],
)
def test_other_failures_count(trials):
    history = history_of(*trials)

    assert history.forgotten == ()
    assert history.objectives.failed.sum() == sum(each.state is TrialState.FAIL for each in trials)


def test_failures_of_unknown_cause_count():
    """Whoever tells a tuner that a trial has failed does not say why."""
    places = [(0.1, 0.8), (0.9, 0.1), (0.4, 0.5), (0.7, 0.9)]
    told = [trial(x, y, None, error="told as failed") for x, y in places]

    assert history_of(*told, trial(0.2, 0.3)).forgotten == ()


def test_the_user_may_have_failures_forgotten():
    study = optuna.create_study()
    study.add_trials([failure(0.9), failure(0.8, error="ValueError: no"), trial()])
    study.set_user_attr(FORGOTTEN, [1])
    assert [each.number for each in History.of(study, PIPELINE).forgotten] == [1]
    study.set_user_attr(FORGET, ["FileNotFound"])
    assert [each.number for each in History.of(study, PIPELINE).forgotten] == [0, 1]


def test_failures_of_code_that_is_gone_are_forgotten():
    def pipeline(*versions):
        return Pipeline(
            [
                Stage(
                    function=lambda data, x: data,
                    space={"x": Float(0, 1)},
                    name="prep",
                    version=versions[0],
                ),
                Stage(
                    function=lambda data, y: data,
                    space={"y": Float(0, 1)},
                    name="fit",
                    version=versions[1],
                ),
            ]
        )

    old = pipeline("1", "1")
    trials = [failure(0.9, failed_stage="prep", failed_code=code_up_to(old.layout, "prep"))]

    assert len(history_of(*trials, pipeline=old)) == 1
    assert len(history_of(*trials, pipeline=pipeline("1", "2"))) == 1  # the stage below has changed
    assert len(history_of(*trials, pipeline=pipeline("2", "1")).forgotten) == 1


def test_failures_of_one_choice_count_until_it_succeeds():
    pipeline = Pipeline.declare({"fit": {"x": Float(0, 1), "kind": Categorical(["u", "v"])}})

    def ended(number, x, kind, value):
        error = "Traceback (most recent call last):\n  ...\nOSError: no libomp"
        return optuna.trial.create_trial(
            state=TrialState.FAIL if value is None else TrialState.COMPLETE,
            value=value,
            params={"fit.x": x, "fit.kind": kind},
            distributions=pipeline.space,
            user_attrs={"error": error} if value is None else {},
        )

    study = optuna.create_study()
    for number, x in enumerate((0.1, 0.9, 0.5)):
        study.add_trial(ended(number, x, "u", None))
    study.add_trial(ended(3, 0.3, "v", 1.0))
    assert History.of(study, pipeline).forgotten == ()
    study.add_trial(ended(4, 0.3, "u", 1.0))
    assert len(History.of(study, pipeline).forgotten) == 3
