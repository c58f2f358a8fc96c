"""Jobs and tasks on their way to worker processes, which this process plays."""

import os
from collections import deque
from dataclasses import dataclass, replace
from itertools import count, cycle

import numpy as np
import pytest
import torch
from counting import prep

from eeipu import Float, Pipeline, PipelineError, StageCache, stage
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.errors import ConfigurationError, WorkerMismatchError
from eeipu.executors import jobs
from eeipu.executors.jobs import (
    PackedJob,
    has_job,
    has_output_apart,
    keep_job,
    pack_task,
    run_apart,
    run_packed,
)
from eeipu.serialization import transport
from eeipu.serialization.main_module import MainModule
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.paths import Kind
from eeipu.stages.running.calls import StageCall
from eeipu.stages.running.tasks import StageTask
from eeipu.stages.running.worker import Job

GAIN = {"k": 1.0}


@pytest.fixture(autouse=True)
def no_jobs(monkeypatch):
    monkeypatch.setattr(jobs, "_received", type(jobs._received)())


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


def task_of(pipeline, a=0.5, depth=0, args=None):
    calls = pipeline.calls({"fit.a": a, "score.b": 0.5}, "up")
    return StageTask(calls[depth], args, is_last=depth == 1)


def run(pipeline, task, cache=None, inputs=(1.0,)):
    packed = PackedJob(Job(pipeline.stages, inputs, cache))
    return transport.loads(run_packed(packed.name, packed.data, pack_task(task)))


def apart(pipeline, task, cache=None):
    args = None if task.args is None else transport.segments(task.args)
    packed = PackedJob(Job(pipeline.stages, (1.0,), cache))
    keep_job(packed.name, packed.data)
    sent, output = run_apart(packed.name, pack_task(replace(task, args=None)), args)
    result = transport.loads(sent)
    assert has_output_apart(task, result) == (output is not None)
    return result, None if output is None else transport.loads_apart(output)


# --- jobs -----------------------------------------------------------------------------------


def test_a_job_is_sent_once_and_kept(tmp_path):
    pipeline = pipeline_of()
    packed, task = PackedJob(Job(pipeline.stages, (1.0,))), pack_task(task_of(pipeline))
    assert run_packed(packed.name, None, task) is None  # it asks for the job
    for data in (packed.data, None):
        assert transport.loads(run_packed(packed.name, data, task)).run.error is None


def test_a_process_keeps_the_last_jobs():
    packed = [PackedJob(Job(pipeline_of().stages)) for _ in range(jobs.MAX_JOBS + 1)]
    for each in packed:
        keep_job(each.name, each.data)
    assert [has_job(each.name) for each in packed] == [False, *[True] * jobs.MAX_JOBS]


def test_a_cache_travels_as_it_is(tmp_path):
    packed = PackedJob(Job((), (), StageCache(tmp_path, compression="gzip", max_bytes=1e6)))
    keep_job(packed.name, packed.data)
    assert jobs._received[packed.name].job.cache._compression == "gzip"


def test_a_change_of_the_inputs_does_not_reach_the_next_call():
    @stage(space={}, version="1")
    def pop(numbers):
        return float(numbers.pop())

    pipeline = Pipeline([pop])
    task = StageTask(pipeline.calls({}, "up")[0], None, is_last=True)
    packed = PackedJob(Job(pipeline.stages, ([1, 2],)))
    sent = (run_packed(packed.name, data, pack_task(task)) for data in (packed.data, None))
    assert [transport.loads(each).value for each in sent] == [2.0, 2.0]


def test_a_training_that_goes_on_in_a_worker_loads_with_what_its_stage_got(tmp_path):
    lean = Training(
        lambda doubled: (doubled, 0.0),
        lambda state, start, stop, hyper: (state[0], state[1] + (stop - start) * hyper["lr"](0)),
        lambda state: state[0] * state[1],
        lambda state: state[1],
        lambda saved, doubled: (doubled, saved),  # the checkpoint has no data
    )
    double = stage(lambda data: 2 * data, name="double", version="1")
    train = iterative(lean, {"lr": 1.0}, steps=4, name="train", version="1")
    pipeline, cache = Pipeline([double, train]), StageCache(tmp_path)
    first = StageCall(double, {}, "doubled")
    last = StageCall(train, {}, "value", Kind.EVALUATION, upstream="state", sources=("state",))
    cache.put("state", 3.0)
    task = StageTask(last, None, is_last=True, above=(first,), given=("doubled",))
    assert run(pipeline, task, cache, inputs=(5.0,)).value == (2 * 5.0) * 3.0


