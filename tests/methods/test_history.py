"""What trials say as arrays."""

import math

import numpy as np
import optuna
import pytest
from histories import PIPELINE, history_of, trial
from optuna.trial import TrialState, create_trial

from eeipu import Categorical, Float, Int, Pipeline, stage
from eeipu.methods.history import History
from eeipu.methods.trials.forgotten_failures import FORGOTTEN
from eeipu.methods.trials.ledger import is_interrupted


def test_an_empty_study_gives_empty_arrays():
    history = history_of()

    assert len(history) == 0
    assert history.X.shape == history.running_X.shape == (0, 2)
    assert history.values.shape == (0,)
    assert history.stages.costs.shape == (0, 3)
    assert history.top(5) == ()
    assert history.spent == history.spent_by(3) == 0.0


def test_configurations_are_points_of_the_declared_space():
    pipeline = Pipeline.declare({"only": {"a": Int(1, 4), "b": Categorical(["u", "v"])}})
    study = optuna.create_study()
    study.enqueue_trial({"only.a": 2, "only.b": "v"})
    study.tell(study.ask(pipeline.space), 1.0)

    assert History.of(study, pipeline).X.tolist() == [[0.375, 0.75]]


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_values_are_maximised_and_nan_where_a_trial_failed(direction, sign):
    history = history_of(
        trial(value=2.0), trial(value=None), trial(value=-3.0), direction=direction
    )

    np.testing.assert_array_equal(history.values, [sign * 2.0, math.nan, sign * -3.0])


def test_costs_are_nan_where_a_stage_was_not_executed_or_broke_off():
    history = history_of(
        trial(stage_costs=[4.0, 2.0, 1.0]),
        trial(stage_costs=[None, 2.0, 1.0]),
        trial(value=None, stage_costs=[4.0, 0.1, None], failed_stage="fit", error="..."),
        trial(),
    )

    nan = math.nan
    np.testing.assert_array_equal(
        history.stages.costs,
        [[4.0, 2.0, 1.0], [nan, 2.0, 1.0], [4.0, nan, nan], [nan, nan, nan]],
    )


def test_the_best_come_first_and_earlier_trials_win_ties():
    values = (1.0, 3.0, None, 3.0, 2.0)
    history = history_of(*(trial(x=0.1 * k, value=value) for k, value in enumerate(values)))

    assert [each.number for each in history.top(3)] == [1, 3, 4]
    assert [each.number for each in history.top(9)] == [1, 3, 4, 0]


def test_a_configuration_that_ran_several_times_is_one_of_the_best_once():
    history = history_of(trial(value=1.0), trial(value=3.0), trial(x=0.7, value=2.0))

    assert [each.number for each in history.top(2)] == [1, 2]


def test_the_best_of_a_minimisation_are_the_smallest():
    history = history_of(trial(value=1.0), trial(value=-3.0), direction="minimize")

    assert [each.number for each in history.top(1)] == [1]


def test_interrupted_trials_are_paid_for_and_otherwise_left_out():
    history = history_of(
        trial(charged=1.0),
        trial(value=None, charged=2.0, driver="host:1:1.0"),
        trial(value=None, charged=4.0, interrupted=True),
        trial(value=None, charged=8.0, driver="host:1:1.0", error="Traceback"),
    )

    assert [each.number for each in history.ended] == [0, 3]
    assert history.spent == 15.0


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"driver": "host:1:1.0"}, True),
        ({"interrupted": True}, True),
        ({"driver": "host:1:1.0", "error": "Traceback"}, False),
        ({}, False),  # a failure of plain Optuna's
    ],
)
def test_which_failures_are_interruptions(attrs, expected):
    assert is_interrupted(trial(value=None, **attrs)) == expected
    assert not is_interrupted(trial(value=1.0, **attrs))


def test_running_trials_count_once_they_have_a_configuration():
    study = optuna.create_study()
    study.ask()
    half = study.ask()
    half.suggest_float("prep.x", 0.0, 1.0)
    whole = study.ask(PIPELINE.space)
    study.enqueue_trial({"prep.x": 0.5, "fit.y": 0.5})
    history = History.of(study, PIPELINE)

    assert [each.number for each in history.running] == [whole.number]
    assert history.running_X.tolist() == [list(whole.params.values())]
    assert len(history) == 0
    assert len(history.configurations.begun) == 1


