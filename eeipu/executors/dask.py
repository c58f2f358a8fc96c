"""Stages as calls of a Dask cluster, through the executor that a Dask client makes."""

import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Any
from uuid import uuid4

from eeipu.executors.jobs import PackedJob, pack_task, run_packed
from eeipu.executors.stage_executor import StageExecutor
from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask

__all__ = ["DaskExecutor", "for_stages"]


class DaskExecutor(StageExecutor):
    """What `Client.get_executor()` returns, with what it needs to run stages.

    Calls have the names of their stages on Dask's dashboard. Where workers declare a resource
    `GPU`, stages take what they need of it; where none does, any worker takes any stage.

    Note:
        Dask runs the call of a worker that died again by itself, as often as its setting
        `distributed.scheduler.allowed-failures` says, before it tells anybody.

    Args:
        executor: The executor.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._killed = sys.modules["distributed"].KilledWorker

    def can_take(self, needs: Resources) -> bool:  # noqa: ARG002 - Dask has a queue
        """Always: what has no room yet waits in Dask's queue."""
        return True

    def submit_with(
        self, needs: Resources, function: Callable[..., Any], /, *args: Any
    ) -> "Future[Any]":
        """See `StageExecutor`."""
        return self._submit("call", needs, function, *args)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """See `concurrent.futures.Executor`."""
        return self.submit_with(Resources(), partial(fn, **kwargs), *args)

    def submit_task(
        self, job: PackedJob, task: StageTask, *, with_job: bool = False
    ) -> "Future[Any]":
        """See `StageExecutor`."""
        data, needs = job.data if with_job else None, task.call.resources
        return self._submit(task.call.name, needs, run_packed, job.name, data, pack_task(task))

    def _submit(
        self, name: str, needs: Resources, function: Callable[..., Any], *args: Any
    ) -> "Future[Any]":
        # A name of its own for each try: Dask takes what has the same name for the same.
        options: dict[str, Any] = {"key": f"{name}-{uuid4().hex}"}
        if needs.num_gpus > 0 and self._has_gpus():
            options["resources"] = {"GPU": needs.num_gpus}
        future: Future[Any] = self._executor.submit(function, *args, **options)
        return future

    def _has_gpus(self) -> bool:
        workers = self._executor._client.scheduler_info(n_workers=-1)["workers"].values()
        return any("GPU" in worker["resources"] for worker in workers)

    def is_death(self, error: BaseException) -> bool:
        """See `StageExecutor`; Dask cancels what it has lost."""
        return isinstance(error, (self._killed, CancelledError))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`; the cluster goes on."""
        self._executor.shutdown(wait=wait and not cancel_futures)


def for_stages(executor: Executor | Callable[[], Executor]) -> Executor | Callable[[], Executor]:
    """Wrap an executor of Dask's in a `DaskExecutor`, and return any other executor as it is.

    For a function that makes an executor, return a function that does the same with its result.
    """
    if not isinstance(executor, Executor):
        return lambda: _adapted(executor())
    return _adapted(executor)


def _adapted(executor: Executor) -> Executor:
    # Whoever has an executor of Dask's has imported it.
    cfexecutor = sys.modules.get("distributed.cfexecutor")
    is_dasks = cfexecutor is not None and isinstance(executor, cfexecutor.ClientExecutor)
    return DaskExecutor(executor) if is_dasks else executor
