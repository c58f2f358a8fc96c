"""Stages as Ray tasks. One Ray serves all tests of a session: it takes seconds to start."""

import fcntl
import logging
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from engines import (
    check_finds_what_one_finds,
    check_observes_what_one_observes,
    check_runs_a_notebook,
    check_survives_a_death,
    data,
    diary,
    point,
    tuner_of,
)

from eeipu import Float, Pipeline, StageCache, stage
from eeipu.errors import MissingExtraError
from eeipu.executors import RayExecutor
from eeipu.executors.futures_pool import FuturesPool
from eeipu.executors.ray import _Followed, _heed, _Held, _opened
from eeipu.serialization import transport
from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask, TaskResult
from eeipu.stages.running.worker import Job
from eeipu.stages.runs import StageRun

# One process of the tests is to have it: it takes 600 MB.
pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


@contextmanager
def starting_alone():
    """Wait while another process starts a Ray: of two that start at once, one fails."""
    with Path(tempfile.gettempdir(), "eeipu-test-ray.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def ray():
    ray = pytest.importorskip("ray")
    with starting_alone():
        # The GPUs are not there: Ray only counts them.
        ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def executor(ray):
    with RayExecutor() as executor:
        yield executor
    assert ray.is_initialized()  # it was before


@pytest.mark.parametrize("arguments", [{}, {"cache": None}], ids=["cache", "no cache"])
def test_ray_finds_what_one_thread_finds(executor, arguments, tmp_path):
    check_finds_what_one_finds(executor, tmp_path, **arguments)


def test_a_killed_worker_is_replaced_and_its_call_tried_again(executor, tmp_path):
    check_survives_a_death(executor, tmp_path)


def test_stages_are_observed_on_their_workers(executor, tmp_path):
    looks = tmp_path / "looks"
    looks.mkdir()
    cache = StageCache(tmp_path / "cache")
    assert check_observes_what_one_observes(executor, looks, cache=cache) == [2, 2, 2]


def test_what_a_notebook_defines_runs(executor):
    check_runs_a_notebook(executor)


SCRIPT = """
import sys
from helper import scaled
from eeipu import Float, Pipeline, Tuner, stage
from eeipu.executors import RayExecutor

@stage(space={"a": Float(0.0, 1.0)})
def fit(data, *, a):
    return [scaled(data)]

@stage(space={"b": Float(0.0, 1.0)})
def score(fitted, *, b):
    return fitted[0]

with RayExecutor(sys.argv[1]) as executor:
    tuner = Tuner(Pipeline([fit, score]), budget=1e3, method="random", executor=executor)
    print("found", tuner.run(3.0, max_trials=1, progress=False).best_value)
"""


def test_a_script_with_a_module_beside_it_connects_to_a_cluster(ray, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("def scaled(x):\n    return 2 * x\n")
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), address],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "found 6.0" in done.stdout, done.stderr
    assert ray.is_initialized()


def test_a_stage_has_the_cpus_and_gpus_that_it_declares(executor, ray):
    @stage(space={"a": Float(0.0, 1.0)}, num_gpus=1, num_cpus=2, version="1")
    def whole(data, *, a):
        assigned = ray.get_runtime_context().get_assigned_resources()
        return assigned, os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()

    @stage(space={"b": Float(0.0, 1.0)}, num_gpus=0.5, version="1")
    def half(before, *, b):
        assigned = ray.get_runtime_context().get_assigned_resources()
        return [*before, assigned, os.environ["CUDA_VISIBLE_DEVICES"], os.getpid()]

    @stage(space={"c": Float(0.0, 1.0)}, version="1")
    def check(before, *, c):
        needs, devices, pid, fraction, shared, other_pid = before
        assert needs == {"CPU": 2.0, "GPU": 1.0}
        assert fraction == {"CPU": 1.0, "GPU": 0.5}
        assert devices in ("0", "1")
        assert shared in ("0", "1")
        assert len({pid, other_pid, os.getpid()}) == 3  # a process has one set of devices
        return c

    study = tuner_of(Pipeline([whole, half, check]), executor=executor).run(
        1.0, max_trials=1, progress=False
    )
    assert study.trials[0].user_attrs.get("error") is None
    assert study.trials[0].state.name == "COMPLETE"


