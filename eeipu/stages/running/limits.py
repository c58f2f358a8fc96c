"""What a stage call may use of its process: threads, and time."""

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, NoReturn

from threadpoolctl import ThreadpoolController

__all__ = ["end_process", "ended_after", "loaded_libraries", "threads"]

# Python's own watchdog also ends code that never lets another thread run, but leaves the processes
# that this one has started. It has to act only where a thread that would end them could not.
GRACE_S = 5.0

# What libraries read when they are imported, which a stage may do.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def ended_after(timeout_s: float) -> Iterator[None]:
    """End this process, with its stacks on the standard error, if the context takes too long.

    What hangs may be a process that the call has started, such as one that loads data. These
    processes are ended too: they would hang for ever, and while one that was forked lives, nobody
    is told that this process has ended.

    There is one watchdog of Python's for the whole process: only the main thread uses it, in which
    most executors call. Dask's workers have threads, where code that never lets another thread run
    is not ended.

    Args:
        timeout_s: Seconds until the process is ended.
    """
    file = sys.__stderr__ or 2
    timer = threading.Timer(timeout_s, _give_up, [file])
    timer.daemon = True
    is_main = threading.current_thread() is threading.main_thread()
    if is_main:
        faulthandler.dump_traceback_later(timeout_s + GRACE_S, exit=True, file=file)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if is_main:
            faulthandler.cancel_dump_traceback_later()


def _give_up(file: Any) -> None:
    faulthandler.dump_traceback(file, all_threads=True)
    end_process()


def end_process() -> NoReturn:
    """End this process at once, as if killed, and those that it has started."""
    import psutil  # here, as only what ends needs it

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Limit the numerical libraries of this process to a number of threads.

    Libraries that are imported later read the limit from the environment, where it stays.

    Args:
        count: The number of threads.
    """
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(count)))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
    with loaded_libraries().limit(limits=count):
        yield


def loaded_libraries() -> ThreadpoolController:
    """The numerical libraries of this process: finding them takes as long as a small trial."""
    return _controller(len(sys.modules))


@lru_cache(maxsize=1)
def _controller(modules: int) -> ThreadpoolController:  # noqa: ARG001 - when it is out of date
    return ThreadpoolController()
