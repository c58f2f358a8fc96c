"""What a process does as a worker: it keeps the job that it was given, and ends with its runner.

An executor hands a function nothing but its arguments. So a job, which may hold a data set, is
sent when a process says that it does not have it, and not with every batch. It is kept as bytes,
as what one batch does to its inputs must not reach the next. And a process that
waits for work is not told when whoever would send it was killed: it has to look.
"""

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor

import cloudpickle
import joblib
import psutil
from joblib.externals.loky.process_executor import ProcessPoolExecutor

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.executors.node_batches import Job, Work, WorkResult, run_works
from eeipu.serialization.transport import adopt_classes
from eeipu.stages.iterative import functions_of
from eeipu.stages.tasks import leave_interrupts_to_driver

__all__ = ["begin", "end_with", "packed", "run_elsewhere", "worker_processes"]

# Seconds between looks whether the runner lives; a look takes microseconds.
LOOK_S = 0.5

# The one thing that outlives a call in a worker: the last job, under its name.
_jobs: dict[str, bytes] = {}


def worker_processes(workers: int) -> Executor:
    """Worker processes that end with this one, even before they were given anything.

    They start clean, as loky's do: they inherit neither threads, which a forked process would wait
    for in vain once torch has used them here, nor the use of a GPU, and do not run the script
    again that starts them. The cores are shared out among them, unless the environment has
    `OMP_NUM_THREADS`.

    Args:
        workers: How many.
    """
    threads = max(1, joblib.cpu_count() // workers)
    pool: Executor = ProcessPoolExecutor(
        workers,
        initializer=begin,
        initargs=(ProcessIdentity.here(),),
        env={"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))},
    )
    return pool


def begin(runner: ProcessIdentity) -> None:
    """What a worker process does first: it leaves interrupts to its runner, and ends with it.

    Args:
        runner: Who has started it.
    """
    leave_interrupts_to_driver()
    end_with(runner)


def end_with(runner: ProcessIdentity) -> None:
    """Have this process end when the runner has, if that has started it.

    Args:
        runner: Who hands out batches; a worker that others started serves others too.
    """
    name = f"watch over {runner}"
    if any(thread.name == name for thread in threading.enumerate()):
        return
    if _has_started_this(runner):
        threading.Thread(target=_watch, args=(os.getppid(),), name=name, daemon=True).start()


def _has_started_this(runner: ProcessIdentity) -> bool:
    """Whether the runner started this process, itself or through processes that it started."""
    return bool(runner.is_alive()) and runner.pid in {
        process.pid for process in psutil.Process().parents()
    }


def _watch(parent: int) -> None:
    """Wait until this process is given another parent, as its own has ended."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)  # as if killed: what is in the cache stands that


def packed(job: Job) -> bytes:
    """A job as bytes, and who sends it."""
    return bytes(cloudpickle.dumps((job, ProcessIdentity.here())))


def run_elsewhere(
    name: str,
    job: bytes | None,
    works: Sequence[Work],
    upstream: str | None,
    above: Sequence[Work],
    cut: str | None = None,
) -> list[WorkResult] | None:
    """Run nodes in this process.

    Args:
        name: The job's name.
        job: The job, packed; `None`: this process should have it.
        works: The nodes; see `eeipu.executors.node_batches.run_works`.
        upstream: The key of the state to begin from.
        above: What leads to the stage of the first node.
        cut: The key whose presence in the cache ends the batch.

    Returns:
        As `run_works`; `None` where the process does not have the job.
    """
    if job is not None:
        _jobs.clear()
        _jobs[name] = job
    if name not in _jobs:
        return None
    mine, runner = cloudpickle.loads(_jobs[name])
    adopt_classes(each for stage in mine.stages.values() for each in functions_of(stage))
    end_with(runner)
    return run_works(works, mine, upstream, above, cut)
