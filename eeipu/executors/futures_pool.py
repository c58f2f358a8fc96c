"""A pool of workers on any `concurrent.futures.Executor`: threads, processes, loky, Dask, Ray."""

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from functools import partial
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError, EeipuError
from eeipu.executors.pool import Ended, Thought
from eeipu.serialization import transport
from eeipu.stage_tree.scheduler import Resources
from eeipu.stages.calls import Clock
from eeipu.stages.declaration import Stage
from eeipu.stages.tasks import StageTask, TaskResult, packed_job, packed_task, run_packed, run_task

__all__ = ["FuturesPool", "StageExecutor", "task_needs"]

# Seconds between looks whether the user has pressed Ctrl-C: a wait without end hears no signals
# on some systems.
POLL_S = 1.0


class StageExecutor(Executor):
    """An executor that knows what a call needs, so that each worker gets what fits it."""

    @abstractmethod
    def can_take(self, needs: Resources) -> bool:
        """Whether a worker with so much is free."""

    @abstractmethod
    def submit_with(
        self, needs: Resources, function: Callable[..., Any], /, *args: Any
    ) -> "Future[Any]":
        """Call a function on a worker that has what it needs."""

    def submit_task(self, job: bytes, task: StageTask) -> "Future[Any]":
        """Run a task; what comes is a `TaskResult`, or its bytes.

        An engine that keeps values may give a handle in place of the output, and gets it back as
        the next task's argument.

        Args:
            job: See `packed_job`.
            task: The task.
        """
        call = partial(run_packed, job, packed_task(task))
        return self.submit_with(task_needs(task), call)

    def is_death(self, error: BaseException) -> bool:
        """Whether an exception says that a worker died, and not that a call failed."""
        return isinstance(error, BrokenExecutor)


def task_needs(task: StageTask) -> Resources:
    """What a task's stage declares."""
    return Resources(task.call.stage.num_cpus, task.call.stage.num_gpus)


@dataclass(eq=False)
class _Running:
    task: StageTask
    executor: Executor
    began: float
    is_suspect: bool = False  # its executor broke, under this task or another


