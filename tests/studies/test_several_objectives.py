"""Studies with several objectives, and with constraints on outcomes."""

import json

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from eeipu import (
    ASHA,
    ConfigurationError,
    EEIPUSampler,
    Float,
    OneOf,
    Pipeline,
    StageCache,
    Tuner,
    stage,
)
from eeipu.errors import PipelineError, StudyMismatchError
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.methods.history import History

DIRECTIONS = ["maximize", "minimize"]
SPACES = {"prep": {"x": Float(0.0, 1.0)}, "fit": {"y": Float(0.0, 1.0)}}


@stage(space={"x": Float(0.0, 1.0)}, cost=lambda x: 4.0 + x, version="1")
def prep(data, *, x):
    return data + x


@stage(
    space={"y": Float(0.0, 1.0)},
    cost=lambda y: 1.0,
    version="1",
    observe=lambda out: {"memory_mb": 1000.0 * out[1]},
)
def fit(x, *, y):
    return x, y


@stage(cost=lambda: 0.1, version="1")
def score(model):
    x, y = model
    return {"accuracy": 1.0 - (x - 0.5) ** 2 - (y - 0.9) ** 2, "latency": 1.0 + y + x, "z": 3.0}


def pipeline_of(objective=("accuracy", "latency"), **arguments):
    return Pipeline([prep, fit, score], objective=list(objective), **arguments)


def tuner_of(pipeline=None, **arguments):
    pipeline = pipeline_of() if pipeline is None else pipeline
    return Tuner(
        pipeline,
        **{"budget": 40.0, "directions": DIRECTIONS, "seed": 0, "n_initial": 3, **arguments},
    )


def run(tuner, trials=7):
    return tuner.run(0.0, max_trials=trials, progress=False)


# --- A study with several objectives


@pytest.mark.parametrize("method", ["eeipu", "eeipu-careful", "ei", "random", "random-grid"])
def test_the_study_is_optunas_and_its_best_trials_are_the_front(method):
    study = run(tuner_of(method=method))
    assert [d.name.lower() for d in study.directions] == DIRECTIONS
    assert len(study.trials) == 7
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)
    values = np.array([trial.values for trial in study.trials]) * [1, -1]
    on_front = {trial.number for trial in study.best_trials}
    for number, row in enumerate(values):
        is_beaten = ((values >= row).all(axis=1) & (values > row).any(axis=1)).any()
        assert (number in on_front) == (not is_beaten)
    assert study.trials[0].user_attrs["metrics"]["accuracy"] == study.trials[0].values[0]


@pytest.mark.parametrize(
    "sampler",
    [
        NSGAIISampler(population_size=4, seed=0),
        TPESampler(seed=0, n_startup_trials=3),
        RandomSampler(seed=0),
    ],
)
def test_optunas_samplers_search_and_see_limits(sampler):
    study = run(tuner_of(pipeline_of(constraints={"memory_mb": "<= 500"}), method=sampler))
    assert len(study.trials) == 7
    for trial in study.trials:
        beyond = 1000.0 * trial.params["fit.y"] - 500.0
        assert trial.constraints == {"memory_mb <= 500": pytest.approx(beyond)}
    assert all(trial.params["fit.y"] <= 0.5 for trial in study.best_trials)


def test_outputs_are_reused_and_the_best_ones_of_the_front_are_kept():
    cache = StageCache()
    tuner = tuner_of(cache=cache, top_q=3, budget=60.0)
    study = run(tuner, trials=10)
    top = tuner._trials.history.top(3)
    assert {trial.number for trial in top} <= {trial.number for trial in study.best_trials}
    # One that comes back among the best, as others became crowded, may have lost its outputs.
    kept = [all(key in cache for key in trial.user_attrs["stage_keys"]) for trial in top]
    assert sum(kept) >= 2
    assert any(trial.user_attrs["memoized"][0] for trial in study.trials[3:])


def test_models_choose_after_the_warm_up_and_say_why():
    study = run(tuner_of())
    chosen = [trial.user_attrs["chosen"] for trial in study.trials[3:]]
    assert {each["by"] for each in chosen} == {"models"}
    assert all(len(each["means"]) == len(each["stds"]) == 2 for each in chosen)
    json.dumps(chosen)


def test_the_same_call_resumes(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    first = run(tuner_of(storage=storage, study_name="s"), trials=4)
    tuner = tuner_of(storage=storage, study_name="s")
    assert tuner.spent == pytest.approx(sum(t.user_attrs["charged"] for t in first.trials))
    assert len(run(tuner, trials=2).trials) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"directions": ["minimize", "minimize"]}, "'maximize', 'minimize', but 'minimize'"),
        ({"pipeline": pipeline_of(["latency", "accuracy"])}, "'accuracy', 'latency', and this"),
        ({"pipeline": pipeline_of(["accuracy"]), "directions": ["maximize"]}, "direction"),
    ],
)
def test_a_study_is_not_continued_with_other_objectives(changes, message):
    storage = optuna.storages.InMemoryStorage()
    tuner_of(storage=storage, study_name="s")
    with pytest.raises(StudyMismatchError, match=message):
        tuner_of(**{"storage": storage, "study_name": "s", **changes})


