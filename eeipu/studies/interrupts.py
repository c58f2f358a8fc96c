"""How a run of a tuner is stopped by `study.stop()`, and how it goes on after Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import InMemoryStorage

from eeipu.cache import StageCache

__all__ = ["how_to_resume", "stoppable"]


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
