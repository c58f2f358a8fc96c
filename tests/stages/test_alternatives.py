"""Alternatives: one of several stages is run, as a parameter says."""

import math

import numpy as np
import optuna
import pytest

from eeipu import (
    INPUTS,
    Categorical,
    ConfigurationError,
    EEIPUSampler,
    Float,
    Int,
    OneOf,
    Optional,
    Pipeline,
    PipelineError,
    SpaceError,
    StageCache,
    Tuner,
    stage,
)
from eeipu.studies.records.study_record import StudyRecord

SPACE = {"x": Float(0.0, 1.0)}


def named(name, function=None, **options):
    options = {"space": SPACE, "version": "1", "cost": lambda **_: 1.0} | options
    return stage(function or (lambda data, *, x: data + x), name=name, **options)


def pipeline_of(ran=None):
    """`prep` -> one of `tree`, `net` -> `score`."""

    def noting(name, weight):
        def function(data, *, x):
            if ran is not None:
                ran.append(name)
            return data + weight * x

        return function

    return Pipeline(
        [
            named("prep", noting("prep", 1.0)),
            OneOf(
                "model", [named("tree", noting("tree", 10.0)), named("net", noting("net", 100.0))]
            ),
            named("score", noting("score", 1000.0)),
        ]
    )


TREE = {"prep.x": 0.5, "model": "tree", "tree.x": 0.25, "score.x": 0.125}


def test_the_space_has_the_choice_before_what_is_chosen():
    pipeline = pipeline_of()
    assert list(pipeline.space) == ["prep.x", "model", "tree.x", "net.x", "score.x"]
    assert pipeline.space["model"] == Categorical(["tree", "net"])
    assert pipeline.graph.sources == ((None,), (0,), (0,), (1, 2))


def test_only_the_chosen_stage_is_run():
    ran = []
    run = pipeline_of(ran).run(TREE, 0.0)
    assert ran == ["prep", "tree", "score"]
    assert run.value == 0.5 + 2.5 + 125.0
    assert run.stage_costs == [1.0, 1.0, None, 1.0]
    assert run.memoized == [False, False, True, False]
    assert list(run.outputs) == ["prep", "tree", "score"]


def test_a_configuration_has_the_active_parameters_alone():
    pipeline = pipeline_of()
    assert pipeline.run(TREE | {"net.x": 0.9}, 0.0).value == pipeline.run(TREE, 0.0).value
    one, other = pipeline.calls(TREE), pipeline.calls(TREE | {"net.x": 0.9})
    assert [call.key for call in one] == [call.key for call in other]
    with pytest.raises(Exception, match=r"missing: \['net.x'\]"):
        pipeline.calls(
            {name: value for name, value in TREE.items() if name != "tree.x"} | {"model": "net"}
        )


def test_points_of_inactive_parameters_are_equal():
    cube = pipeline_of().cube
    X = cube.encode([TREE, TREE | {"net.x": 0.9}])
    assert (X[0] == X[1]).all()
    assert cube.decode(X[0]) == cube.settled(TREE)
    moved = cube.snap(np.random.default_rng(0).random((50, 5)))
    assert (moved[~cube.active(moved)] == 0.5).all()
    assert cube.active(moved)[:, [0, 1, 4]].all()


def test_an_optional_stage_passes_on_what_it_would_get():
    pipeline = Pipeline([named("prep"), Optional(named("scale")), named("score")])
    assert list(pipeline.space) == ["prep.x", "scale", "scale.x", "score.x"]
    left_out = {"prep.x": 0.5, "scale": "nothing", "score.x": 0.25}
    assert pipeline.run(left_out, 0.0).value == 0.75
    assert pipeline.run(left_out | {"scale": "scale", "scale.x": 1.0}, 0.0).value == 1.75
    without = Pipeline([named("prep"), named("score")])
    params = {"prep.x": 0.5, "score.x": 0.25}
    assert pipeline.calls(left_out)[-1].key == without.calls(params)[-1].key


def test_alternatives_may_have_alternatives():
    pipeline = Pipeline(
        [
            OneOf("model", [named("forest"), OneOf("boosting", [named("xgb"), named("lgb")])]),
            named("score"),
        ]
    )
    assert list(pipeline.space) == ["model", "forest.x", "boosting", "xgb.x", "lgb.x", "score.x"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: pipeline.run(trial, 0.0).value, n_trials=30)
    kinds = {frozenset(trial.params) for trial in study.trials}
    assert kinds == {
        frozenset({"model", "forest.x", "score.x"}),
        frozenset({"model", "boosting", "xgb.x", "score.x"}),
        frozenset({"model", "boosting", "lgb.x", "score.x"}),
    }