def gained(x):
    return GAIN["k"] * x


def gained_stage():
    return stage(gained)


def test_a_job_is_packed_anew_where_its_code_has_changed(monkeypatch):
    packed = PackedJob(Job([stage(gained)], (1.0,)))
    names = [packed.name]
    packed.refresh()
    names.append(packed.name)
    monkeypatch.setitem(GAIN, "k", 10.0)
    with pytest.warns(match="changed since"):
        packed.refresh()
    names.append(packed.name)
    assert names[0] == names[1] != names[2]


def test_a_cache_in_memory_cannot_be_reached_by_other_processes():
    with pytest.raises(ConfigurationError, match=r"give a StageCache\(directory\)"):
        PackedJob(Job([prep], ("data",), StageCache()))


def test_inputs_that_do_not_travel_are_refused_by_name():
    with pytest.raises(PipelineError, match="inputs cannot be sent to a worker process"):
        PackedJob(Job([prep], (iter([1]).__class__, (n for n in "ab"))))


def test_a_stage_that_does_not_travel_is_refused_by_name():
    numbers = (n for n in "ab")
    counting = stage(name="counting", version="1")(lambda data: next(numbers))
    with pytest.raises(PipelineError, match="stage 'counting' cannot be sent to a worker process"):
        PackedJob(Job([prep, counting], ("data",)))


# --- tasks ----------------------------------------------------------------------------------


def test_a_task_runs_on_the_threads_that_its_stage_declares(monkeypatch):
    processes = cycle([replace(ProcessIdentity.here(), pid=pid) for pid in (1, 2)])
    monkeypatch.setattr(ProcessIdentity, "here", lambda: next(processes))
    pipeline = pipeline_of(num_cpus=3)
    assert run(pipeline, task_of(pipeline)).run.output == [1.0, "3"]


