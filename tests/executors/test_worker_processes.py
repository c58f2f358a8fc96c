"""Worker processes: they leave interrupts to whoever started them, and end with it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import worker_calls
from torch.utils.data import DataLoader, TensorDataset

from eeipu import Int, Pipeline, Tuner, stage
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.executors import processes, worker_processes
from eeipu.executors.processes import ProcessExecutor
from eeipu.executors.worker_processes import end_with


def test_a_worker_that_others_started_does_not_end_with_the_runner():
    for runner in (
        ProcessIdentity.here(),
        replace(ProcessIdentity.here(), pid=2**22 + 1),
        replace(ProcessIdentity.of(os.getppid()), created_s=0.0),
    ):
        end_with(runner)
    assert not [t for t in threading.enumerate() if t.name.startswith("watch over")]


def test_a_process_that_was_given_another_parent_ends(monkeypatch):
    ended, parents = threading.Event(), iter([7, 7, 1])
    parent = psutil.Process(os.getppid())
    monkeypatch.setattr(worker_processes, "LOOK_S", 0.0)
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(worker_processes, "end_process", ended.set)
    end_with(ProcessIdentity.of(parent.pid))
    assert ended.wait(10.0)


def test_worker_processes_look_after_this_one():
    with ProcessExecutor(1) as pool:
        assert pool.submit(worker_calls.watches).result() == 1


def test_a_worker_that_grows_by_a_model_or_a_library_stays():
    with ProcessExecutor(1) as pool:
        first = _calls_of_growing_workers(pool)
    assert len(first) == 1


@pytest.mark.filterwarnings("ignore:A worker was restarted:UserWarning")
def test_a_worker_that_grows_beyond_its_part_of_the_memory_is_replaced(monkeypatch):
    monkeypatch.setattr(processes, "MEMORY_SHARE", 0.0)  # then by loky's 300 MB
    with ProcessExecutor(1) as pool:
        assert len(_calls_of_growing_workers(pool)) > 1


def _calls_of_growing_workers(pool):
    """The processes that ran three calls, which keep 400 MB each."""
    return {pool.submit(worker_calls.grow).result() for _ in range(3)}


def test_worker_processes_start_clean():
    with ProcessExecutor(1) as pool:
        command = pool.submit(worker_calls.command).result()
        assert "--process-name" in command  # and are no forks of this one


UNGUARDED = """
import sys
from eeipu import Int, StageCache, stage
from eeipu.algorithms.full_training import FullTraining
from eeipu.executors.opening import open_pool
from eeipu.stages.running.worker import Job
from eeipu.stages.iterative import stage_path
from eeipu.algorithms.runner import StudyRun, run_studies
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan

@stage(space={"k": Int(0, 9)})
def double(*, k):
    return 2.0 * k

cache = StageCache(sys.argv[1])
study = StudyRun("study", FullTraining([{"double.k": k} for k in range(3)], 1),
                 lambda config, step: stage_path([double], config, "", step))
with open_pool("processes", 2, Job([double], (), cache)) as pool:
    run_studies([study], Scheduler(SearchPlan(cache=cache)), pool)
