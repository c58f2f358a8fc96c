"""The nodes of a plan as tasks: what each leaves in the cache, and what it goes on from."""

import numpy as np
import pytest
from counting import TRAINING, pipeline, prep, train

from eeipu import Fingerprinted, PipelineError, StageCache, TransientError, stage
from eeipu.algorithms.node_tasks import NodeTasks
from eeipu.caching.inventory import inventory
from eeipu.fingerprints.keys import inputs_key
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import Training, iterative, stage_path
from eeipu.stages.paths import Path
from eeipu.stages.resources import Resources
from eeipu.stages.running.worker import Job, run_task
from eeipu.stages.schedules import Constant, MultiStep

PARAMS = {"prep.dims": 8, "train.lr": MultiStep(0.5, [2], gamma=0.5)}
DIGESTS = ["0" * 64, "1" * 64]


def nodes(params=PARAMS, stages=None, upstream="up", steps=4):
    """The nodes of a path, first to last."""
    path = stage_path(pipeline().stages if stages is None else stages, params, upstream, steps)
    return nodes_of(path)


def nodes_of(path):
    request = SearchPlan().request("study", 0, path)
    return list(request.node.ancestry())[::-1]


def job(cache, stages=None, inputs=("data",)):
    return Job(pipeline().stages if stages is None else stages, inputs, cache)


def run(nodes, job, **options):
    """Run nodes one after another, until one fails."""
    tasks, results = NodeTasks(job), []
    for node in nodes:
        results.append(run_task(tasks.task(node, Resources()), job, **options))
        if results[-1].run is None or results[-1].run.error is not None:
            break
    return results


def fresh(job):
    """The same job in a process that has nothing in memory."""
    return Job(job.stages.values(), job.inputs, job.cache)


def test_a_path_runs_from_the_inputs_and_leaves_every_state():
    cache = StageCache()
    results = run(nodes(), job(cache))
    assert [result.run.key for result in results] == [node.key for node in nodes()]
    assert results[-1].value == {"sum": 1.5, "length": 5.0}
    assert all(result.is_kept for result in results)
    assert all(result.run.cost > 0 and cache.cost(result.run.key) for result in results)


def test_entries_say_what_made_them():
    cache = StageCache()
    run(nodes(), job(cache))
    found = {entry.stage: entry for entry in inventory(cache.place)}
    assert list(found) == ["prep", "train@2", "train@4", "train@evaluation"]
    assert found["prep"].params == {"dims": 8}
    assert found["train@4"].params == {"lr": [(2, 4, 0.25)]}
    assert all("python" in entry.versions for entry in found.values())


@pytest.mark.parametrize("done", [1, 2, 3])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_path_goes_on_from_any_state(done, in_memory):
    mine = job(StageCache())
    run(nodes()[:done], mine)
    rest = run(nodes()[done:], mine if in_memory else fresh(mine))
    assert rest[-1].value == {"sum": 1.5, "length": 5.0}


def test_a_state_in_memory_is_not_loaded_again_and_serves_an_evaluation_too(monkeypatch):
    loads = []
    stages = [prep, counted(loads)]
    path = stage_path(stages, PARAMS, "up", 2)
    evaluated = nodes_of(path)
    mine = job(StageCache(), stages)
    run(evaluated, mine)
    assert loads == []
    longer = nodes(stages=stages)
    (result, *_) = run(longer[2:], mine)  # from the state that the evaluation left as it was
    assert result.run.error is None
    assert loads == []
    run(longer[2:], fresh(job(StageCache(), stages)))
    assert loads == []  # nothing was in that cache
    again = fresh(mine)
    again.cache.discard([longer[2].key])
    run(longer[2:], again)
    assert len(loads) == 1


def counted(loads, load=None):
    """The training of `counting`, which notes what it loads."""

    def noting(saved):
        loads.append(saved)
        return saved

    each = Training(TRAINING.init, TRAINING.advance, TRAINING.evaluate, load=load or noting)
    return iterative(each, {"lr": 0.1}, steps=4, name="train", version="1")


def test_the_clock_is_injected():
    ticks = iter(range(100))
    results = run(nodes(), job(StageCache()), clock=lambda: float(next(ticks)))
    assert [result.run.cost for result in results] == [1.0] * 4


def test_a_state_that_is_gone_is_told():
    (result,) = run(nodes()[2:], job(StageCache()))
    assert result.run is None


def test_a_failure_ends_a_path_and_keeps_what_was_before():
    cache = StageCache()
    failing = nodes(PARAMS | {"train.lr": MultiStep("fails", [], gamma=1)})
    results = run(failing, job(cache))
    assert [result.run.error is None for result in results] == [True, False]
    assert "diverged" in results[-1].run.error
    assert results[0].run.key in cache


