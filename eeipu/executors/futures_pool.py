"""A pool of workers on any `concurrent.futures.Executor`: threads, processes, loky, Dask, Ray."""

import time
from collections.abc import Callable
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from typing import Any

from eeipu.errors import ConfigurationError, EeipuError
from eeipu.executors.jobs import PackedJob
from eeipu.executors.local_resources import room_of_this_process
from eeipu.executors.pool import Ended, Thought
from eeipu.executors.stage_executor import PlainExecutor, StageExecutor
from eeipu.serialization import transport
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.resources import Resources
from eeipu.stages.running.calls import Clock
from eeipu.stages.running.tasks import StageTask, TaskResult
from eeipu.stages.running.worker import Job, run_task

__all__ = ["FuturesPool"]

# Seconds between looks whether the user has pressed Ctrl-C: a wait without end hears no signals
# on some systems.
POLL_S = 1.0

# Added to the death of a worker as long as no worker has returned anything.
NO_RESULT = (
    " (no worker has returned anything yet; a script that starts workers by spawn or forkserver is "
    "run again by them: start them under `if __name__ == '__main__':`)"
)


class _Workers:
    """An executor, which may be replaced when it breaks, and the job that its workers have.

    Args:
        executor: The executor, or a function that makes one.
        job: The stages, inputs and cache.
        size: How many calls run at once.
        clock: Measures seconds.

    Attributes:
        executor: The executor that calls go to now.
        shares_memory: Whether its workers are threads of this process.
        room: The cores and GPUs that such threads share; `None` for others.
    """

    def __init__(
        self, executor: Executor | Callable[[], Executor], job: Job, size: int, clock: Clock
    ) -> None:
        self._make = None if isinstance(executor, Executor) else executor
        made = executor if isinstance(executor, Executor) else executor()
        self.executor = _for_stages(made)
        self.shares_memory = isinstance(made, ThreadPoolExecutor)
        self._job, self._clock = job, clock
        self._packed: PackedJob | None = None
        self.room: Resources | None = None
        try:
            if isinstance(made, ThreadPoolExecutor):
                count = min(size, made._max_workers)
                _check_threads(count, job)
                self.room = room_of_this_process(job.stages.values(), count)
                job.states.room = size
                if count > 1:
                    job.run_inputs.share()
            else:
                self._packed = PackedJob(job)
        except BaseException:
            self.shut_down(wait=False)
            raise

    def refresh_code(self) -> None:
        """Look at the stages' code again."""
        if self._packed is None:
            refresh_code(self._job.stages.values())
        else:
            self._packed.refresh()

    def send(self, executor: StageExecutor, task: StageTask, *, with_job: bool) -> "Future[Any]":
        """Hand a task to an executor; what goes wrong on the way is the future's exception."""
        try:
            if self._packed is None:
                return executor.submit(run_task, task, self._job, self._clock)
            return executor.submit_task(self._packed, task, with_job=with_job)
        except Exception as error:  # broken since its last call ended, or the task does not travel
            future: Future[Any] = Future()
            future.set_exception(error)
            return future

    def replace(self, broken: StageExecutor) -> bool:
        """Make another executor in the place of a broken one; return whether that can be done."""
        if self._make is None:
            return False
        if broken is self.executor:
            broken.shutdown(wait=False)
            self.executor = _for_stages(self._make())
        return True

    def shut_down(self, *, wait: bool) -> None:
        """Shut down an executor that was made here."""
        if self._make is not None:
            self.executor.shutdown(wait=wait)


@dataclass(eq=False)
class _Running:
    """A task on its way.

    Attributes:
        task: The task.
        executor: Who runs it.
        began: When it was submitted, on the pool's clock.
        is_suspect: Whether its executor broke, under this task or another.
    """

    task: StageTask
    executor: StageExecutor
    began: float
    is_suspect: bool = False