print(sorted(study.values.values()))
"""


def test_worker_processes_leave_interrupts_to_the_runner():
    with ProcessExecutor(1) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result() is signal.SIG_IGN


def test_a_worker_watches_its_runner_and_no_interrupts(monkeypatch):
    handlers, runners = [], []
    monkeypatch.setattr(signal, "signal", lambda *handler: handlers.append(handler))
    monkeypatch.setattr(worker_processes, "end_with", runners.append)
    runner = ProcessIdentity.here()
    worker_processes.begin(runner)
    assert (handlers, runners) == ([(signal.SIGINT, signal.SIG_IGN)], [runner])


def test_a_script_needs_no_guard(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60.0)
    assert done.stdout == "[0.0, 2.0, 4.0]\n"


def test_a_process_looks_after_its_runner_once(monkeypatch):
    end = threading.Event()
    parent = psutil.Process(os.getppid())
    runner = ProcessIdentity.of(parent.pid)
    monkeypatch.setattr(worker_processes, "_watch", lambda _: end.wait(10.0))
    for _ in range(2):
        end_with(runner)
    watches = [t for t in threading.enumerate() if t.name.startswith("watch over")]
    end.set()
    assert len(watches) == 1


KILLED = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from eeipu import StageCache, stage
from eeipu.executors.opening import open_pool
from eeipu.stages.running.worker import Job
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import StudyRun, run_studies
from eeipu.stages.iterative import stage_path
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.space import Int

folder, pool = Path(sys.argv[1]), sys.argv[2]

@stage(space={"k": Int(0, 9)}, version="1")
def wait(*, k):
    (folder / f"pid{os.getpid()}").touch()
    time.sleep(60)

executor = "processes" if pool == "own" else lambda: ProcessPoolExecutor(2)
cache = StageCache(folder / "cache")
study = StudyRun("study", FullTraining([{"wait.k": k} for k in range(2)], 1),
                 lambda config, step: stage_path([wait], config, "", step))
with open_pool(executor, 2, Job([wait], (), cache)) as pool:
    run_studies([study], Scheduler(SearchPlan(cache=cache)), pool)
"""


def eventually(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("pool", ["own", "any"])
def test_workers_end_when_their_runner_is_killed(tmp_path: Path, pool):
    runner = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), pool])
    assert eventually(lambda: len(list(tmp_path.glob("pid*"))) == 2)
    workers = [int(path.name.removeprefix("pid")) for path in tmp_path.glob("pid*")]
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert eventually(lambda: not any(_runs(pid) for pid in workers))


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


NESTED = """
import multiprocessing
import sys
from loky import get_reusable_executor
from eeipu import Categorical, stage

def double(x):
    return 2.0 * x

def put(queue, x):
    queue.put(double(x))

@stage(space={"method": Categorical(["default", "spawn", "forkserver"])})
def fit(x, *, method):
    context = multiprocessing
    if method != "default":
        context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=put, args=(queue, x))
    process.start()
    value = queue.get(timeout=300.0)
    process.join()
    with context.Pool(1) as pool:
        return value + sum(pool.map(double, [x, x]))

if __name__ == "__main__":
    from eeipu import Pipeline, Tuner  # with torch, which each of the processes would import too

    multiprocessing.set_start_method("spawn")
    executor = "processes" if sys.argv[1] == "own" else lambda: get_reusable_executor(1)
    tuner = Tuner(Pipeline([fit]), budget=None, method="random", executor=executor, cache=None)
    study = tuner.run(1.5, max_trials=3, progress=False)
    print([trial.value for trial in study.trials])
"""


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["own", "loky"])
def test_a_stage_may_start_processes_of_its_own(executor, tmp_path):
    (tmp_path / "nested.py").write_text(NESTED)
    command = [sys.executable, str(tmp_path / "nested.py"), executor]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600.0)
    assert done.stdout == "[9.0, 9.0, 9.0]\n", done.stderr


def test_a_stage_may_load_data_with_workers():
    def load(_, *, k):  # by value, since workers do not see the tests
        batches = DataLoader(TensorDataset(torch.arange(8.0)), num_workers=1)
        return sum(float(batch.sum()) for (batch,) in batches) + k

    fit = stage(load, name="fit", version="1", space={"k": Int(1, 1)})
    tuner = Tuner(Pipeline([fit]), budget=1e3, executor="processes")
    assert tuner.run(None, max_trials=1, progress=False).best_value == 29.0


def test_a_timeout_also_ends_the_process_in_which_a_stage_hangs(tmp_path):
    def load(ended, *, k):
        hung = multiprocessing.get_context("fork").Process(target=lambda: touch_after_20_s(ended))
        hung.start()
        hung.join()
        return float(k)

    def touch_after_20_s(path):
        time.sleep(20)
        path.touch()

    hangs = stage(load, version="1", space={"k": Int(1, 1)}, timeout=0.5, retries=0)
    tuner = Tuner(Pipeline([hangs]), budget=1e3, executor="processes")
    study = tuner.run(tmp_path / "ended", max_trials=1, progress=False)
    assert "longer than its timeout of 0.5 s" in study.trials[0].user_attrs["error"]
    assert not (tmp_path / "ended").exists()