def test_outputs_and_inputs_stay_in_the_object_store(executor, ray, tmp_path, monkeypatch):
    pipeline = diary(tmp_path)
    calls = pipeline.calls(point(0.5, x=2), "up")
    pool = FuturesPool(executor, 2, Job(pipeline.stages, (data(),)))
    puts, put = [], ray.put
    monkeypatch.setattr(ray, "put", lambda value: puts.append(value) or put(value))
    pool.submit(StageTask(calls[0], None, is_last=False))
    pool.submit(StageTask(calls[0], None, is_last=False))
    outputs = [event.result.run.output for event in (*pool.wait(), *pool.wait())][:2]
    assert len(puts) == 1  # the stages and the inputs, once
    pool.submit(StageTask(calls[1], (outputs[0],), is_last=False))
    (event,) = pool.wait()
    assert len(puts) == 1
    assert ray.get(event.result.run.output.ref)[0].__class__ is bytes
    pool.submit(StageTask(calls[2], (data() * 2.5,), is_last=True))
    (event,) = pool.wait()
    assert event.result.run.output == data().size * 2.5 + 0.5
    pool.close(at_once=False)


def settled(outcome, opened=int):
    """What `_Followed` makes of an outcome; the lines run in a thread of Ray's otherwise."""
    done, followed = Future(), _Followed(lambda: None, opened, KeyError)
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
    followed.settle(done)
    assert not followed.cancel()
    return followed


def test_a_future_takes_over_what_a_task_has_come_to():
    assert settled("5").result() == 5
    assert isinstance(settled("five").exception(), ValueError)
    assert isinstance(settled(OSError()).exception(), OSError)
    assert settled(KeyError()).result() == TaskResult(None)


def test_a_cancelled_future_ends_its_task_and_stays_cancelled():
    ended = []
    followed = _Followed(lambda: ended.append(True), int, KeyError)
    assert followed.cancel()
    followed.settle(settled("5"))
    assert followed.cancelled()
    assert ended == [True]


def test_a_result_holds_its_output_where_there_is_one(tmp_path):
    calls = diary(tmp_path).calls(point(), "up")
    task = StageTask(calls[0], None, is_last=False)
    made, found = (StageRun("prep", "key", memoized=memoized) for memoized in (False, True))
    for run, output in ((made, _Held("ref")), (found, None)):
        result = TaskResult(run)
        assert _opened(task, "ref", transport.dumps(result)).run.output == output
    assert _opened(task, "ref", transport.dumps(TaskResult(None))) == TaskResult(None)


def test_an_error_of_an_output_is_looked_at():
    looked, output = [], SimpleNamespace(future=lambda: looked.append(True))
    _heed(output, settled("5"))
    assert looked == []
    _heed(output, settled(OSError()))
    assert looked == [True]


def test_an_input_that_is_lost_with_its_node_is_made_again(executor, ray):
    def lose():
        raise ray.exceptions.ObjectLostError("0" * 56, None, "")

    assert executor.submit(lose).result() == TaskResult(None)


def test_other_errors_are_not_deaths(executor):
    error = executor.submit(divmod, 1, 0).exception()
    assert isinstance(error, ZeroDivisionError)
    assert not executor.is_death(error)


def test_a_call_that_is_cancelled_ends(executor, tmp_path):
    marker = tmp_path / "pid"

    def nap():
        Path(marker).write_text(str(os.getpid()))
        time.sleep(600)

    future = executor.submit(nap)
    while not (marker.exists() and marker.read_text()):
        time.sleep(0.05)
    executor.shutdown(wait=False)
    assert future.cancelled()
    process = Path("/proc", marker.read_text())
    while process.exists() and "Z" not in (process / "stat").read_text():
        time.sleep(0.05)


def test_what_no_node_has_is_said_once(executor, caplog):
    needs = Resources(1.0, 99.0)
    assert executor.can_take(needs)
    assert executor.can_take(needs)
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "num_gpus=99.0" in record.message


def test_a_ray_that_was_started_here_is_ended_here(ray, monkeypatch):
    done = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda address: done.append(address))
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("shut down"))
    with RayExecutor("somewhere:6379"):
        assert done == ["somewhere:6379"]
    assert done[1:] == ["shut down"]


def test_ray_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install \"eeipu\[ray\]\""):
        RayExecutor()