def test_many_workers_share_a_search_with_several_objectives():
    pipeline = pipeline_of(outcome_constraints={"memory_mb": "<= 800"})
    study = run(tuner_of(pipeline, executor=SimulatedPool(workers=4), budget=80.0), trials=10)
    params = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(params)) == len(params)


def test_failures_are_data():
    @stage(cost=lambda: 0.1, version="1")
    def failing(model):
        x, y = model
        if y > 0.6:
            raise ValueError("no memory")
        return {"accuracy": x, "latency": y}

    pipeline = Pipeline([prep, fit, failing], objective=["accuracy", "latency"])
    study = run(tuner_of(pipeline, budget=60.0), trials=9)
    states = {trial.state for trial in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.FAIL}


def test_a_pruned_trial_is_no_failure_and_has_no_values():
    @stage(cost=lambda: 0.1, version="1")
    def pruning(model):
        if model[1] > 0.5:
            raise optuna.TrialPruned
        return {"accuracy": model[0], "latency": model[1]}

    pipeline = Pipeline([prep, fit, pruning], objective=["accuracy", "latency"])
    study = run(tuner_of(pipeline))
    assert {t.state for t in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much", None])
def test_every_objective_must_be_a_finite_number(value):
    @stage(version="1")
    def odd(model):
        return {"accuracy": 1.0, "latency": value}

    result = Pipeline([prep, fit, odd], objective=["accuracy", "latency"]).run(
        {"prep.x": 0.5, "fit.y": 0.5}, 0.0
    )
    assert result.value is None
    assert result.values == ()
    assert "latency" in result.error or "finite" in result.error


@pytest.mark.parametrize(
    "output",
    [
        {"a": 1, "b": 2.0, "c": 3},
        (1.0, 2.0),
        [1, 2],
        np.array([1.0, 2.0]),
        torch.tensor([1.0, 2.0]),
        {"a": np.float32(1), "b": torch.tensor(2.0)},
    ],
)
def test_a_stage_returns_a_dict_or_one_number_for_each_objective(output):
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def only(*, x):
        return output

    result = Pipeline([only], objective=["a", "b"]).run({"only.x": 0.5})
    assert result.values == (1.0, 2.0)
    assert result.value == 1.0
    assert result.metrics["b"] == 2.0


@pytest.mark.parametrize("output", [1.0, (1.0, 2.0, 3.0), {"a": 1.0}, None, "ab"])
def test_what_lacks_an_objective_is_refused(output):
    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def only(*, x):
        return output

    result = Pipeline([only], objective=["a", "b"]).run({"only.x": 0.5})
    assert result.value is None
    assert "'b'" in result.error


@pytest.mark.parametrize("objective", [[], ["a", "a"], ["a", 1], 3, {"a": 1}])
def test_an_objective_is_a_name_or_a_list_of_different_names(objective):
    with pytest.raises(PipelineError, match="objective must be"):
        Pipeline([prep, fit, score], objective=objective)


# --- Directions


def test_a_list_is_taken_as_direction_too():
    assert len(tuner_of(directions=None, direction=DIRECTIONS).study.directions) == 2
    single = Tuner(pipeline_of(["accuracy"]), budget=1.0, directions=["minimize"])
    assert single.study.direction is optuna.study.StudyDirection.MINIMIZE


def test_optunas_directions_are_directions():
    maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    assert tuner_of(directions=[maximize, "minimize"]).study.directions == [maximize, minimize]
    single = Tuner(pipeline_of(["accuracy"]), budget=1.0, direction=minimize)
    assert single.study.direction is minimize
    with pytest.raises(ConfigurationError, match="direction must be"):
        Tuner(pipeline_of(["accuracy"]), budget=1.0, direction=optuna.study.StudyDirection.NOT_SET)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directions": None}, "give the direction of each"),
        ({"directions": ["maximize"]}, "one entry for each of the 2"),
        ({"directions": ["maximize", "up"]}, "but got 'up'"),
        ({"directions": "maximize"}, "one entry for each of the 2"),
        ({"method": "eips"}, "'eips' has one objective.*'eeipu'"),
        ({"method": "eeipu-paper"}, "has one objective"),
        ({"price": 1.0}, "price needs one objective"),
        ({"stop_when_done": True}, "stop_when_done needs one objective"),
    ],
)
def test_what_several_objectives_cannot_have_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        tuner_of(**arguments)