def test_a_state_that_cannot_be_loaded_is_a_failure():
    mine = job(StageCache())
    run(nodes()[:2], mine)
    broken = job(mine.cache, [prep, counted([], load=lambda saved: saved["no"])])
    (result,) = run(nodes()[2:], broken)
    assert "TypeError" in result.run.error


def test_training_that_may_fail_by_chance_goes_on_from_its_checkpoint():
    tries = []

    def advance(state, start, stop, hyper_parameters):
        state.append(stop)  # a state that is begun must not be gone on from
        tries.append(list(state))
        if len(tries) == 2:
            raise TransientError("lost the node")
        return state

    flaky = iterative(Training(lambda data: [], advance, len), {"lr": 0.1}, 4, "train", "1")
    path = Path("up").train("train", "version 1", {"lr": MultiStep(0.1, [2])}, 4)
    results = run(nodes_of(path), job(StageCache(), [flaky]))
    assert [result.run.error for result in results] == [None, None]
    assert tries == [[2], [2, 4], [2, 4]]


def test_training_of_a_stage_that_is_plain_now_is_told():
    @stage(name="train", version="1")
    def plain(data):
        return 0.0

    results = run(nodes(), job(StageCache(), [prep, plain]))
    assert "'train' is not iterative" in results[-1].run.error


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

    path = Path("up").call("score", "version 1", {})
    (result,) = run(nodes_of(path), job(StageCache(), [score], ()))
    assert result.value == value


def test_other_code_is_refused():
    tasks = NodeTasks(job(StageCache(), [prep, train(version="2")]))
    with pytest.raises(PipelineError, match="as 'version 1', and the workers have 'version 2'"):
        tasks.task(nodes()[1], Resources())
    with pytest.raises(PipelineError, match="the workers have none of that name"):
        NodeTasks(job(StageCache(), [prep])).task(nodes()[1], Resources())


def test_other_inputs_are_refused():
    (first, *_) = nodes(upstream=DIGESTS[0])
    with pytest.raises(PipelineError, match="the inputs whose inputs_key path_of takes"):
        NodeTasks(job(StageCache())).task(first, Resources())


def test_inputs_count_by_the_fingerprints_that_the_user_gave_them():
    inputs = (Fingerprinted("data", "version 1"),)
    planned = nodes(upstream=inputs_key(inputs))
    (result, *_) = run(planned[:1], job(StageCache(), inputs=inputs))
    assert result.run.output == [("prep", "data", 8)]


def test_a_name_of_the_users_own_stands_for_any_inputs():
    (result,) = run(nodes(upstream="my data")[:1], job(StageCache()))
    assert result.run.error is None


def test_an_output_that_does_not_fit_the_cache_travels():
    with pytest.warns(RuntimeWarning, match="was not kept"):
        (result,) = run(nodes()[:1], job(StageCache(max_bytes=10)))
    assert (result.is_kept, result.run.output) == (False, [("prep", "data", 8)])


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
    """Run the first nodes of these stages, lose some of their outputs, and run the last node."""
    params = {"prep.dims": 8, "train.lr": MultiStep(0.5, [2], 0.5), "more.lr": Constant(0.1)}
    every, mine = nodes(params, stages), job(StageCache(), stages)
    before = run(every[:-1], mine)
    mine.cache.discard([before[place].run.key for place in lost])
    return run(every[-1:], fresh(mine))


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


def test_what_cannot_be_made_again_is_a_failure_that_says_so():
    calls = []

    @stage(name="prep", version="1")
    def once(data):
        calls.append(data)
        if len(calls) > 1:
            raise ValueError("only once")
        return data

    stages = [once, resumable()]
    every, mine = nodes({"train.lr": Constant(0.1)}, stages), job(StageCache(), stages)
    before = run(every[:-1], mine)
    mine.cache.discard([before[0].run.key])
    (result,) = run(every[-1:], fresh(mine))
    assert "'prep' had to run again and failed" in result.run.error


@pytest.mark.parametrize("together", [True, False])
def test_a_stage_after_training_without_an_evaluation_gets_what_was_saved(together):
    @stage(version="1")
    def last(saved):
        return float(len(saved))

    path = Path("up").call("prep", "version 1", {"dims": 8})
    path = path.train("train", "version 1", {"lr": 0.1}, 4).call("last", "version 1", {})
    both, mine = nodes_of(path), job(StageCache(), [*pipeline().stages, last])
    run(both[:-1], mine)
    (result,) = run(both[-1:], mine if together else fresh(mine))
    assert result.value == 5.0
