"""A stage call as a task: what a worker process does with it, in this one."""

import os
import time
from dataclasses import replace

import pytest
import torch

from eeipu import Float, Pipeline, StageCache, stage
from eeipu.serialization import transport as parcels
from eeipu.stages import tasks as stage_tasks
from eeipu.stages.tasks import (
    StageTask,
    _ended_after,
    has_output_apart,
    packed_job,
    packed_task,
    run_apart,
    run_packed,
)


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Give this process its threads back."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def pipeline_of(**options):
    @stage(space={"a": Float(0.0, 1.0)}, version="1", **options)
    def fit(data, *, a):
        if a == 0.25:
            raise ValueError("diverged")
        return [data, os.environ["MKL_NUM_THREADS"]]

    @stage(space={"b": Float(0.0, 1.0)}, version="1")
    def score(fitted, *, b):
        return fitted[0] + b

    return Pipeline([fit, score])


def task_of(pipeline, a=0.5, depth=0, args=(1.0,)):
    calls = pipeline.calls({"fit.a": a, "score.b": 0.5}, "up")
    upstream = calls[0].key if depth else "up"
    return StageTask(calls[depth], upstream, args, is_first=depth == 0, is_last=depth == 1)


def run(pipeline, task, cache=None):
    return parcels.loads(run_packed(packed_job(pipeline.stages, cache), packed_task(task)))


def apart(pipeline, task, cache=None):
    args = None if task.args is None else parcels.segments(task.args)
    packed, output = run_apart(
        packed_job(pipeline.stages, cache), packed_task(replace(task, args=None)), args
    )
    result = parcels.loads(packed)
    assert has_output_apart(task, result) == (output is not None)
    return result, None if output is None else parcels.loads_apart(output)


def test_a_task_runs_on_the_threads_that_its_stage_declares(monkeypatch):
    processes = iter([("driver's", 1), ("worker's", 2)])
    monkeypatch.setattr(stage_tasks, "_this_process", lambda: next(processes))
    pipeline = pipeline_of(num_cpus=3)
    assert run(pipeline, task_of(pipeline)).run.output == [1.0, "3"]


def test_a_worker_in_the_drivers_process_leaves_its_threads_alone(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    pipeline = pipeline_of(num_cpus=3)
    assert run(pipeline, task_of(pipeline)).run.output == [1.0, "1"]


def test_a_worker_in_the_drivers_process_does_not_end_it():
    @stage(space={"a": Float(0.0, 1.0)}, version="1", timeout=0.01)
    def fit(data, *, a):
        time.sleep(0.1)
        return data

    pipeline = Pipeline([fit])
    task = StageTask(pipeline.calls({"fit.a": 0.5}, "up")[0], "up", (1.0,), True, True)
    assert run(pipeline, task).run.output == 1.0


def test_a_call_that_ends_in_time_is_watched_no_more():
    with _ended_after(0.05):
        pass
    time.sleep(0.1)


def test_what_the_cache_keeps_does_not_travel_unless_it_is_last(tmp_path):
    pipeline, cache = pipeline_of(), StageCache(tmp_path)
    cache.put("up", (1.0,))
    first = run(pipeline, task_of(pipeline, args=None), cache)
    assert (first.is_kept, first.run.output) == (True, None)
    last = run(pipeline, task_of(pipeline, depth=1, args=None), cache)
    assert (last.is_kept, last.run.output) == (True, 1.5)
    again = run(pipeline, task_of(pipeline, depth=1, args=None), cache)
    assert (again.run.memoized, again.run.output) == (True, 1.5)


def test_an_input_that_the_cache_has_not_is_said_to_be_gone(tmp_path):
    pipeline = pipeline_of()
    assert run(pipeline, task_of(pipeline, args=None), StageCache(tmp_path)).run is None


@pytest.mark.parametrize("is_kept", [True, False])
def test_an_output_comes_apart_from_its_result_whether_it_is_kept_or_not(is_kept, tmp_path):
    pipeline, cache = pipeline_of(), StageCache(tmp_path) if is_kept else None
    result, output = apart(pipeline, task_of(pipeline), cache)
    assert (result.is_kept, result.run.output) == (is_kept, None)
    assert output == ([1.0, "1"],)
    result, nothing = apart(pipeline, task_of(pipeline, depth=1, args=output), cache)
    assert (result.run.output, nothing) == (1.5, None)


def test_what_failed_or_was_made_by_others_has_no_output_apart(tmp_path):
    pipeline, cache = pipeline_of(), StageCache(tmp_path)
    result, output = apart(pipeline, task_of(pipeline, a=0.25), cache)
    assert "diverged" in result.run.error
    assert output is None
    apart(pipeline, task_of(pipeline), cache)
    result, output = apart(pipeline, task_of(pipeline), cache)
    assert (result.run.memoized, output) == (True, None)
