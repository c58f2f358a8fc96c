"""Enqueued configurations, whole and in part."""

import logging

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from toys import Toy, config, declared

from eeipu import (
    Categorical,
    EEIPUSampler,
    Float,
    OneOf,
    Optional,
    Pipeline,
    SpaceError,
    Tuner,
    stage,
)
from eeipu.methods.history import History
from eeipu.methods.trials.ledger import is_interrupted
from eeipu.studies import trials as trials_module
from eeipu.studies.drivers.dead_drivers import enqueue_again
from eeipu.studies.drivers.driver_queue import is_chosen

SUM = [lambda p: p["prep.x"] + p["fit.y"] <= 1]
SPACES = {"prep": {"x": Float(0.0, 1.0)}, "fit": {"y": Float(0.0, 1.0)}}


def tuner_of(constraints=SUM, method="random", **options):
    pipeline = Pipeline.declare(SPACES, constraints=constraints)
    return Tuner(pipeline, budget=1000.0, method=method, seed=0, **options)


def tell(tuner, suggestion):
    value = -((suggestion.params["prep.x"] - 0.6) ** 2) - (suggestion.params["fit.y"] - 0.6) ** 2
    tuner.tell(suggestion, value, stage_costs=[1.0, 1.0])


@pytest.mark.parametrize(
    "method", ["eeipu", "random", "random-grid", optuna.samplers.RandomSampler(seed=0)]
)
def test_the_rest_of_a_configuration_is_drawn_when_its_turn_comes(method):
    tuner = Tuner(
        Toy().pipeline, budget=100.0, method=method, seed=None if not isinstance(method, str) else 0
    )
    tuner.enqueue({"prep.x": 0.125, "fit.loss": "absolute"})
    tuner.enqueue(config(x=0.5))
    tuner.enqueue({"score.k": 5})
    study = tuner.run(0.0, max_trials=4, progress=False)

    first, second, third, fourth = study.trials
    assert first.params.items() >= {"prep.x": 0.125, "fit.loss": "absolute"}.items()
    assert second.params == config(x=0.5)
    assert third.params["score.k"] == 5
    assert "fixed_params" not in fourth.system_attrs
    assert all(trial.user_attrs.get("warm_up") for trial in (first, second, third))
    assert all(len(trial.params) == 4 for trial in study.trials)


def test_the_rest_is_the_methods_own_choice():
    tuner = tuner_of(method="eeipu", n_initial=4)
    for x, y in [
        (0.1, 0.1),
        (0.9, 0.05),
        (0.1, 0.8),
        (0.5, 0.5),
        (0.3, 0.6),
        (0.7, 0.2),
        (0.6, 0.3),
    ]:
        value = -((x - 0.6) ** 2) - (y - 0.6) ** 2
        tuner.add_trial({"prep.x": x, "fit.y": y}, value, stage_costs=[1.0, 1.0])
    tuner.enqueue({"prep.x": 0.25})
    cube, history = tuner.pipeline.cube, History.of(tuner.study, tuner.pipeline)
    proposals = tuner.study.sampler._proposals(history, 7)
    score = proposals.method.score(proposals.search)
    grid = cube.encode([{"prep.x": 0.25, "fit.y": y} for y in np.linspace(0.0, 0.75, 301)])
    suggestion = tuner.ask()

    def best_of(X):
        nothing_kept = torch.zeros(len(X), 2, dtype=torch.bool)
        return score(torch.from_numpy(X).unsqueeze(1), nothing_kept).max().item()

    assert suggestion.params["prep.x"] == 0.25
    assert best_of(cube.encode([suggestion.params])) >= best_of(grid) - 1e-3
    assert len(tuner.ask().params) == 2


