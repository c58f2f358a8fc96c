"""Executors that know what a stage call needs, and whose worker died."""

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from eeipu.executors.jobs import PackedJob, pack_task, run_packed
from eeipu.stages.resources import Resources
from eeipu.stages.worker import StageTask

__all__ = ["StageExecutor"]


class StageExecutor(Executor):
    """An executor that knows what a call needs, so that each worker gets what fits it."""

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