def test_early_stopping_needs_one_objective():
    with pytest.raises(ConfigurationError, match="compares trials by one value"):
        tuner_of(early_stopping=ASHA(min_steps=3))


# --- Ask and tell, known results, the best run


def test_ask_and_tell_take_a_dict_or_a_list():
    pipeline = Pipeline.declare(SPACES, objective=["f1", "s"], constraints={"mb": "<= 5"})
    tuner = Tuner(pipeline, budget=20.0, directions=DIRECTIONS, seed=0, n_initial=2)
    for k in range(6):
        asked = tuner.ask()
        value = {"f1": asked.params["prep.x"], "s": float(k), "mb": 10 * asked.params["fit.y"]}
        tuner.tell(asked, value, stage_costs=[1.0, 0.5])
    assert len(tuner.study.trials) == 6
    assert all(t.params["fit.y"] <= 0.5 for t in tuner.study.best_trials)
    assert tuner.study.trials[0].user_attrs["metrics"]["mb"] > 0

    plain = Tuner(
        Pipeline.declare(SPACES, objective=["f1", "s"]), budget=9.0, directions=DIRECTIONS
    )
    plain.tell(plain.ask(), [0.5, 2.0])
    plain.tell(plain.ask(), np.array([0.25, 1.0]))
    plain.tell(plain.ask(), (0.25, float("nan")))
    plain.tell(plain.ask(), failed=True)
    plain.tell(plain.ask(), pruned=True)
    states = [trial.state.name for trial in plain.study.trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", "PRUNED"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "a number for each of the objectives"),
        ([0.5], "a number for each of the objectives"),
        ({"f1": 0.5, "mb": 1.0}, "objective is 's'"),
        ({"f1": 0.5, "s": 1.0}, "constraint on 'mb', and its value is None"),
        ({"f1": 0.5, "s": 1.0, "mb": float("nan")}, "'mb'.* nan"),
        ({"f1": "x", "s": 1.0, "mb": 1.0}, "'f1' must be a"),
    ],
)
def test_what_is_told_must_have_everything(value, message):
    pipeline = Pipeline.declare(SPACES, objective=["f1", "s"], constraints={"mb": "<= 5"})
    tuner = Tuner(pipeline, budget=20.0, directions=DIRECTIONS)
    with pytest.raises(ConfigurationError, match=message):
        tuner.tell(tuner.ask(), value)
    with pytest.raises(ConfigurationError, match=message):
        tuner.add_trial({"prep.x": 0.5, "fit.y": 0.5}, value)


def test_known_results_have_several_values_and_their_limits():
    tuner = tuner_of(pipeline_of(constraints={"memory_mb": "<= 500"}))
    for _ in range(2):
        tuner.add_trial(
            {"prep.x": 0.5, "fit.y": 0.5}, {"accuracy": 0.5, "latency": 2.0, "memory_mb": 501.0}
        )
    (known,) = tuner.study.trials
    assert known.values == [0.5, 2.0]
    assert known.constraints == {"memory_mb <= 500": 1.0}
    assert tuner.study.best_trials == []


def test_a_trial_of_the_front_is_run_again_by_its_number():
    tuner = tuner_of()
    study = run(tuner)
    number = study.best_trials[0].number
    best = tuner.best_run(0.0, number=number)
    assert best.values == tuple(study.trials[number].values)
    assert best.outputs["prep"] == study.trials[number].params["prep.x"]
    with pytest.raises(ConfigurationError, match=r"several objectives.*number=.*front is"):
        tuner.best_run(0.0)
    with pytest.raises(ConfigurationError, match="no trial 99"):
        tuner.best_run(0.0, number=99)


# --- Constraints on outcomes, with one objective


def single(limit="<= 500", **arguments):
    pipeline = Pipeline(
        [prep, fit, score], objective="accuracy", outcome_constraints={"memory_mb": limit}
    )
    return Tuner(pipeline, **{"budget": 40.0, "seed": 0, "n_initial": 4, **arguments})


@pytest.mark.parametrize("method", ["eeipu", "eeipu-paper", "ei"])
def test_the_best_trial_keeps_its_limits_and_the_search_seeks_there(method):
    """Without the limit the best value is at y = 0.9; within it at y = 0.5."""
    tuner = single(method=method)
    study = run(tuner)
    assert study.best_trial.params["fit.y"] <= 0.5
    beyond = [trial.params["fit.y"] > 0.5 for trial in study.trials[4:]]
    assert np.mean(beyond) <= 0.5
    assert tuner.best_run(0.0).metrics["accuracy"] == study.best_value


def test_the_search_finds_the_edge_of_what_is_allowed():
    study = run(single(budget=80.0), trials=14)
    assert 0.42 < study.best_trial.params["fit.y"] <= 0.5
    assert abs(study.best_trial.params["prep.x"] - 0.5) < 0.1