def test_a_kept_prefix_that_agrees_is_shared():
    toy = Toy()
    tuner = Tuner(toy.pipeline, budget=1000.0, seed=0, n_initial=3)
    for x in (0.125, 0.5, 0.75):
        tuner.enqueue(config(x=x, y=x))
    tuner.run(0.0, max_trials=3, progress=False)
    tuner.enqueue({"prep.x": 0.5, "fit.loss": "absolute"})
    study = tuner.run(0.0, max_trials=1, progress=False)

    assert study.trials[-1].user_attrs["memoized"][0] is True
    assert toy.counts["prep"] == 3


def test_a_script_that_enqueues_a_part_again_changes_nothing(tmp_path):
    for _ in range(2):
        tuner = Tuner(
            Toy().pipeline,
            budget=100.0,
            storage=f"sqlite:///{tmp_path}/s.db",
            study_name="s",
            seed=0,
        )
        tuner.enqueue({"prep.x": 0.125})
        study = tuner.run(0.0, max_trials=1, progress=False)

    assert [trial.params["prep.x"] == 0.125 for trial in study.trials] == [True, False]


def test_a_part_waits_in_the_storage_until_a_run(tmp_path):
    def tuner():
        storage = f"sqlite:///{tmp_path}/s.db"
        return Tuner(Toy().pipeline, budget=100.0, storage=storage, study_name="s", seed=0)

    tuner().enqueue({"prep.x": 0.125, "score.k": 3})
    study = tuner().run(0.0, max_trials=2, progress=False)

    assert study.trials[0].params.items() >= {"prep.x": 0.125, "score.k": 3}.items()
    assert study.trials[1].params["prep.x"] != 0.125


def test_what_was_completed_runs_again_as_a_whole_and_what_was_not_as_a_part():
    tuner = tuner_of()
    tuner.enqueue({"prep.x": 0.25})
    suggestion = tuner.ask()
    study, pipeline = tuner.study, tuner.pipeline
    (trial,) = study.trials
    enqueue_again(study, trial, pipeline)
    trial.params = {}  # as if it had been cut off while the rest was chosen
    enqueue_again(study, trial, pipeline)

    waiting = [
        t.system_attrs["fixed_params"] for t in study.get_trials(states=(TrialState.WAITING,))
    ]
    assert waiting == [suggestion.params, {"prep.x": 0.25}]