class FuturesPool:
    """Stage calls as calls of an executor.

    Where a worker's death breaks an executor under several calls, nobody knows whose it was: none
    counts as having killed its worker, and until they are done calls run one at a time.

    Args:
        executor: The executor; or a function that makes one, called again when it breaks, whose
            executor is shut down in the end.
        size: How many calls run at once.
        stages: The pipeline's stages.
        cache: Where outputs are.
        clock: Seconds that only grow.

    Raises:
        ConfigurationError: The cache is in memory, and workers are other processes.
    """

    def __init__(
        self,
        executor: Executor | Callable[[], Executor],
        size: int,
        stages: Sequence[Stage],
        cache: StageCache | None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.size = size
        self._renew = None if isinstance(executor, Executor) else executor
        self._executor = executor if isinstance(executor, Executor) else executor()
        self.shares_memory = isinstance(self._executor, ThreadPoolExecutor)
        self._cache = cache
        try:
            self._job = b"" if self.shares_memory else _job(stages, cache)
        except BaseException:
            self._shut_down(wait=False)
            raise
        self._clock = clock
        self._thinker = ThreadPoolExecutor(1, thread_name_prefix="eeipu-search")
        self._thought: Future[Any] | None = None
        self._running: dict[Future[Any], _Running] = {}
        self._suspects: set[str] = set()  # keys of calls under which a shared executor broke

    def now(self) -> float:
        """See `Pool`."""
        return self._clock()

    def can_take(self, needs: Resources) -> bool:
        """See `Pool`."""
        if self._suspects:
            return not self._running
        if len(self._running) >= self.size:
            return False
        return not isinstance(self._executor, StageExecutor) or self._executor.can_take(needs)

    def submit(self, task: StageTask) -> None:
        """See `Pool`."""
        executor = self._executor
        try:
            future = self._send(executor, task)
        except Exception as error:  # broken since its last call ended, or the task does not travel
            future = Future()
            future.set_exception(error)
        self._running[future] = _Running(task, executor, self.now())

    def _send(self, executor: Executor, task: StageTask) -> "Future[Any]":
        if self.shares_memory:
            return executor.submit(run_task, task, self._cache, self._clock)
        if isinstance(executor, StageExecutor):
            return executor.submit_task(self._job, task)
        return executor.submit(run_packed, self._job, packed_task(task))

    def think(self, thought: Callable[[], Any]) -> None:
        """See `Pool`."""
        assert self._thought is None
        self._thought = self._thinker.submit(thought)

    def wait(self) -> list[Ended | Thought]:
        """See `Pool`."""
        while True:
            futures = [*self._running, *([self._thought] if self._thought else [])]
            if not futures:
                return []
            done, _ = wait(futures, timeout=POLL_S, return_when=FIRST_COMPLETED)
            if done:
                # In the order of their submission, so that a run can be told again.
                return [self._event(future) for future in futures if future in done]

    def _event(self, future: "Future[Any]") -> Ended | Thought:
        if future is self._thought:
            self._thought = None
            error = future.exception()
            return Thought(error=error) if error is not None else Thought(future.result())
        running = self._running.pop(future)
        elapsed_s = self.now() - running.began
        error = _error_of(future)
        if error is None:
            try:
                returned = future.result()
                is_packed = isinstance(returned, bytes)
                result: TaskResult = transport.loads(returned) if is_packed else returned
            except Exception as raised:  # what came cannot be made a value here
                error = raised
        if error is None:
            ended = Ended(running.task, result, elapsed_s=elapsed_s)
        elif _is_death(running.executor, error):
            return self._died(running, error, elapsed_s)
        else:
            ended = Ended(running.task, error=error, elapsed_s=elapsed_s)
        self._suspects.discard(running.task.call.key)
        return ended

    def _died(self, running: _Running, error: BaseException, elapsed_s: float) -> Ended:
        others = [each for each in self._running.values() if each.executor is running.executor]
        if isinstance(running.executor, StageExecutor):  # it knows whose worker died, and goes on
            others = []
        elif self._renew is None:
            raise EeipuError(
                f"the executor broke under stage {running.task.call.stage.name!r}, and cannot be "
                f"used any more: {error}. Give executor='processes', or a function that makes "
                f"one, such as executor=lambda: get_reusable_executor(4) with loky's."
            ) from error
        elif running.executor is self._executor:
            self._executor.shutdown(wait=False)
            self._executor = self._renew()
        for each in (running, *others) if others else ():
            each.is_suspect = True
        key = running.task.call.key
        if running.is_suspect:
            self._suspects.add(key)
            return Ended(running.task, elapsed_s=elapsed_s)
        self._suspects.discard(key)
        return Ended(running.task, error=error, is_death=True, elapsed_s=elapsed_s)

    def close(self, *, at_once: bool) -> None:
        """See `Pool`."""
        self._thinker.shutdown(wait=not at_once, cancel_futures=True)
        if at_once:  # also on an executor that goes on: nobody wants the results any more
            for future in list(self._running):
                future.cancel()
        self._shut_down(wait=not at_once)

    def _shut_down(self, *, wait: bool) -> None:
        if self._renew is not None:
            self._executor.shutdown(wait=wait)


def _job(stages: Sequence[Stage], cache: StageCache | None) -> bytes:
    if cache is not None and cache.location is None:
        raise ConfigurationError(
            "workers in other processes cannot reach a cache in memory; give the tuner a "
            "StageCache(directory), or leave cache= out."
        )
    return packed_job(stages, cache)


def _error_of(future: "Future[Any]") -> BaseException | None:
    """What a call has raised, whatever it is: a stage may raise `KeyboardInterrupt` too."""
    try:
        return future.exception()
    except CancelledError as error:
        return error


def _is_death(executor: Executor, error: BaseException) -> bool:
    if isinstance(executor, StageExecutor):
        return executor.is_death(error)
    return isinstance(error, BrokenExecutor)