def test_an_enqueued_trial_has_its_configuration_from_the_moment_that_it_runs():
    study = optuna.create_study()
    study.enqueue_trial({"prep.x": 0.5, "fit.y": 0.25})
    study.enqueue_trial({"prep.x": 0.5})
    begun, half = study.ask(), study.ask()
    history = History.of(study, PIPELINE)

    assert [each.number for each in history.running] == [begun.number]
    assert history.running_X.tolist() == [[0.5, 0.25]]
    assert begun.params == half.params == {}  # in the storage


def test_what_is_enqueued_or_was_cut_off_is_not_new_and_has_not_run():
    study = optuna.create_study()
    study.enqueue_trial({"prep.x": 0.125, "fit.y": 0.5})
    study.add_trial(trial(x=0.25, y=0.5, value=None, interrupted=True))  # not enqueued again yet
    study.add_trial(trial(x=0.75, y=0.5, value=None, error="boom"))
    history = History.of(study, PIPELINE)

    new = [
        x
        for x in (0.125, 0.25, 0.5, 0.75)
        if history.configurations.is_new({"prep.x": x, "fit.y": 0.5})
    ]
    assert new == [0.5]
    assert len(history.configurations.begun) == 1


def test_what_was_cut_off_before_its_failure_was_forgotten_is_new():
    study = optuna.create_study()
    study.add_trial(trial(x=0.25, y=0.5, value=None, interrupted=True))
    study.add_trial(trial(x=0.25, y=0.5, value=None, error="boom"))
    assert not History.of(study, PIPELINE).configurations.is_new({"prep.x": 0.25, "fit.y": 0.5})

    study.set_user_attr(FORGOTTEN, [1])
    assert History.of(study, PIPELINE).configurations.is_new({"prep.x": 0.25, "fit.y": 0.5})


def test_parameters_besides_the_pipelines_do_no_harm():
    history = history_of(trial(x=0.25, y=0.75, extra={"other": 0.5}))

    assert history.X.tolist() == [[0.25, 0.75]]


def test_trials_of_another_space_are_left_out():
    study = optuna.create_study()
    study.tell(study.ask({"prep.x": Float(0.0, 1.0)}), 1.0)

    assert len(History.of(study, PIPELINE)) == 0


def test_the_warm_up_is_the_first_trials_and_the_enqueued_ones():
    history = history_of(
        trial(charged=1.0), trial(charged=2.0), trial(charged=4.0, warm_up=True), trial(charged=8.0)
    )

    assert history.spent_by(1) == 5.0
    assert history.spent_by(2) == 7.0
    assert history.spent_by(9) == 15.0


# --- which configurations have run


def test_a_finite_space_is_exhausted_when_all_of_it_ran_or_runs():
    pipeline = Pipeline.declare({"only": {"a": Int(1, 3)}})
    study = optuna.create_study()
    for a in (1, 2, 2, 3):
        assert not History.of(study, pipeline).configurations.are_exhausted
        study.enqueue_trial({"only.a": a})
        running = study.ask(pipeline.space)
        if a < 3:
            study.tell(
                running,
                state=TrialState.FAIL if a == 1 else TrialState.COMPLETE,
                values=None if a == 1 else 1.0,
            )

    assert History.of(study, pipeline).configurations.are_exhausted


def test_an_infinite_space_is_never_exhausted():
    assert not history_of(trial(), trial()).configurations.are_exhausted


