"""Nodes in a worker: what a batch leaves in the cache, and what it tells."""

from dataclasses import replace

import numpy as np
import pytest
from counting import TRAINING, pipeline, prep, train

from eeipu import StageCache, stage
from eeipu.executors.node_batches import Job, Work, run_works, work_of, works_above
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.stages.paths import Kind, Path
from eeipu.stages.schedules import Constant, MultiStep

PARAMS = {"prep.dims": 8, "train.lr": MultiStep(0.5, [2], gamma=0.5)}


def works(params=PARAMS, steps=4, stages=None):
    plan = SearchPlan()
    path = stage_path(pipeline().stages if stages is None else stages, params, "up", steps)
    request = plan.request("study", 0, path)
    return [work_of(node) for node in reversed(list(request.node.ancestry()))]


def job(cache, stages=None, inputs_key="up"):
    stages = pipeline().stages if stages is None else stages
    return Job({each.name: each for each in stages}, ("data",), inputs_key, cache)


def test_a_batch_runs_from_the_inputs_and_leaves_every_state():
    cache = StageCache()
    results = run_works(works(), job(cache))
    assert [result.key for result in results] == [work.key for work in works()]
    assert results[-1].value == {"sum": 1.5, "length": 5.0}
    assert [result.value for result in results[:-1]] == [None] * 3
    assert all(result.cost_s > 0 and cache.cost(result.key) for result in results)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_batch_goes_on_from_any_state(done):
    cache = StageCache()
    first = run_works(works()[:done], job(cache))
    rest = run_works(works()[done:], job(cache), first[-1].key)
    assert rest[-1].value == {"sum": 1.5, "length": 5.0}


def test_the_clock_is_injected():
    ticks = iter(range(100))
    results = run_works(works(), job(StageCache()), clock=lambda: float(next(ticks)))
    assert [result.cost_s for result in results] == [1.0] * 4


def test_a_state_that_is_gone_is_told():
    (result,) = run_works(works()[2:], job(StageCache()), "gone")
    assert result.is_missing


def test_a_failure_ends_the_batch_and_keeps_what_was_before():
    cache = StageCache()
    failing = works(PARAMS | {"train.lr": MultiStep("fails", [], gamma=1)})
    results = run_works(failing, job(cache))
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
    first = run_works(works()[:2], job(cache))
    (result,) = run_works(works()[2:], job(cache, [prep, broken]), first[-1].key)
    assert "TypeError" in result.error


def test_training_of_a_stage_that_is_plain_now_is_told():
    @stage(name="train", version="1")
    def plain(data):
        return 0.0

    results = run_works(works(), job(StageCache(), [prep, plain]))
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

    work = Work("key", Kind.PLAIN, "score", "version 1", "", {})
    (result,) = run_works([work], Job({"score": score}, (), None, StageCache()))
    assert result.value == value


def test_other_code_is_refused():
    cache = StageCache()
    (result,) = run_works(works(), job(cache, [prep, train(version="2")]))
    assert "as 'version 1', and the worker has 'version 2'" in result.error
    (result,) = run_works(works(), job(cache, [prep]))
    assert "the worker has none of that name" in result.error
    assert works()[0].key not in cache


def test_an_output_that_does_not_fit_the_cache_is_a_failure():
    cache = StageCache(max_bytes=10)
    with pytest.warns(RuntimeWarning, match="was not kept"):
        (result,) = run_works(works(), job(cache))
    assert "'prep' made does not fit the cache" in result.error


def test_a_value_need_not_fit_the_cache():
    @stage(version="1")
    def score():
        return 0.5

    work = Work("key", Kind.PLAIN, "score", "version 1", "", {})
    with pytest.warns(RuntimeWarning, match="was not kept"):
        (result,) = run_works([work], Job({"score": score}, (), None, StageCache(max_bytes=1)))
    assert result.value == 0.5


DIGESTS = ["0" * 64, "1" * 64]


def test_other_inputs_are_refused():
    (first, *_), cache = works(), StageCache()
    on_others = replace(first, inputs_key=DIGESTS[0])
    (result,) = run_works([on_others], job(cache, inputs_key=DIGESTS[1]))
    assert "give the cluster the inputs whose inputs_key path_of takes" in result.error
    assert first.key not in cache


@pytest.mark.parametrize(
    ("theirs", "ours"), [(DIGESTS[0], DIGESTS[0]), ("my data", DIGESTS[0]), (DIGESTS[0], None)]
)
def test_the_same_inputs_and_names_of_the_users_own_are_accepted(theirs, ours):
    first = replace(works()[0], inputs_key=theirs)
    (result,) = run_works([first], job(StageCache(), inputs_key=ours))
    assert result.error is None


# --- training whose checkpoints do not hold what it began from -----------------------------------


def resumable(name="train"):
    """Training whose state is what it began from, and a sum, which alone is saved."""
    lean = Training(
        lambda prepared: (prepared, 0.0),
        lambda state, start, stop, hyper: (
            state[0],
            state[1] + sum(hyper["lr"](step) for step in range(start, stop)),
        ),
        lambda state: {"sum": state[1], "prepared": len(str(state[0]))},
        lambda state: state[1],
        lambda saved, prepared: (prepared, saved),
    )
    return iterative(lean, {"lr": 0.1}, steps=4, name=name, version="1")


def chain(stages, lost):
    """Run the first works of these stages, lose some of their outputs, and run the last work."""
    params = {"prep.dims": 8, "train.lr": MultiStep(0.5, [2], 0.5), "more.lr": Constant(0.1)}
    plan, cache = SearchPlan(), StageCache()
    node = plan.request("study", 0, stage_path(stages, params, "up", 4)).node
    all_works = [work_of(each) for each in reversed(list(node.ancestry()))]
    before = run_works(all_works[:-1], job(cache, stages))
    cache.discard([before[place].key for place in lost])
    return run_works(all_works[-1:], job(cache, stages), before[-1].key, works_above(node))


def test_what_training_began_from_comes_from_the_cache_and_not_from_the_checkpoint():
    (result,) = chain([prep, resumable()], lost=[])
    assert result.value == {"sum": 1.5, "prepared": len(str([("prep", "data", 8)]))}


def test_the_inputs_of_the_run_need_no_cache():
    (result,) = chain([resumable()], lost=[])
    assert result.value == {"sum": 1.5, "prepared": len("data")}


@pytest.mark.parametrize("lost", [[0], [3], [2, 3], [0, 1, 2, 3]])
def test_what_training_began_from_is_made_again_where_it_is_gone(lost):
    stages = [prep, resumable(), resumable("more")]
    (whole,) = chain(stages, lost=[])
    (result,) = chain(stages, lost)
    assert result.value == whole.value


@pytest.mark.parametrize("together", [True, False])
def test_a_stage_after_training_without_an_evaluation_gets_what_was_saved(together):
    @stage(version="1")
    def last(saved):
        return float(len(saved))

    plan, cache = SearchPlan(), StageCache()
    path = Path("up").call("prep", "version 1", {"dims": 8})
    path = path.train("train", "version 1", {"lr": 0.1}, 4).call("last", "version 1", {})
    node = plan.request("study", 0, path).node
    both = [work_of(each) for each in reversed(list(node.ancestry()))]
    mine = job(cache, [*pipeline().stages, last])
    if together:
        results = run_works(both, mine)
    else:
        before = run_works(both[:-1], mine)
        results = run_works(both[-1:], mine, before[-1].key)
    assert results[-1].value == 5.0
