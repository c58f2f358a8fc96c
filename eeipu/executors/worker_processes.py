"""What a process does as a worker: it leaves interrupts to its runner, and ends when that ends.

A process that waits for work is not told when the process that would send it was killed: it has to
look.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.util import Finalize

import psutil

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.stages.running.limits import end_process

__all__ = ["begin", "end_with", "leave_interrupts_to_runner", "start_method", "take_start_method"]

# Seconds between two looks whether the runner is alive; a look takes microseconds.
LOOK_S = 0.5

LOKYS_METHODS = ("loky", "loky_init_main")


def begin(runner: ProcessIdentity, growth: float = 0.0) -> None:
    """Prepare a process of loky's for calls: it leaves interrupts to its runner, and ends with it.

    Args:
        runner: The process that has started it.
        growth: By how many bytes it may grow before loky replaces it between two calls. loky takes
            300 MB since the first call for a leak. Here the first call imports little, and a stage
            that imports torch or keeps a model in memory grows by more.
    """
    leave_interrupts_to_runner()
    end_with(runner)
    from loky import process_executor  # other executors' workers do without it

    process_executor._MAX_MEMORY_LEAK_SIZE = max(process_executor._MAX_MEMORY_LEAK_SIZE, growth)
    # Before Python waits for the children of this process, which it does at priority 0.
    Finalize(None, _end_nested_workers, exitpriority=100)


def _end_nested_workers() -> None:
    """End the processes that joblib keeps for its next call in a stage, as there will be none.

    joblib itself does so too late in a process of multiprocessing's kind, which would wait for them
    for five minutes.
    """
    joblibs = sys.modules.get("joblib.externals.loky.process_executor")
    if joblibs is not None:
        joblibs._python_exit()


def leave_interrupts_to_runner() -> None:
    """Ignore Ctrl-C, which a terminal sends to all of its processes.

    The runner lets running stages end, and ends its workers itself.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def start_method() -> str | None:
    """How this process starts processes of `multiprocessing`; `None` for the default of Python."""
    method = multiprocessing.get_start_method(allow_none=True)
    return None if method in LOKYS_METHODS else method


def take_start_method(method: str | None) -> None:
    """Have the processes that a stage starts, such as those of a data loader, start as usual.

    A worker of loky's would start them by loky's own method, which only loky's processes take.

    Args:
        method: The runner's method (`start_method`).
    """
    if multiprocessing.get_start_method(allow_none=True) in LOKYS_METHODS:
        multiprocessing.set_start_method(method, force=True)


def end_with(runner: ProcessIdentity) -> None:
    """Have this process end when the runner has ended, if the runner has started it.

    Args:
        runner: The process that hands out calls. A worker that others started serves others too,
            and goes on.
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
    """Wait until this process is given another parent, because its own has ended."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    end_process()  # as if killed, which the cache is made for
