"""Nodes in a worker: what a batch leaves in the cache, and what it tells."""

import numpy as np
import pytest
from counting import TRAINING, pipeline, prep, train

from eeipu import StageCache, stage
from eeipu.iterative import Training, iterative, stage_path
from eeipu.node_execution import Work, run_works, work_of
from eeipu.paths import Kind
from eeipu.schedule import MultiStep
from eeipu.search_plan import SearchPlan

PARAMS = {"prep.dims": 8, "train.lr": MultiStep(0.5, [2], gamma=0.5)}


def works(params=PARAMS, steps=4, stages=None):
    plan = SearchPlan()
    path = stage_path(pipeline().stages if stages is None else stages, params, "up", steps)
    request = plan.request("study", 0, path)
    return [work_of(node) for node in reversed(list(request.node.ancestry()))]


def by_name(stages=None):
    return {each.name: each for each in (pipeline().stages if stages is None else stages)}


def test_a_batch_runs_from_the_inputs_and_leaves_every_state():
    cache = StageCache()
    results = run_works(works(), by_name(), ("data",), None, cache)
    assert [result.key for result in results] == [work.key for work in works()]
    assert results[-1].value == {"sum": 1.5, "length": 5.0}
    assert [result.value for result in results[:-1]] == [None] * 3
    assert all(result.cost_s > 0 and cache.cost(result.key) for result in results)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_batch_goes_on_from_any_state(done):
    cache = StageCache()
    first = run_works(works()[:done], by_name(), ("data",), None, cache)
    rest = run_works(works()[done:], by_name(), ("data",), first[-1].key, cache)
    assert rest[-1].value == {"sum": 1.5, "length": 5.0}


def test_the_clock_is_injected():
    ticks = iter(range(100))
    results = run_works(
        works(), by_name(), ("data",), None, StageCache(), clock=lambda: float(next(ticks))
    )
    assert [result.cost_s for result in results] == [1.0] * 4


def test_a_state_that_is_gone_is_told():
    (result,) = run_works(works()[2:], by_name(), ("data",), "gone", StageCache())
    assert result.is_missing


def test_a_failure_ends_the_batch_and_keeps_what_was_before():
    cache = StageCache()
    failing = works(PARAMS | {"train.lr": MultiStep("fails", [], gamma=1)})
    results = run_works(failing, by_name(), ("data",), None, cache)
    assert [result.error is None for result in results] == [True, False]
    assert "diverged" in results[-1].error
    assert results[0].key in cache


def test_a_state_that_cannot_be_loaded_is_a_failure():
    broken = iterative(
        Training(
            TRAINING.init, TRAINING.advance, TRAINING.evaluate, load=lambda saved: saved["no"]
        ),
        {"lr": 0.1},
        steps=4,
        name="train",
        version="1",
    )
    cache = StageCache()
    first = run_works(works()[:2], by_name(), ("data",), None, cache)
    (result,) = run_works(works()[2:], by_name([prep, broken]), ("data",), first[-1].key, cache)
    assert "TypeError" in result.error


def test_training_of_a_stage_that_is_plain_now_is_told():
    @stage(name="train", version="1")
    def plain(data):
        return 0.0

    results = run_works(works(), by_name([prep, plain]), ("data",), None, StageCache())
    assert "'train' is no iterative stage" in results[-1].error


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (np.float32(0.5), 0.5),
        (3, 3.0),
        ({"a": np.array(1.0)}, {"a": 1.0}),
        ({"a": "b"}, None),
        ({"a": 1.0, "confusion": [[1, 2]]}, {"a": 1.0}),
        ([1.0], None),
        (np.zeros(2), None),
    ],
)
def test_values_are_numbers_or_metrics(output, value):
    @stage(version="1")
    def score():
        return output

    work = Work("key", Kind.PLAIN, "score", "version 1", {})
    (result,) = run_works([work], {"score": score}, (), None, StageCache())
    assert result.value == value


def test_other_code_is_refused():
    cache = StageCache()
    (result,) = run_works(works(), by_name([prep, train(version="2")]), ("data",), None, cache)
    assert "as 'version 1', and the worker has 'version 2'" in result.error
    (result,) = run_works(works(), by_name([prep]), ("data",), None, cache)
    assert "the worker has none of that name" in result.error
    assert works()[0].key not in cache


def test_an_output_that_does_not_fit_the_cache_is_a_failure():
    cache = StageCache(max_bytes=10)
    with pytest.warns(RuntimeWarning, match="was not kept"):
        (result,) = run_works(works(), by_name(), ("data",), None, cache)
    assert "'prep' made does not fit the cache" in result.error


def test_a_value_need_not_fit_the_cache():
    @stage(version="1")
    def score():
        return 0.5

    work = Work("key", Kind.PLAIN, "score", "version 1", {})
    with pytest.warns(RuntimeWarning, match="was not kept"):
        (result,) = run_works([work], {"score": score}, (), None, StageCache(max_bytes=1))
    assert result.value == 0.5