def test_other_drivers_do_not_wait_for_what_was_completed():
    tuner = tuner_of()
    tuner.enqueue({"prep.x": 0.25})
    is_whole = tuner.pipeline.cube.is_whole
    assert not is_chosen(tuner.study.trials[0], is_whole)
    tuner.ask()
    assert is_chosen(tuner.study.trials[0], is_whole)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "nothing to enqueue"),
        ({"prep.z": 1.0}, r"unknown: \['prep.z'\]"),
        ({"prep.x": 1.5}, "outside"),
        ({"prep.x": 0.75, "fit.y": 0.5}, r"violates constraints\[0\]"),
        (0.5, "must be a dict"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(params, message):
    tuner = tuner_of()
    with pytest.raises(SpaceError, match=message):
        tuner.enqueue(params)
    assert tuner.study.trials == []


def test_a_part_that_nothing_completes_is_refused():
    tuner = tuner_of([lambda p: p["prep.x"] <= 0.5])
    with pytest.raises(SpaceError, match=r"with \{'prep.x': 0.75\} was found.*constraints\[0\]"):
        tuner.enqueue({"prep.x": 0.75})
    assert tuner.study.trials == []


def test_what_optuna_has_enqueued_against_the_constraints_is_left_out(caplog):
    tuner = tuner_of([lambda p: p["prep.x"] <= 0.5])
    for params in ({"prep.x": 0.75, "fit.y": 0.5}, {"prep.x": 0.75}, {"prep.x": 0.25}):
        tuner.study.enqueue_trial(params)
    with caplog.at_level(logging.WARNING, logger="eeipu"):
        suggestion = tuner.ask()

    assert suggestion.params["prep.x"] == 0.25
    assert "it violates constraints[0]" in caplog.text
    assert "nothing was found that completes it" in caplog.text
    assert [trial.state for trial in tuner.study.trials] == [TrialState.FAIL] * 2 + [
        TrialState.RUNNING
    ]


@pytest.mark.parametrize(
    "sampler", [optuna.samplers.RandomSampler(seed=0), optuna.samplers.TPESampler(seed=0)]
)
def test_samplers_that_know_no_constraints_are_asked_until_they_keep_them(sampler):
    tuner = Tuner(Pipeline.declare(SPACES, constraints=SUM), budget=1000.0, method=sampler)
    tuner.enqueue({"prep.x": 0.75})
    for _ in range(8):
        suggestion = tuner.ask()
        assert tuner.pipeline.cube.misfit(suggestion.params) is None
        tell(tuner, suggestion)

    states = [trial.state for trial in tuner.study.trials]
    assert states.count(TrialState.COMPLETE) == 8
    assert states.count(TrialState.FAIL) == len(states) - 8 > 0
    done = tuner.study.get_trials(states=(TrialState.COMPLETE,))
    assert done[0].params["prep.x"] == 0.75
    passed_over = tuner.study.get_trials(states=(TrialState.FAIL,))
    assert all(is_interrupted(trial) and "violates" in trial.user_attrs for trial in passed_over)
    assert len(History.of(tuner.study, tuner.pipeline)) == 8


def test_a_sampler_that_never_keeps_them_is_an_error(monkeypatch):
    monkeypatch.setattr(trials_module, "MAX_VIOLATIONS", 5)
    sampler = optuna.samplers.RandomSampler(seed=0)
    pipeline = Pipeline.declare(SPACES, constraints=[lambda p: p["prep.x"] == 0.5])
    tuner = Tuner(pipeline, budget=1000.0, method=sampler)
    with pytest.raises(ValueError, match="the last 5 configurations of RandomSampler violate"):
        tuner.ask()
    assert [trial.state for trial in tuner.study.trials] == [TrialState.FAIL] * 5


def test_where_a_sampler_does_not_keep_them_an_allowed_configuration_is_drawn(monkeypatch):
    monkeypatch.setattr(trials_module, "MAX_VIOLATIONS", 5)
    corner = [lambda p: p["prep.x"] + p["fit.y"] < 0.01]
    sampler = optuna.samplers.RandomSampler(seed=0)
    tuner = Tuner(Pipeline.declare(SPACES, constraints=corner), budget=1000.0, method=sampler)
    tuner.enqueue({"prep.x": 0.005})
    for _ in range(3):
        suggestion = tuner.ask()
        assert tuner.pipeline.cube.misfit(suggestion.params) is None
        tell(tuner, suggestion)

    done = tuner.study.get_trials(states=(TrialState.COMPLETE,))
    assert done[0].params["prep.x"] == 0.005
    assert len({trial.params["prep.x"] for trial in done}) == 3
    assert len(tuner.study.trials) == 3 * 6


def test_choices_that_are_no_json_can_be_parts():
    pipeline = Pipeline.declare({"a": {"c": Categorical(["u", None])}, "b": {"y": Float(0.0, 1.0)}})
    tuner = Tuner(pipeline, budget=10.0, seed=0)
    tuner.enqueue({"a.c": None})
    assert tuner.ask().params["a.c"] is None


def test_a_declared_pipeline_without_constraints_takes_parts_too():
    tuner = Tuner(declared(), budget=10.0, seed=0)
    tuner.enqueue({"fit.y": 0.375})
    assert tuner.ask().params["fit.y"] == 0.375


# --- Where there are alternatives


def alternatives(constraints=()):
    def named(name, **options):
        return stage(
            lambda data, *, x=0, **_: x, name=name, space={"x": Float(0.0, 1.0)}, **options
        )

    space = {"kind": ["a", "b", "c"], "k": range(1, 9)}
    tree = stage(
        lambda data, *, kind, k=0: data,
        name="tree",
        space=space,
        active_if={"k": ("kind", ["b", "c"])},
    )
    inner = OneOf("model", [named("net"), OneOf("trees", [tree, named("forest")])])
    return Pipeline([inner, Optional(named("scale")), named("score")], constraints=constraints)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"net.x": 0.25}, {"model": "net", "net.x": 0.25}),
        ({"forest.x": 0.25}, {"model": "trees", "trees": "forest", "forest.x": 0.25}),
        ({"tree.k": 3}, {"model": "trees", "trees": "tree", "tree.kind": "b", "tree.k": 3}),
        ({"tree.k": 3, "tree.kind": "c"}, {"model": "trees", "tree.kind": "c", "tree.k": 3}),
        ({"scale.x": 0.5}, {"scale": "scale", "scale.x": 0.5}),
        ({"model": "net"}, {"model": "net"}),
    ],
)
@pytest.mark.parametrize("method", ["eeipu", "random", optuna.samplers.RandomSampler(seed=0)])
def test_a_part_makes_its_values_active(method, part, expected):
    tuner = Tuner(alternatives(), budget=1.0, method=method)
    tuner.enqueue(part)
    tuner.enqueue(part)
    assert len(tuner.study.trials) == 1
    study = tuner.run(0.0, max_trials=1, progress=False)
    assert study.trials[0].params.items() >= expected.items()