def test_a_worker_in_the_drivers_process_leaves_its_threads_alone(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    pipeline = pipeline_of(num_cpus=3)
    assert run(pipeline, task_of(pipeline)).run.output == [1.0, "1"]


def test_a_worker_in_the_drivers_process_refuses_a_timeout():
    pipeline = pipeline_of(timeout=0.01)
    with pytest.raises(ConfigurationError, match="'fit' has a timeout"):
        run(pipeline, task_of(pipeline))


@pytest.fixture
def elsewhere(monkeypatch):
    """Let this process take itself for another one than the driver's; return what it agreed to."""
    here = ProcessIdentity.here()
    pids = count(1)
    monkeypatch.setattr(ProcessIdentity, "here", lambda: replace(here, pid=next(pids)))
    monkeypatch.setattr(MainModule, "adopt", lambda *_: None)
    monkeypatch.setattr(jobs, "_agreed", deque())
    return jobs._agreed


def test_a_worker_refuses_a_stage_of_which_it_has_other_values(elsewhere, monkeypatch):
    packed = PackedJob(Job([gained_stage()], (1.0,)))
    task = StageTask(Pipeline([gained_stage()]).calls({}, "up")[0], None, is_last=True)
    monkeypatch.setitem(GAIN, "k", 10.0)
    with pytest.raises(WorkerMismatchError, match=r"the global GAIN in test_jobs\.gained"):
        run_packed(packed.name, packed.data, pack_task(task))


def gain(x):
    return GAIN["k"] * x


def test_a_worker_refuses_a_stage_of_whose_observer_it_has_other_values(elsewhere, monkeypatch):
    pipeline = Pipeline([stage(lambda x: x, name="fit", version="1", observe=gain)])
    task = StageTask(pipeline.calls({}, "up")[0], None, is_last=True)
    packed = PackedJob(Job(pipeline.stages, (1.0,)))
    assert (
        transport.loads(run_packed(packed.name, packed.data, pack_task(task))).run.observation
        == 1.0
    )
    packed = PackedJob(Job(pipeline.stages, (1.0,)))
    monkeypatch.setitem(GAIN, "k", 10.0)
    monkeypatch.setattr(jobs, "_agreed", deque())
    with pytest.raises(WorkerMismatchError, match=r"'fit' .*the global GAIN in test_jobs\.gain"):
        run_packed(packed.name, packed.data, pack_task(task))


def test_a_job_is_packed_again_when_the_code_of_an_observer_has_changed(monkeypatch):
    observed = stage(lambda x: x, name="fit", version="1", observe=gain)
    packed = PackedJob(Job([observed], (1.0,)))
    name = packed.name
    packed.refresh()
    assert packed.name == name
    monkeypatch.setitem(GAIN, "k", 10.0)
    with pytest.warns(RuntimeWarning, match="'fit' uses"):
        packed.refresh()
    assert packed.name != name


class Scaled:
    def __call__(self, x):
        return GAIN["k"] * x


class Model:
    def __init__(self):
        self.weights = np.ones(100_000)

    @stage
    def fit(self, data):
        return data * float(self.weights.sum())

    @stage
    def score(self, fitted):
        return fitted + GAIN["k"]


def method_task(pipeline):
    return StageTask(pipeline.calls({}, "up")[0], None, is_last=True)


def test_the_object_of_two_stages_travels_once_and_with_no_task(elsewhere):
    model = Model()
    pipeline = Pipeline([model.fit, model.score])
    packed, task = PackedJob(Job(pipeline.stages, (2.0,))), pack_task(method_task(pipeline))
    assert model.weights.nbytes < len(packed.data) < 1.2 * model.weights.nbytes
    assert len(task) < 10_000
    assert transport.loads(run_packed(packed.name, packed.data, task)).run.output == 200_000.0


def test_a_worker_refuses_a_method_of_which_it_has_other_values(elsewhere, monkeypatch):
    pipeline = Pipeline([Model().fit, Model().score])
    packed = PackedJob(Job(pipeline.stages, (2.0,)))
    monkeypatch.setitem(GAIN, "k", 10.0)
    with pytest.raises(WorkerMismatchError, match=r"the global GAIN in test_jobs\.Model"):
        run_packed(packed.name, packed.data, pack_task(method_task(pipeline)))


def test_a_worker_refuses_inputs_of_whose_class_it_has_other_code(elsewhere, monkeypatch):
    pipeline = pipeline_of()
    packed = PackedJob(Job(pipeline.stages, (Scaled(),)))
    monkeypatch.setitem(GAIN, "k", 10.0)
    with pytest.raises(WorkerMismatchError, match=r"the global GAIN in test_jobs\.Scaled"):
        run_packed(packed.name, packed.data, pack_task(task_of(pipeline, args=None)))


def test_inputs_of_a_class_that_travels_itself_are_the_drivers(elsewhere):
    @dataclass
    class Config:
        weight: float

    pipeline = pipeline_of()
    packed = PackedJob(Job(pipeline.stages, (Config(2.0),)))
    sent = run_packed(packed.name, packed.data, pack_task(task_of(pipeline, args=None)))
    assert transport.loads(sent).run.output[0].weight == 2.0


def test_what_a_worker_changes_itself_is_no_difference(elsewhere, monkeypatch):
    jobs_ = [PackedJob(Job([gained_stage()], (1.0,))) for _ in range(2)]
    task = StageTask(Pipeline([gained_stage()]).calls({}, "up")[0], None, is_last=True)
    for packed, gain in zip(jobs_, (1.0, 10.0), strict=True):
        monkeypatch.setitem(GAIN, "k", gain)
        sent = run_packed(packed.name, packed.data, pack_task(task))
        assert transport.loads(sent).run.error is None
    assert len(elsewhere) == 1


def test_what_the_cache_keeps_does_not_travel_unless_it_is_last(tmp_path):
    pipeline, cache = pipeline_of(), StageCache(tmp_path)
    first = run(pipeline, task_of(pipeline, args=None), cache, inputs=(1.0,))
    assert (first.is_kept, first.run.output) == (True, None)
    last = run(pipeline, task_of(pipeline, depth=1, args=None), cache)
    assert (last.is_kept, last.run.output) == (True, 1.5)
    again = run(pipeline, task_of(pipeline, depth=1, args=None), cache)
    assert (again.run.memoized, again.run.output) == (True, 1.5)


def test_an_input_that_the_cache_has_not_is_said_to_be_gone(tmp_path):
    pipeline = pipeline_of()
    task = task_of(pipeline, depth=1, args=None)
    assert run(pipeline, task, StageCache(tmp_path)).run is None


def test_an_output_that_cannot_be_sent_is_a_failure():
    @stage(space={}, version="1")
    def generate(data):
        return (each for each in "ab")

    pipeline = Pipeline([generate])
    task = StageTask(pipeline.calls({}, "up")[0], None, is_last=True)
    assert "cannot be sent to another process" in run(pipeline, task).run.error


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