def test_a_place_may_be_the_last_and_be_named():
    both = named("both", lambda a, b, *, x: a + b + x, inputs=("prep", "model"))
    pipeline = Pipeline([named("prep"), OneOf("model", [named("a"), named("b")]), both])
    assert pipeline.run({"prep.x": 1.0, "model": "b", "b.x": 1.0, "both.x": 1.0}, 0.0).value == 4.0
    last = Pipeline([named("prep"), OneOf("model", [named("a"), named("b")])])
    assert last.run({"prep.x": 1.0, "model": "a", "a.x": 0.5}, 0.0).value == 1.5
    assert last.run({"prep.x": 1.0, "model": "b", "b.x": 0.25}, 0.0).value == 1.25


def test_what_only_others_need_is_not_run():
    ran = []

    def noting(data, *, x):
        ran.append("deep")
        return data

    pipeline = Pipeline(
        [
            named("deep", noting),
            OneOf("model", [named("net", inputs="deep"), named("tree", inputs=INPUTS)]),
            named("score"),
        ]
    )
    pipeline.run({"deep.x": 0.0, "model": "tree", "tree.x": 0.0, "score.x": 0.0}, 1.0)
    assert ran == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneOf("a.b", [named("x"), named("y")]), "without dots"),
        (lambda: OneOf("model", [named("x")]), "at least two"),
        (lambda: OneOf("model", [named("x"), named("x")]), "two stages named 'x'"),
        (lambda: OneOf("model", named("x")), "takes a list of stages"),
        (lambda: Pipeline([named("prep"), Optional(named("last"))]), "cannot be left out"),
        (
            lambda: Pipeline([OneOf("model", [named("a"), named("b")]), named("last", inputs="a")]),
            "one of the alternatives of 'model'; name 'model'",
        ),
        (
            lambda: Pipeline([OneOf("m", [named("a"), named("b")]), named("a")]),
            "two stages are named",
        ),
    ],
)
def test_what_cannot_be(make, message):
    with pytest.raises(PipelineError, match=message):
        make()


@pytest.mark.parametrize("method", ["eeipu", "ei", "random", "eips"])
def test_a_study_has_active_parameters_alone_and_tries_each_alternative(method):
    pipeline = pipeline_of()
    tuner = Tuner(pipeline, budget=1000.0, method=method, seed=0, n_initial=6)
    study = tuner.run(0.0, max_trials=14, progress=False)
    for trial in study.trials:
        model = trial.params["model"]
        assert set(trial.params) == {"prep.x", "model", f"{model}.x", "score.x"}
        assert trial.value == pipeline.run(trial.params, 0.0).value
        other = {"tree": 2, "net": 1}[model]
        assert trial.user_attrs["stage_keys"][other] is None
        assert trial.user_attrs["stage_costs"][other] is None
    if method != "random":
        first = [trial.params["model"] for trial in study.trials[:6]]
        assert sorted(first) == ["net"] * 3 + ["tree"] * 3
    if method == "eeipu":
        assert study.best_params["model"] == "net"


def test_prefixes_are_reused_under_either_alternative():
    ran = []
    pipeline = pipeline_of(ran)
    tuner = Tuner(pipeline, budget=1000.0, seed=0, cache=StageCache())
    tuner.enqueue(TREE)
    tuner.enqueue({"prep.x": 0.5, "model": "net", "net.x": 0.25, "score.x": 0.125})
    study = tuner.run(0.0, max_trials=2, progress=False)
    assert ran == ["prep", "tree", "score", "net", "score"]
    assert study.trials[1].user_attrs["memoized"] == [True, True, False, False]
    assert tuner.spent == 5.0


def test_ask_and_tell_know_what_is_left_out():
    tuner = Tuner(pipeline_of(), budget=1000.0, seed=0, n_initial=4)
    for number in range(10):
        suggestion = tuner.ask()
        left_out = {"tree": 2, "net": 1}[suggestion.params["model"]]
        assert suggestion.memoized[left_out]
        costs = [None if free else 1.0 for free in suggestion.memoized]
        tuner.tell(suggestion, float(number), stage_costs=costs)
    assert tuner.spent > 0