@pytest.mark.parametrize(
    "choices", [["a", "b"], [None, True], [1, "1"], [(50,), (50, 50)], [[50], [50, 50]], [abs, max]]
)
# Optuna warns of choices that only a study in memory can hold.
@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
def test_configurations_are_told_apart_whatever_their_choices_are(choices):
    pipeline = Pipeline.declare({"only": {"a": Categorical(choices), "b": Float(0.0, 1.0)}})
    study = optuna.create_study()
    study.enqueue_trial({"only.a": choices[1], "only.b": 0.5})
    study.tell(study.ask(pipeline.space), 1.0)
    history = History.of(study, pipeline)

    assert not history.configurations.is_new({"only.a": choices[1], "only.b": 0.5})
    assert history.configurations.is_new({"only.a": choices[0], "only.b": 0.5})
    assert history.configurations.is_new({"only.a": choices[1], "only.b": 0.25})


def pruned(*reported):
    return create_trial(
        params={"prep.x": 0.1, "fit.y": 0.2},
        distributions=PIPELINE.space,
        state=TrialState.PRUNED,
        intermediate_values=dict(enumerate(reported)),
    )


@pytest.mark.parametrize(
    ("reported", "estimate"),
    [((9.0, 2.5), 2.5), ((0.0,), 1.0), ((9.0,), 3.0), ((), math.nan), ((math.nan,), math.nan)],
)
def test_a_pruned_trial_counts_with_what_it_reported_last_within_limits(reported, estimate):
    """It is not better than half of the others, nor worse than all."""
    history = history_of(trial(value=1.0), trial(value=3.0), trial(value=4.0), pruned(*reported))

    np.testing.assert_array_equal(history.objectives.estimates(0), [1.0, 3.0, 4.0, estimate])
    assert math.isnan(history.values[3])
    assert not history.objectives.failed[3]
    assert not history.objectives.succeeded[3]


# --- Observations


def test_observations_are_columns_by_name_with_gaps_filled_by_key():
    history = history_of(
        trial(observations={"prep.loss": 0.5, "fit": 2.0}, stage_keys=["a", "b", "c"]),
        trial(observations={"fit": 3.0}, stage_keys=["a", "d", "e"]),
        trial(value=None, observations={"prep.auc": 0.75}, stage_keys=["f", "g", "h"]),
        trial(),
    )
    found = {
        name: (each.stage, each.values.tolist())
        for name, each in history.stages.observations.items()
    }
    nan = math.nan
    assert list(found) == ["prep.loss", "fit", "prep.auc"]
    assert found["prep.loss"][0] == found["prep.auc"][0] == 0
    assert found["fit"][0] == 1
    np.testing.assert_array_equal(found["prep.loss"][1], [0.5, 0.5, nan, nan])
    np.testing.assert_array_equal(found["fit"][1], [2.0, 3.0, nan, nan])
    np.testing.assert_array_equal(found["prep.auc"][1], [nan, nan, 0.75, nan])


def test_observations_of_stages_that_are_gone_are_left_out():
    assert history_of(trial(observations={"former.loss": 0.5})).stages.observations == {}
    assert history_of().stages.observations == {}


def chain(observe=None):
    def made(data, x=0.0):
        return data + x

    options = {"space": {"x": Float(0, 1)}, "version": "1", "name": "prep"}
    return Pipeline(
        [
            stage(made, observe=observe, **options),
            stage(lambda data, y: data * y, space={"y": Float(0, 1)}, version="1", name="fit"),
            stage(lambda data: data, version="1", name="score"),
        ]
    )


def test_outputs_are_known_from_trials_of_earlier_versions_too():
    trials = [
        trial(stage_values=[1.5, None, 0.5], value=0.5),
        trial(observations={"prep": 2.5, "score": 1.0}, value=1.0),
        trial(stage_values=[1.5, 2.0], value=2.0),
    ]
    history = history_of(*trials, pipeline=chain())
    nan = math.nan
    np.testing.assert_array_equal(history.stages.outputs, [[1.5, nan], [2.5, nan], [nan, nan]])
    assert history.stages.observations["prep"].values[:2].tolist() == [1.5, 2.5]


def test_what_an_observer_says_is_no_output():
    history = history_of(trial(observations={"prep": 2.5}), pipeline=chain(lambda data: 2.5))
    assert history.stages.observations["prep"].values.tolist() == [2.5]
    np.testing.assert_array_equal(history.stages.outputs, [[math.nan, math.nan]])
