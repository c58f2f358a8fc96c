"""What a stage call may use of its process: threads, and time."""

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["ended_after", "loaded_libraries", "threads"]

# What libraries read when they are imported, which a stage may do.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def ended_after(timeout_s: float) -> Iterator[None]:
    """End this process, with its stacks on the standard error, if the context takes too long.

    Python's own watchdog also ends code that never returns from a library, but there is one for the
    whole process: only the main thread uses it, in which most executors call. Dask's workers have
    threads, where a timer ends everything but code that never lets other threads run.

    Args:
        timeout_s: Seconds until the process is ended.
    """
    file = sys.__stderr__ or 2
    if threading.current_thread() is threading.main_thread():
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=file)
        cancel = faulthandler.cancel_dump_traceback_later
    else:
        timer = threading.Timer(timeout_s, _end_process, [file])
        timer.daemon = True
        timer.start()
        cancel = timer.cancel
    try:
        yield
    finally:
        cancel()


def _end_process(file: Any) -> None:
    faulthandler.dump_traceback(file, all_threads=True)
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
