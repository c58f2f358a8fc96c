"""Executors that know what a stage call needs, and whose worker died."""

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from eeipu.executors.jobs import PackedJob, pack_task, run_packed
from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask

__all__ = ["PlainExecutor", "StageExecutor"]


class StageExecutor(Executor):
    """An executor that knows what a call needs, so that each worker gets what fits it.

    Attributes:
        outlives_deaths: Whether it goes on when a worker has died, and knows whose call that was.
    """

    outlives_deaths = True

    @abstractmethod
    def can_take(self, needs: Resources) -> bool:
        """Whether a worker with these resources is free, or the executor has a queue of its own."""

    @abstractmethod
    def submit_with(
        self, needs: Resources, function: Callable[..., Any], /, *args: Any
    ) -> "Future[Any]":
        """Call a function on a worker that has what it needs."""

    def submit_task(
        self, job: PackedJob, task: StageTask, *, with_job: bool = False
    ) -> "Future[Any]":
        """Run a task.

        An engine that stores values may give a handle in place of the output, and gets it back as
        the next task's argument.

        Args:
            job: The job that the task belongs to.
            task: The task.
            with_job: Whether the job travels with the task, as a worker has asked for it.

        Returns:
            A future of a `TaskResult`, of its bytes, or of `None` where the worker asks for the
            job.
        """
        data = job.data if with_job else None
        return self.submit_with(task.call.resources, run_packed, job.name, data, pack_task(task))

    def is_death(self, error: BaseException) -> bool:
        """Whether an exception says that a worker died, and not that a call failed."""
        return isinstance(error, BrokenExecutor)


class PlainExecutor(StageExecutor):
    """Any other executor: it has a queue of its own, and breaks as a whole when a worker dies.

    Args:
        executor: The executor.
    """

    outlives_deaths = False

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def can_take(self, needs: Resources) -> bool:  # noqa: ARG002 - it knows of no needs
        """See `StageExecutor`."""
        return True

    def submit_with(
        self, needs: Resources, function: Callable[..., Any], /, *args: Any
    ) -> "Future[Any]":
        """See `StageExecutor`."""
        del needs
        return self._executor.submit(function, *args)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """See `concurrent.futures.Executor`."""
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`."""
        del cancel_futures  # which not all executors know
        self._executor.shutdown(wait=wait)
