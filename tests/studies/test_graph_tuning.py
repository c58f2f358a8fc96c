"""Tuning a graph of stages: branches side by side, reuse across branches, failures in one."""

import threading

import pytest
from graphs import call, pipeline_of

from eeipu import INPUTS, Float, Pipeline, StageCache, Tuner, stage
from eeipu.stages.joining.graph import Graph

JOIN = Graph(((None,), (None,), (None,), (0, 1, 2)))
DIAMOND = Graph(((None,), (0,), (0,), (1, 2)))


def tuner_of(pipeline, **options):
    return Tuner(pipeline, **{"budget": 100.0, "seed": 0, "n_initial": 3} | options)


def branches(left, right, **options):
    """`source` -> `left`, `right` -> `join`."""

    def join(a, b, *, x):
        return a + b + x

    space = {"x": Float(0.0, 1.0)}
    return Pipeline(
        [
            stage(lambda data: data, name="source", version="1", **options),
            stage(left, name="left", version="1", inputs="source", space=space, **options),
            stage(right, name="right", version="1", inputs="source", space=space, **options),
            stage(join, name="join", version="1", inputs=("left", "right"), space=space, **options),
        ]
    )


def add(data, *, x):
    return data + x


@pytest.mark.parametrize("executor", [None, "threads"])
@pytest.mark.parametrize("with_cache", [True, False])
def test_a_study_of_a_graph_runs_what_must_and_no_more(executor, with_cache):
    ran = []
    pipeline = pipeline_of(DIAMOND, ran, cost=lambda **_: 1.0)
    tuner = tuner_of(
        pipeline,
        cache=StageCache() if with_cache else None,
        executor=executor,
        max_parallel=1 if executor is None else 3,
    )
    study = tuner.run(1.0, max_trials=8, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 8
    assert sum(trial.user_attrs["charged"] for trial in study.trials) == len(ran)
    for trial in study.trials:
        assert trial.value == pipeline.run(trial.params, 1.0).value
        reused = [cost is None for cost in trial.user_attrs["stage_costs"]]
        assert reused == trial.user_attrs["memoized"]


def test_a_branch_is_reused_though_the_other_one_changes():
    pipeline = pipeline_of(JOIN, [], cost=lambda **_: 1.0)
    cache = StageCache()
    tuner = tuner_of(pipeline, cache=cache)
    first = dict.fromkeys(pipeline.space, 0.5)
    tuner.enqueue(first)
    tuner.enqueue(first | {"s1.x": 0.25})
    study = tuner.run(1.0, max_trials=2, progress=False)
    assert study.trials[1].user_attrs["memoized"] == [True, False, True, False]
    assert study.trials[1].user_attrs["charged"] == 2.0


def test_branches_of_one_trial_run_side_by_side():
    both = threading.Barrier(2)

    def meet(data, *, x):
        both.wait(30)
        return data + x

    tuner = tuner_of(branches(meet, meet), executor="threads", max_parallel=2, cache=None)
    study = tuner.run(1.0, max_trials=1, progress=False)
    assert study.trials[0].state.name == "COMPLETE"


def test_a_failure_in_one_branch_keeps_what_the_other_finishes():
    has_failed = threading.Event()

    def fail(data, *, x):
        has_failed.set()
        raise ValueError("diverged")

    def finish(data, *, x):
        has_failed.wait(30)
        return data + x

    pipeline, cache = branches(fail, finish, cost=lambda **_: 1.0), StageCache()
    tuner = tuner_of(pipeline, executor="threads", max_parallel=2, cache=cache)
    study = tuner.run(1.0, max_trials=1, progress=False)
    (trial,) = study.trials
    assert trial.state.name == "FAIL"
    attrs = trial.user_attrs
    assert (attrs["failed_stage"], attrs["stage_costs"]) == ("left", [1.0, 1.0, 1.0, None])
    assert "diverged" in attrs["error"]
    keys = [each.key for each in call(pipeline, trial.params, 1.0)]
    assert [key in cache for key in keys] == [True, False, True, False]


def test_worker_processes_run_graphs(tmp_path):
    ran = []
    pipeline = pipeline_of(DIAMOND, ran, cost=lambda **_: 1.0)
    tuner = tuner_of(pipeline, cache=StageCache(tmp_path), executor="processes", max_parallel=2)
    study = tuner.run(1.0, max_trials=4, progress=False)
    for trial in study.trials:
        assert trial.value == pipeline.run(trial.params, 1.0).value


def test_an_output_that_disappears_is_made_again_and_nothing_else():
    cache, lost = StageCache(), []
    holder = {}

    def lose(data, *, x):
        if not lost:
            lost.append(x)
            cache.discard([holder["keys"][1]])
        return data + x

    pipeline = branches(add, lose)
    params = dict.fromkeys(pipeline.space, 0.5)
    holder["keys"] = [each.key for each in call(pipeline, params, 1.0)]
    tuner = tuner_of(pipeline, cache=cache)
    tuner.enqueue(params)
    study = tuner.run(1.0, max_trials=1, progress=False)
    assert study.trials[0].value == 3.5


def test_suggestions_to_a_caller_say_which_branches_are_free():
    spaces = {name: {"x": Float(0.0, 1.0)} for name in "abc"} | {"join": {"y": Float(0.0, 1.0)}}
    inputs = {"b": INPUTS, "c": INPUTS, "join": ("a", "b", "c")}
    tuner = tuner_of(Pipeline.declare(spaces, inputs=inputs), budget=1000.0)
    first = dict.fromkeys(tuner.pipeline.space, 0.5)
    tuner.enqueue(first)
    tuner.tell(tuner.ask(), 1.0, stage_costs=[1.0, 2.0, 3.0, 4.0])
    tuner.enqueue(first | {"b.x": 0.25})
    suggestion = tuner.ask()
    assert suggestion.memoized == (True, False, True, False)
    tuner.tell(suggestion, 2.0, stage_costs=[None, 2.0, None, 4.0])
    assert tuner.spent == 16.0
    reused = set()
    for number in range(12):
        suggestion = tuner.ask()
        reused.add(suggestion.memoized)
        costs = [None if free else 1.0 for free in suggestion.memoized]
        tuner.tell(suggestion, 1.0 - number / 10, stage_costs=costs)
    assert any(sum(each) for each in reused)


def test_outputs_of_the_best_trials_are_kept_along_all_branches():
    pipeline, cache = pipeline_of(JOIN, []), StageCache()
    tuner = tuner_of(pipeline, cache=cache, top_q=1, direction="maximize")
    study = tuner.run(1.0, max_trials=6, progress=False)
    best = [each.key for each in call(pipeline, study.best_params, 1.0)]
    assert all(key in cache for key in best)


def test_a_resumed_study_reuses_the_branches_of_the_first_run(tmp_path):
    def tuner():
        return tuner_of(
            pipeline,
            cache=StageCache(tmp_path / "cache"),
            storage=f"sqlite:///{tmp_path}/tune.db",
            study_name="graph",
        )

    ran = []
    pipeline = pipeline_of(JOIN, ran, cost=lambda **_: 1.0)
    first = dict.fromkeys(pipeline.space, 0.5)
    one = tuner()
    one.enqueue(first)
    one.run(1.0, max_trials=1, progress=False)
    ran.clear()
    two = tuner()
    two.enqueue(first | {"s0.x": 0.25})
    two.run(1.0, max_trials=1, progress=False)
    assert ran == ["s0", "s3"]


def test_explain_names_the_branch_that_would_run():
    pipeline, cache = pipeline_of(DIAMOND, []), StageCache()
    params = dict.fromkeys(pipeline.space, 0.5)
    pipeline.run(params, 1.0, cache=cache)
    looks = pipeline.explain(params | {"s1.x": 0.25}, 1.0, cache=cache)
    assert [look.would_run for look in looks] == [False, True, False, True]
    assert "nobody needs it" not in str(looks)
    assert looks[3].differences == ("the input s1",)