def test_a_study_of_alternatives_is_resumed(tmp_path):
    def tuner():
        return Tuner(
            pipeline_of(),
            budget=1000.0,
            seed=0,
            n_initial=4,
            storage=f"sqlite:///{tmp_path}/s.db",
            study_name="s",
        )

    tuner().run(0.0, max_trials=6, progress=False)
    study = tuner().run(0.0, max_trials=6, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 12
    best = tuner().best_run(0.0)
    assert best.value == study.best_value
    assert list(best.outputs)[1] == study.best_params["model"]


def test_a_finite_space_counts_each_configuration_once():
    small = {"x": Int(0, 1)}
    pipeline = Pipeline([OneOf("m", [named("a", space=small), named("b", space=small)])])
    assert pipeline.cube.size == 4
    assert len(list(pipeline.cube.configurations())) == 4
    tuner = Tuner(pipeline, budget=1000.0, seed=0)
    study = tuner.run(0.0, progress=False)
    assert len(study.trials) == 4


def test_optunas_loop_with_our_sampler():
    pipeline = pipeline_of()
    sampler = EEIPUSampler(pipeline, budget=100.0, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: pipeline.run(trial, 0.0).value, n_trials=13)
    assert all(len(trial.params) == 4 for trial in study.trials)


# --- Parameters that are conditional inside of a stage


def conditional():
    def fit(data, *, kind, depth=None, rate=1.0):
        return (data + (depth or 0)) * rate

    space = {"kind": ["tree", "line"], "depth": range(1, 9), "rate": Float(0.5, 1.0)}
    return stage(fit, name="fit", version="1", space=space, active_if={"depth": ("kind", ["tree"])})


def test_a_conditional_parameter_is_passed_where_it_is_active():
    pipeline = Pipeline([conditional()])
    line = {"fit.kind": "line", "fit.rate": 1.0}
    assert pipeline.run(line, 0.0).value == 0.0
    assert pipeline.run(line | {"fit.kind": "tree", "fit.depth": 3}, 0.0).value == 3.0
    assert pipeline.calls(line)[0].params == {"kind": "line", "rate": 1.0}
    study = Tuner(pipeline, budget=1e9, seed=0, n_initial=4).run(0.0, max_trials=10, progress=False)
    for trial in study.trials:
        assert ("fit.depth" in trial.params) == (trial.params["fit.kind"] == "tree")


@pytest.mark.parametrize(
    "active_if",
    [
        {"depth": ("other", ["tree"])},
        {"other": ("kind", ["tree"])},
        {"depth": "kind"},
        {"depth": ("kind", ["bush"])},
        {"kind": ("depth", [3])},
    ],
)
def test_conditions_that_cannot_be(active_if):
    with pytest.raises(PipelineError, match="active"):
        stage(
            lambda data, *, kind, depth=1: data,
            name="fit",
            version="1",
            space={"kind": ["tree", "line"], "depth": range(1, 9)},
            active_if=active_if,
        )


def test_a_stage_that_is_left_out_is_not_counted_as_reused():
    tuner = Tuner(pipeline_of(), budget=1000.0, seed=0, cache=StageCache())
    tuner.enqueue(TREE)
    study = tuner.run(0.0, max_trials=1, progress=False)
    attrs = study.trials[0].user_attrs
    assert attrs["memoized"] == [False, False, True, False]
    assert not [name for name in attrs if name.startswith("reused:")]
    assert StudyRecord.of(study).trials[0].reused == ()


def test_a_stage_that_may_be_left_out_is_an_alternative():
    inner = OneOf("model", [named("tree"), Optional(named("net"))])
    pipeline = Pipeline([named("prep"), inner, named("score")])
    assert list(pipeline.space) == ["prep.x", "model", "tree.x", "net", "net.x", "score.x"]
    params = {"prep.x": 0.5, "model": "net", "score.x": 0.25}
    assert pipeline.run(params | {"net": "nothing"}, 0.0).value == 0.75
    assert pipeline.run(params | {"net": "net", "net.x": 1.0}, 0.0).value == 1.75
    with pytest.raises(PipelineError, match="two stages are named 'net'"):
        Pipeline([inner, named("net"), named("score")])


def test_what_is_missing_is_named_without_what_is_inactive():
    with pytest.raises(SpaceError, match=r"missing: \['net.x'\]\); it needs \['prep.x', 'model', "):
        pipeline_of().run({"prep.x": 0.5, "model": "net", "score.x": 0.25, "tree.x": 0.5}, 0.0)


def test_told_costs_are_of_what_was_chosen():
    tuner = Tuner(pipeline_of(), budget=1000.0, seed=0)
    suggestion = tuner.ask()
    left_out = {"tree": 2, "net": 1}[suggestion.params["model"]]
    with pytest.raises(ConfigurationError, match="leaves this stage out; report None"):
        tuner.tell(suggestion, 1.0, stage_costs=[1.0] * 4)
    tuner.tell(suggestion, 1.0, stage_costs=[0.0 if k == left_out else 1.0 for k in range(4)])
    (trial,) = tuner.study.trials
    assert trial.user_attrs["stage_costs"][left_out] is None
    assert trial.user_attrs["memoized"] == [k == left_out for k in range(4)]


def test_what_is_told_of_a_stage_that_is_left_out_is_refused():
    tuner = Tuner(pipeline_of(), budget=1000.0, seed=0)
    suggestion = tuner.ask()
    names = {"tree", "net"} - {suggestion.params["model"]}
    for given in ({names.pop(): {"loss": 1.0}}, {"model": 1.0}):
        with pytest.raises(ConfigurationError, match=r"leaves this stage out|names none of the"):
            tuner.tell(suggestion, 1.0, observations=given)
    tuner.tell(suggestion, 1.0, observations={"prep.rows": 3})
    assert tuner.study.trials[0].user_attrs["observations"] == {"prep.rows": 3.0}


@pytest.mark.parametrize("nothing", [None, {"loss": None}, {"loss": math.nan}])
def test_nothing_may_be_told_of_a_stage_that_is_left_out(nothing):
    tuner = Tuner(pipeline_of(), budget=1000.0, seed=0)
    suggestion = tuner.ask()
    (left_out,) = {"tree", "net"} - {suggestion.params["model"]}
    tuner.tell(suggestion, 1.0, observations={"prep.rows": 3, left_out: nothing})
    assert tuner.study.trials[0].user_attrs["observations"] == {"prep.rows": 3.0}


def test_a_cost_needs_a_default_for_what_is_not_always_passed():
    def fit(data, *, kind, depth=1):
        return data

    options = {
        "space": {"kind": ["tree", "line"], "depth": range(1, 9)},
        "active_if": {"depth": ("kind", ["tree"])},
    }
    with pytest.raises(PipelineError, match=r"'fit': 'depth' is not passed .* default in its cost"):
        stage(fit, cost=lambda kind, depth: 1.0, **options)
    lazy = stage(fit, cost=lambda kind, depth=1: float(depth), **options)
    assert Pipeline([lazy]).run({"fit.kind": "line"}, 2.0).charged == 1.0
    assert stage(fit, cost=lambda **params: 1.0, **options).cost is not None


def test_a_condition_needs_a_value():
    with pytest.raises(PipelineError, match="active_if names no value of 'kind'"):
        stage(
            lambda data, *, kind, depth=1: data,
            name="fit",
            space={"kind": ["tree", "line"], "depth": range(1, 9)},
            active_if={"depth": ("kind", [])},
        )


def test_which_stages_a_choice_can_leave_out():
    def named(name):
        return stage(lambda x: x, name=name)

    inner = OneOf("inner", [named("b"), named("c")])
    pipeline = Pipeline(
        [Optional(named("scale")), OneOf("outer", [named("a"), inner]), named("last")]
    )
    avoids = pipeline.layout.avoids

    assert avoids(())
    assert not avoids(["last"])
    assert avoids(["scale", "a", "b"])
    assert avoids(["b", "c"])
    assert not avoids(["a", "b", "c"])


def test_what_gets_the_inputs_where_a_stage_is_left_out_must_take_them():
    first = named("first", lambda a, b, *, x: a + b + x)
    for last in (named("last"), named("last", inputs="first")):
        pipeline = Pipeline([Optional(first), last])
        with pytest.raises(PipelineError, match=r"'last' takes .'data'., but .*gets 2 arguments"):
            pipeline.layout.check_inputs((1.0, 2.0))

    takes_both = named("last", lambda a, b=0.0, *, x: a + b + x)
    Pipeline([Optional(first), takes_both]).layout.check_inputs((1.0, 2.0))


def test_an_alternative_is_one_stage():
    steps = [stage(lambda x: x, name=name) for name in "abc"]
    with pytest.raises(PipelineError, match=r"OneOf\('m', ...\): an alternative is one stage"):
        OneOf("m", [steps[:2], steps[2]])
    with pytest.raises(PipelineError, match="a list does not stand for its stages"):
        Pipeline([steps[:2], steps[2]])