def test_outputs_of_trials_beyond_a_limit_are_kept_last():
    tuner = single()
    run(tuner)
    top = tuner._trials.history.top(3)
    assert all(trial.params["fit.y"] <= 0.5 for trial in top)


def test_a_search_goes_on_where_nothing_keeps_the_limit():
    """It seeks what comes closest, and no best trial is made up."""
    tuner = single("<= -1", budget=50.0)
    study = run(tuner, trials=8)
    assert np.mean([t.params["fit.y"] for t in study.trials[4:]]) < 0.4
    with pytest.raises(ConfigurationError, match="within all limits"):
        tuner.best_run(0.0)


def test_a_limit_counts_as_it_is_now_when_a_study_goes_on():
    storage = optuna.storages.InMemoryStorage()
    run(single("<= 500", storage=storage, study_name="s", budget=20.0), trials=4)
    tuner = single(">= 700", storage=storage, study_name="s", budget=20.0)
    history = tuner._trials.history
    y = np.array([trial.params["fit.y"] for trial in history.ended])
    assert history.feasible.tolist() == (y >= 0.7).tolist()


def test_a_missing_outcome_is_a_failure_that_says_what_to_do():
    pipeline = pipeline_of(outcome_constraints={"disk_gb": "<= 5"})
    result = pipeline.run({"prep.x": 0.5, "fit.y": 0.5}, 0.0)
    assert result.value is None
    assert "'disk_gb'" in result.error
    assert "stage(observe=...)" in result.error


def test_a_limit_needs_a_number():
    with pytest.raises(PipelineError, match="constraint on 'memory_mb' has no limit"):
        pipeline_of(outcome_constraints={"memory_mb": []})


def test_a_limit_on_what_several_stages_show_is_a_failure_that_names_them():
    @stage(version="1", cost=lambda: 1.0, observe=lambda out: {"memory_mb": 1.0})
    def load(data):
        return data

    pipeline = Pipeline(
        [load, prep, fit, score], "accuracy", outcome_constraints={"memory_mb": "<= 300"}
    )
    (trial,) = run(Tuner(pipeline, budget=60.0, seed=0), trials=3).trials
    assert trial.state is TrialState.FAIL
    assert "name one of ['load.memory_mb', 'fit.memory_mb']" in trial.user_attrs["error"]


def test_a_limit_may_be_on_what_an_alternative_shows_that_is_not_always_run():
    @stage(space={"a": Float(0.0, 1.0)}, version="1", cost=lambda a: 1.0)
    def lean(data, *, a):
        return data, a

    pipeline = Pipeline(
        [prep, OneOf("model", [fit, lean]), score],
        objective="accuracy",
        constraints={"fit.memory_mb": "<= 300"},
    )
    study = run(Tuner(pipeline, budget=60.0, seed=0, n_initial=6), trials=8)
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)
    assert {trial.params["model"] for trial in study.trials} == {"fit", "lean"}
    assert study.best_trial.params.get("fit.y", 0.0) <= 0.3


# --- Plain Optuna studies


def test_the_sampler_serves_plain_studies_with_several_objectives_and_limits():
    pipeline = pipeline_of(outcome_constraints={"fit.memory_mb": ["<= 600", ">= 10"]})
    study = optuna.create_study(
        directions=DIRECTIONS, sampler=EEIPUSampler(pipeline, budget=40.0, seed=0, n_initial=3)
    )
    study.optimize(lambda trial: pipeline.run(trial, 0.0).values, n_trials=6)
    assert [t.user_attrs["chosen"] for t in study.trials if "chosen" in t.user_attrs] == []
    assert all(len(trial.constraints) == 2 for trial in study.trials)
    assert all(0.01 <= t.params["fit.y"] <= 0.6 for t in study.best_trials)


def test_a_sampler_for_one_objective_refuses_a_plain_study_with_several():
    pipeline = pipeline_of(["accuracy"])
    study = optuna.create_study(
        directions=DIRECTIONS, sampler=EEIPUSampler(pipeline, budget=40.0, method="eips")
    )
    with pytest.raises(ConfigurationError, match="has one objective, and there are 2"):
        study.optimize(lambda trial: pipeline.run(trial, 0.0).metrics["z"], n_trials=1)


def test_trials_from_elsewhere_with_an_infinite_value_have_no_value():
    study = optuna.create_study(directions=DIRECTIONS)
    params, space = {"prep.x": 0.5, "fit.y": 0.5}, pipeline_of().space
    for values in ([0.5, 1.0], [0.5, float("inf")]):
        study.add_trial(create_trial(params=params, distributions=space, values=values))
    history = History.of(study, pipeline_of())
    assert history.objectives.succeeded.tolist() == [True, False]
    assert np.isnan(history.objectives.values[1]).all()
