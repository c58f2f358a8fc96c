"""Worker processes: they get their job once, and end with whoever started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import psutil
import pytest
from counting import pipeline

from eeipu import StageCache, stage
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.executors import worker_processes
from eeipu.executors.node_batches import Job, Work
from eeipu.executors.worker_processes import end_with, packed, run_elsewhere
from eeipu.stages.paths import Kind

WORKS = [Work("key", Kind.PLAIN, "prep", "version 1", "up", {"dims": 8})]


@pytest.fixture(autouse=True)
def no_jobs(monkeypatch):
    monkeypatch.setattr(worker_processes, "_jobs", {})


def job(folder):
    return Job({each.name: each for each in pipeline().stages}, ("data",), None, StageCache(folder))


def test_a_job_is_sent_once_and_kept(tmp_path):
    sent = packed(job(tmp_path))
    assert run_elsewhere("job", None, WORKS, None, []) is None
    for each in (sent, None):
        (result,) = run_elsewhere("job", each, WORKS, None, [])
        assert StageCache(tmp_path).get(result.key) == [("prep", "data", 8)]


def test_a_process_keeps_one_job(tmp_path):
    run_elsewhere("one", packed(job(tmp_path)), WORKS, None, [])
    run_elsewhere("two", packed(job(tmp_path)), WORKS, None, [])
    assert run_elsewhere("one", None, WORKS, None, []) is None


def test_a_cache_travels_as_it_is(tmp_path):
    cache = StageCache(tmp_path, compression="gzip", max_bytes=1e6)
    sent, _ = cloudpickle.loads(packed(Job({}, ("data",), None, cache)))
    assert sent.cache._compression == "gzip"


def test_what_a_batch_does_to_its_inputs_does_not_reach_the_next(tmp_path):
    @stage(version="1")
    def pop(numbers):
        return float(numbers.pop())

    sent = packed(Job({"pop": pop}, ([1, 2],), None, StageCache(tmp_path)))
    work = [Work("key", Kind.PLAIN, "pop", "version 1", "up", {})]
    results = [run_elsewhere("job", each, work, None, []) for each in (sent, None)]
    assert [result.value for (result,) in results] == [2.0, 2.0]


def test_a_worker_that_others_started_does_not_end_with_the_runner():
    here, parent = ProcessIdentity.here(), ProcessIdentity.of(os.getppid())
    others = (
        replace(here, pid=2**22 + 1),
        replace(parent, created_s=0.0),
        replace(parent, host="elsewhere"),
    )
    for runner in (here, *others):
        end_with(runner)
    assert not [t for t in threading.enumerate() if t.name.startswith("watch over")]


def test_a_process_that_was_given_another_parent_ends(monkeypatch):
    ended, parents = threading.Event(), iter([7, 7, 1])
    parent = ProcessIdentity.of(os.getppid())
    monkeypatch.setattr(worker_processes, "LOOK_S", 0.0)
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())
    end_with(parent)
    assert ended.wait(10.0)


def test_worker_processes_look_after_this_one():
    with worker_processes.worker_processes(1) as pool:
        assert pool.submit(_watches).result() == 1


def _watches():
    return sum(thread.name.startswith("watch over") for thread in threading.enumerate())


def test_worker_processes_start_clean():
    with worker_processes.worker_processes(1) as pool:
        assert "--process-name" in pool.submit(_command).result()  # and are no forks of this one


def _command():
    return psutil.Process().cmdline()


@pytest.mark.parametrize(("own", "theirs"), [("3", "3"), (None, "4")])
def test_worker_processes_share_the_cores(monkeypatch, own, theirs):
    monkeypatch.setattr("joblib.cpu_count", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if own is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", own)
    with worker_processes.worker_processes(2) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == theirs


UNGUARDED = """
import sys
from eeipu import Int, StageCache, stage
from eeipu.algorithms.full_training import FullTraining
from eeipu.executors.futures_cluster import FuturesCluster
from eeipu.stages.iterative import stage_path
from eeipu.algorithms.runner import StudyRun, run_studies
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.executors.worker_processes import worker_processes

@stage(space={"k": Int(0, 9)})
def double(*, k):
    return 2.0 * k

cache = StageCache(sys.argv[1])
study = StudyRun("study", FullTraining([{"double.k": k} for k in range(3)], 1),
                 lambda config, step: stage_path([double], config, "", step))
with FuturesCluster(lambda: worker_processes(2), [double], (), cache, 2) as cluster:
    run_studies([study], Scheduler(SearchPlan(cache=cache)), cluster)
print(sorted(study.values.values()))
"""


def test_worker_processes_leave_interrupts_to_the_runner():
    with worker_processes.worker_processes(1) as pool:
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
    runner = ProcessIdentity.of(os.getppid())
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
from eeipu.executors.futures_cluster import FuturesCluster
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.runner import StudyRun, run_studies
from eeipu.stages.iterative import stage_path
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.space import Int
from eeipu.executors.worker_processes import worker_processes

folder, pool = Path(sys.argv[1]), sys.argv[2]

@stage(space={"k": Int(0, 9)}, version="1")
def wait(*, k):
    (folder / f"pid{os.getpid()}").touch()
    time.sleep(60)

make = worker_processes if pool == "own" else ProcessPoolExecutor
cache = StageCache(folder / "cache")
study = StudyRun("study", FullTraining([{"wait.k": k} for k in range(2)], 1),
                 lambda config, step: stage_path([wait], config, "", step))
with FuturesCluster(lambda: make(2), [wait], (), cache, 2) as cluster:
    run_studies([study], Scheduler(SearchPlan(cache=cache)), cluster)
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
