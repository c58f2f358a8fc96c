"""How the user stops a run of a tuner: Ctrl-C, or `study.stop()` in a callback or a sampler."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import InMemoryStorage

from eeipu.cache import StageCache

__all__ = ["how_to_resume", "interruptible", "stoppable"]

logger = logging.getLogger("eeipu")


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event; the second one raises `KeyboardInterrupt` as usual.

    Only the main thread receives signals. In any other thread the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handle(*_: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        logger.warning("stopping after the current stage; press Ctrl-C again to stop at once")

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def stoppable(study: optuna.Study) -> Iterator[None]:
    """Allow `study.stop()`, which Optuna refuses outside of its own loop.

    It is allowed in the thread that enters this context. It stops the run in all threads.
    """
    was = getattr(study._thread_local, "in_optimize_loop", False)
    study._thread_local.in_optimize_loop = True
    try:
        yield
    finally:
        study._thread_local.in_optimize_loop = was


def how_to_resume(study: optuna.Study, cache: StageCache | None, remaining: str | None) -> str:
    """A sentence for the user, after Ctrl-C: what is left, and how to continue.

    Args:
        study: The study.
        cache: The cache of stage outputs, if there is one.
        remaining: What is left of the budget, with its unit; `None` without a budget.
    """
    left = "stopped by Ctrl-C" + ("" if remaining is None else f" with {remaining} left")
    if isinstance(study._storage, InMemoryStorage):
        return (
            f"{left}. Nothing is lost while this process lives: call run(...) again to go on. "
            f"With storage=... a study outlives its process."
        )
    is_lost = cache is not None and cache.location is None
    outputs = ", without the stage outputs, which were kept in memory" if is_lost else ""
    return (
        f"{left}. Nothing is lost: call run(...) again, or run the same script on the same "
        f"storage (study {study.study_name!r}){outputs}, to go on."
    )