class FuturesPool:
    """Stage calls as calls of an executor.

    Where a worker's death breaks an executor under several calls, nobody knows whose it was: none
    counts as having killed its worker, and until they are done calls run one at a time.

    Args:
        executor: The executor; or a function that makes one, called again when it breaks, whose
            executor is shut down in the end.
        size: How many calls run at once.
        job: The stages, inputs and cache.
        clock: Measures seconds.

    Raises:
        ConfigurationError: The cache is in memory, and workers are other processes; or workers are
            threads, and a stage needs what this process does not have (`local_resources`), or
            trains with torch, whose random generators the threads of a process share.
        PipelineError: A stage or the inputs cannot be sent to another process.
    """

    def __init__(
        self,
        executor: Executor | Callable[[], Executor],
        size: int,
        job: Job,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.size, self.job = size, job
        self._workers = _Workers(executor, job, size, clock)
        self.shares_memory = self._workers.shares_memory
        self._clock = clock
        self._thinker = ThreadPoolExecutor(1, thread_name_prefix="eeipu-search")
        self._thought: Future[Any] | None = None
        self._running: dict[Future[Any], _Running] = {}
        self._suspects: set[str] = set()  # keys of calls under which a shared executor broke
        self._has_results = False

    def __enter__(self) -> "FuturesPool":
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        self.close(at_once=failure is not None)

    def now(self) -> float:
        """See `Pool`."""
        return self._clock()

    def renew(self) -> None:
        """See `Pool`."""
        self._workers.refresh_code()

    def can_take(self, needs: Resources) -> bool:
        """See `Pool`."""
        if self._suspects:
            return not self._running
        if len(self._running) >= self.size:
            return False
        if self._workers.room is not None:
            taken = (each.task.call.resources for each in self._running.values())
            return sum(taken, needs).fit(self._workers.room)
        return self._workers.executor.can_take(needs)

    def submit(self, task: StageTask) -> None:
        """See `Pool`."""
        self._hand_over(_Running(task, self._workers.executor, self.now()))

    def _hand_over(self, running: _Running, *, with_job: bool = False) -> None:
        future = self._workers.send(running.executor, running.task, with_job=with_job)
        self._running[future] = running

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
            # In the order of their submission, so that a run can be repeated.
            events = [self._event(future) for future in futures if future in done]
            told = [event for event in events if event is not None]
            if told:
                return told

    def _event(self, future: "Future[Any]") -> Ended | Thought | None:
        """The event that the end of a future is; `None` where a worker asks for the job."""
        if future is self._thought:
            self._thought = None
            error = future.exception()
            return Thought(error=error) if error is not None else Thought(future.result())
        running = self._running.pop(future)
        error, result = _outcome(future)
        elapsed_s = self.now() - running.began
        if isinstance(error, ConfigurationError):  # about the worker: other calls would meet it too
            raise error
        if error is None and result is None:
            self._hand_over(running, with_job=True)
            return None
        if error is None:
            self._has_results = True
            ended = Ended(running.task, result, elapsed_s=elapsed_s)
        elif running.executor.is_death(error):
            return self._died(running, error, elapsed_s)
        else:
            ended = Ended(running.task, error=error, elapsed_s=elapsed_s)
        self._suspects.discard(running.task.call.key)
        return ended

    def _died(self, running: _Running, error: BaseException, elapsed_s: float) -> Ended:
        goes_on = running.executor.outlives_deaths
        others = [each for each in self._running.values() if each.executor is running.executor]
        if goes_on:
            others = []
        elif not self._workers.replace(running.executor):
            raise EeipuError(
                f"the executor broke under stage {running.task.call.stage.name!r}, and cannot be "
                f"used any more: {error}. Give executor='processes', or a function that makes "
                f"one, such as executor=lambda: get_reusable_executor(4) with loky's."
            ) from error
        for each in (running, *others) if others else ():
            each.is_suspect = True
        key = running.task.call.key
        if running.is_suspect:
            self._suspects.add(key)
            return Ended(running.task, elapsed_s=elapsed_s)
        self._suspects.discard(key)
        if not (self._has_results or goes_on):
            error = EeipuError(f"{error}{NO_RESULT}")
        return Ended(running.task, error=error, is_death=True, elapsed_s=elapsed_s)

    def close(self, *, at_once: bool) -> None:
        """See `Pool`."""
        if at_once:  # also on an executor that goes on: nobody wants the results any more
            for future in list(self._running):
                future.cancel()
        self._workers.shut_down(wait=not at_once)
        self._thinker.shutdown(wait=True, cancel_futures=True)
        self.job.states.clear()


def _for_stages(executor: Executor) -> StageExecutor:
    return executor if isinstance(executor, StageExecutor) else PlainExecutor(executor)


def _check_threads(count: int, job: Job) -> None:
    """Refuse threads that would train with each other's random numbers."""
    for stage in job.stages.values() if count > 1 else ():
        if stage.uses_process_state:
            raise ConfigurationError(
                f"stage {stage.name!r} trains with torch, whose random generators all threads of a "
                f'process share; use executor="processes", or one thread.'
            )


def _outcome(future: "Future[Any]") -> tuple[BaseException | None, TaskResult | None]:
    """The exception of a call or its result; a stage may raise even `KeyboardInterrupt`."""
    try:
        error = future.exception()
    except CancelledError as cancelled:
        error = cancelled
    if error is not None:
        return error, None
    try:
        returned = future.result()
        return None, transport.loads(returned) if isinstance(returned, bytes) else returned
    except Exception as raised:  # what was returned cannot be made a value here
        return raised, None