@pytest.mark.parametrize("is_tuned", [True, False])
def test_what_is_enqueued_in_the_study_makes_its_values_active_too(is_tuned):
    pipeline = alternatives()
    if is_tuned:
        tuner = Tuner(pipeline, budget=1.0, method="random", seed=0)
        study = tuner.study
    else:
        sampler = EEIPUSampler(pipeline, budget=1.0, method="random", seed=0)
        study = optuna.create_study(direction="maximize", sampler=sampler)
    parts = [{"forest.x": 0.25}, {"tree.k": 3}, {"net.x": 0.5}, {"net.x": 0.5, "model": "trees"}]
    for part in parts:
        study.enqueue_trial(part)
    if is_tuned:
        tuner.run(0.0, max_trials=4, progress=False)
    else:
        study.optimize(lambda trial: pipeline.run(trial, 0.0).value, n_trials=4)
    found = [trial.params for trial in study.trials]
    assert all(
        params.items() >= part.items() for params, part in zip(found, parts[:3], strict=False)
    )
    assert found[3]["model"] == "trees"


@pytest.mark.parametrize(
    "part", [{"score.x": 7.0}, {"model": "none"}, {"tree.k": 99, "model": "trees"}]
)
def test_what_does_not_lie_in_the_space_is_left_out_of_the_run(part, caplog):
    tuner = Tuner(alternatives(), budget=1.0, method="random", seed=0)
    tuner.study.enqueue_trial(part)
    study = tuner.run(0.0, max_trials=2, progress=False)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert "does not lie in the space" in caplog.text


@pytest.mark.parametrize(
    "part",
    [
        {"model": "net", "forest.x": 0.5},
        {"tree.kind": "a", "tree.k": 3},
        {"net.x": 0.5, "tree.k": 3},
    ],
)
def test_values_that_are_never_active_together_are_refused(part):
    tuner = Tuner(alternatives(), budget=1.0)
    with pytest.raises(SpaceError, match="has no effect where"):
        tuner.enqueue(part)
    assert tuner.study.trials == []


def test_a_whole_configuration_of_the_active_parameters_runs_once():
    tuner = Tuner(alternatives(), budget=1.0, seed=0)
    study = tuner.run(0.0, max_trials=1, progress=False)
    tuner.enqueue(study.trials[0].params)
    assert len(study.trials) == 1


def test_a_whole_configuration_that_violates_a_constraint_is_told_so():
    tuner = Tuner(alternatives([lambda p: p["score.x"] <= 0.5]), budget=1.0)
    whole = {"model": "net", "net.x": 0.5, "scale": "nothing", "score.x": 0.75}
    with pytest.raises(SpaceError, match=r"violates constraints\[0\]"):
        tuner.enqueue(whole)
