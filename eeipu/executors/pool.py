"""The protocol of a pool of workers: it runs stage calls, and the search beside them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from eeipu.executors.local_resources import room_of_this_process
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.resources import Resources
from eeipu.stages.running.calls import Clock
from eeipu.stages.running.tasks import StageTask, TaskResult
from eeipu.stages.running.worker import Job, run_task

__all__ = ["Ended", "InlinePool", "Joined", "Pool", "SplittingPool", "Thought", "death_of"]


@dataclass(frozen=True)
class Ended:
    """A task has ended.

    Attributes:
        task: The task, as it was submitted.
        result: Its result; `None` where there is none, and the task can be submitted again.
        error: The exception in place of a result.
        is_death: Whether the worker died under the task.
        elapsed_s: Seconds since it was submitted.
    """

    task: StageTask
    result: TaskResult | None = None
    error: BaseException | None = None
    is_death: bool = False
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Thought:
    """The function that `Pool.think` was given has returned a value or raised an exception."""

    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Joined:
    """A worker has joined the pool, or come back to it: more may be submitted."""


def death_of(event: Ended) -> str:
    """How a task has ended its worker, in words."""
    stage = event.task.call.stage
    hung = stage.timeout is not None and event.elapsed_s >= stage.timeout
    if hung:
        return f"the stage {stage.name!r} took longer than its timeout of {stage.timeout:g} s"
    return f"the stage {stage.name!r} ended its worker"


@runtime_checkable
class Pool(Protocol):
    """Workers, a background thread for the search, and a clock that may be simulated.

    Attributes:
        size: How many tasks can run at once.
        shares_memory: Whether tasks run in this process, where values are handed on as they are.
        job: The stages, inputs and cache that the workers have.
    """

    size: int
    shares_memory: bool
    job: Job

    def now(self) -> float:
        """Seconds that never decrease."""
        ...

    def renew(self) -> None:
        """Read the stages' code again. Calls that were submitted before keep their code."""
        ...

    def can_take(self, needs: Resources) -> bool:
        """Whether a task with these needs could be submitted now."""
        ...

    def submit(self, task: StageTask) -> None:
        """Run a task that can be taken, if possible where the state that it begins with is."""
        ...

    def think(self, thought: Callable[[], Any]) -> None:
        """Call a function beside the workers; one at a time."""
        ...

    def wait(self) -> Sequence[Ended | Thought | Joined]:
        """The next events, as soon as there are any; empty if there is nothing to wait for."""
        ...

    def close(self, *, at_once: bool) -> None:
        """Let go of the workers, without waiting for running tasks if it is to be at once.

        What the search thinks is waited for: it may be beginning a trial.
        """
        ...


@runtime_checkable
class SplittingPool(Pool, Protocol):
    """A pool of simulated workers: a real task is the user's own code from beginning to end."""

    def split(self, task: StageTask, upper: StageTask, share: float) -> bool:
        """Report the first part of a running task when it is done, as the end of another task.

        Args:
            task: The running task.
            upper: The task that its first part is.
            share: The share of the running task that the first part is, in (0, 1).

        Returns:
            Whether the pool will report it.
        """
        ...


class InlinePool:
    """One worker: the thread that waits.

    Args:
        job: The stages, inputs and cache.
        clock: Measures seconds.

    Raises:
        ConfigurationError: A stage needs what this process does not have (`local_resources`).
    """

    size = 1
    shares_memory = True

    def __init__(self, job: Job, clock: Clock = time.perf_counter) -> None:
        room_of_this_process(job.stages.values())
        self.job = job
        self._clock = clock
        self._task: StageTask | None = None
        self._thought: Callable[[], Any] | None = None

    def now(self) -> float:
        """See `Pool`."""
        return self._clock()

    def renew(self) -> None:
        """See `Pool`."""
        refresh_code(self.job.stages.values())

    def can_take(self, needs: Resources) -> bool:  # noqa: ARG002 - a call is alone here
        """See `Pool`."""
        return self._task is None

    def submit(self, task: StageTask) -> None:
        """See `Pool`."""
        self._task = task

    def think(self, thought: Callable[[], Any]) -> None:
        """See `Pool`."""
        self._thought = thought

    def wait(self) -> list[Ended | Thought]:
        """Run the task, or else have the thought; see `Pool`."""
        if self._task is not None:
            task, self._task = self._task, None
            began = self._clock()
            result = run_task(task, self.job, self._clock)
            return [Ended(task, result, elapsed_s=self._clock() - began)]
        if self._thought is not None:
            thought, self._thought = self._thought, None
            try:
                return [Thought(thought())]
            except Exception as error:
                return [Thought(error=error)]
        return []

    def close(self, *, at_once: bool) -> None:  # noqa: ARG002 - nothing runs
        """See `Pool`."""
        self.job.states.clear()
