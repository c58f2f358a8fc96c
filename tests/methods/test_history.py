"""What trials say as arrays."""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from toys import declared

from eeipu import Categorical, Float, Int, Pipeline
from eeipu.methods.forgotten_failures import FORGET, FORGOTTEN
from eeipu.methods.history import History
from eeipu.methods.ledger import Ledger, is_interrupted
from eeipu.stages.declaration import Stage

PIPELINE = declared()


def trial(x=0.5, y=0.5, value=1.0, *, extra=None, **attrs):
    params = {"prep.x": x, "fit.y": y, **(extra or {})}
    return create_trial(
        params=params,
        distributions={name: Float(0.0, 1.0) for name in params},
        value=value,
        state=TrialState.FAIL if value is None else TrialState.COMPLETE,
        user_attrs=attrs,
    )


def history_of(*trials, direction="maximize", pipeline=PIPELINE):
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    return History.of(study, pipeline)


def test_an_empty_study_gives_empty_arrays():
    history = history_of()

    assert len(history) == 0
    assert history.X.shape == history.running_X.shape == (0, 2)
    assert history.values.shape == (0,)
    assert history.stage_costs.shape == (0, 3)
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
        history.stage_costs,
        [[4.0, 2.0, 1.0], [nan, 2.0, 1.0], [4.0, nan, nan], [nan, nan, nan]],
    )


def test_the_best_come_first_and_earlier_trials_win_ties():
    history = history_of(
        trial(value=1.0), trial(value=3.0), trial(value=None), trial(value=3.0), trial(value=2.0)
    )

    assert [each.number for each in history.top(3)] == [1, 3, 4]
    assert [each.number for each in history.top(9)] == [1, 3, 4, 0]


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
    assert len(history.configurations) == 1


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
        assert not History.of(study, pipeline).is_exhausted
        study.enqueue_trial({"only.a": a})
        running = study.ask(pipeline.space)
        if a < 3:
            study.tell(
                running,
                state=TrialState.FAIL if a == 1 else TrialState.COMPLETE,
                values=None if a == 1 else 1.0,
            )

    assert History.of(study, pipeline).is_exhausted


def test_an_infinite_space_is_never_exhausted():
    assert not history_of(trial(), trial()).is_exhausted


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

    assert not history.is_new({"only.a": choices[1], "only.b": 0.5})
    assert history.is_new({"only.a": choices[0], "only.b": 0.5})
    assert history.is_new({"only.a": choices[1], "only.b": 0.25})


# --- failures that no longer count


def failure(x, y=0.5, error="FileNotFoundError: data.csv", **attrs):
    return trial(x, y, None, error=f"Traceback (most recent call last):\n  ...\n{error}", **attrs)


def scattered(error="FileNotFoundError: data.csv"):
    return [failure(x, y, error) for x, y in [(0.1, 0.8), (0.9, 0.1), (0.4, 0.5), (0.7, 0.9)]]


def test_failures_with_one_error_at_scattered_places_are_forgotten_once_they_have_ended():
    history = history_of(*scattered(), trial(0.2, 0.3))

    assert (len(history), len(history.forgotten)) == (1, 4)
    assert history.is_new(history.forgotten[0].params)


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
    assert history.failed.sum() == sum(each.state is TrialState.FAIL for each in trials)


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
    trials = [failure(0.9, failed_stage="prep", failed_code=old.code_up_to("prep"))]

    assert len(history_of(*trials, pipeline=old)) == 1
    assert len(history_of(*trials, pipeline=pipeline("1", "2"))) == 1  # the stage below has changed
    assert len(history_of(*trials, pipeline=pipeline("2", "1")).forgotten) == 1


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

    np.testing.assert_array_equal(history.estimates, [1.0, 3.0, 4.0, estimate])
    assert math.isnan(history.values[3])
    assert not history.failed[3]
    assert not history.succeeded[3]


def same(one, other):
    """Whether two histories say the same."""
    assert one == other
    for name in ("X", "values", "stage_costs", "running_X"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.configurations == other.configurations
    return True


def test_a_ledger_changes_nothing_but_the_time():
    """Trials begin and end in any order, some are enqueued, cut off, or fail."""
    study, ledger = optuna.create_study(direction="minimize"), Ledger(PIPELINE)
    rng, running = np.random.default_rng(0), []
    for step in range(60):
        if not running or rng.random() < 0.5:
            if step % 7 == 0:
                study.enqueue_trial({"prep.x": 0.5, "fit.y": step / 60})
            running.append(study.ask(PIPELINE.space if step % 5 else {}))
            running[-1].set_user_attr("charged", step / 3)
        else:
            ended = running.pop(rng.integers(len(running)))
            if step % 3 == 0:
                ended.set_user_attr("interrupted" if step % 2 else "error", "yes")
                study.tell(ended, state=TrialState.FAIL)
            else:
                study.tell(ended, float(rng.random()))
        known = History.of(study, PIPELINE, ledger=ledger)
        assert same(known, History.of(study, PIPELINE))


def test_a_ledger_encodes_each_trial_once(monkeypatch):
    encoded = []
    encode = type(PIPELINE.cube).encode
    monkeypatch.setattr(
        type(PIPELINE.cube),
        "encode",
        lambda cube, params: encoded.extend(params) or encode(cube, params),
    )
    study, ledger = optuna.create_study(), Ledger(PIPELINE)
    for i in range(20):
        study.add_trial(trial(x=i / 20))
        assert len(History.of(study, PIPELINE, ledger=ledger).X) == i + 1

    assert len(encoded) == 20


def test_a_ledger_that_is_shown_another_study_starts_again():
    ledger = Ledger(PIPELINE)
    for count in (3, 2, 5):
        study = optuna.create_study()
        study.add_trials([trial(x=(i + 1) / (7 * count), charged=1.0) for i in range(count)])

        assert same(History.of(study, PIPELINE, ledger=ledger), History.of(study, PIPELINE))


def test_threads_may_read_one_ledger_at_once():
    study, ledger = optuna.create_study(), Ledger(PIPELINE)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for i in range(60):
                study.add_trial(trial(x=i / 60, charged=1.0))
                read = [pool.submit(History.of, study, PIPELINE, None, ledger) for _ in range(4)]
                for history in [each.result() for each in read]:
                    assert [t.number for t in history.ended] == list(range(i + 1))
                    assert history.spent == len(history.X) == i + 1
    finally:
        sys.setswitchinterval(interval)


def test_a_part_of_a_history_is_a_history():
    study = optuna.create_study()
    study.add_trials([trial(x=i / 10, value=float(i)) for i in range(9)])
    whole = History.of(study, PIPELINE, ledger=Ledger(PIPELINE))
    assert len(whole.X) == len(whole.configurations) == 9

    first = replace(whole, ended=whole.ended[:4])
    others = replace(whole, ended=whole.ended[4:])

    assert first.X[:, 0].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert others.values.tolist() == [-4.0, -5.0, -6.0, -7.0, -8.0]
    assert first.configurations | others.configurations == whole.configurations
