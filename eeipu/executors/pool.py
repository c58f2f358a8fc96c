"""What a pool of workers is to the driver: it runs stage calls, and the search beside them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from eeipu.cache import StageCache
from eeipu.stage_tree.scheduler import Resources
from eeipu.stages.calls import Clock
from eeipu.stages.tasks import StageTask, TaskResult, run_task

__all__ = ["Ended", "InlinePool", "Pool", "Thought"]


@dataclass(frozen=True)
class Ended:
    """A task has ended, one way or another.

    Attributes:
        task: The task, as it was submitted.
        result: What became of it; `None` where that is not known.
        error: The exception in place of a result.
        is_death: Whether the worker died under it.
        elapsed_s: Seconds since it was submitted.
    """

    task: StageTask
    result: TaskResult | None = None
    error: BaseException | None = None
    is_death: bool = False
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class Thought:
    """What a thought has come to: a value or an exception."""

    value: Any = None
    error: BaseException | None = None


@runtime_checkable
class Pool(Protocol):
    """Workers, one that thinks beside them, and a clock that may be virtual.

    Attributes:
        size: How many tasks can run at once.
        shares_memory: Whether tasks run in this process, where values can be handed on as they are.
    """

    size: int
    shares_memory: bool

    def now(self) -> float:
        """Seconds that only grow."""
        ...

    def can_take(self, needs: Resources) -> bool:
        """Whether a task of these needs could be submitted now."""
        ...

    def submit(self, task: StageTask) -> None:
        """Run a task, for which there is room."""
        ...

    def think(self, thought: Callable[[], Any]) -> None:
        """Call a function beside the workers; one at a time."""
        ...

    def wait(self) -> Sequence[Ended | Thought]:
        """What has happened, as soon as anything has; empty if there is nothing to wait for."""
        ...

    def close(self, *, at_once: bool) -> None:
        """Let go of the workers, without waiting for what they do if it is to be at once."""
        ...


class InlinePool:
    """One worker: the thread that waits.

    Args:
        cache: Where outputs are.
        clock: Seconds that only grow.
    """

    size = 1
    shares_memory = True

    def __init__(self, cache: StageCache | None, clock: Clock = time.perf_counter) -> None:
        self._cache = cache
        self._clock = clock
        self._task: StageTask | None = None
        self._thought: Callable[[], Any] | None = None

    def now(self) -> float:
        """See `Pool`."""
        return self._clock()

    def can_take(self, needs: Resources) -> bool:  # noqa: ARG002 - it has what the process has
        """See `Pool`."""
        return self._task is None

    def submit(self, task: StageTask) -> None:
        """See `Pool`."""
        self._task = task

    def think(self, thought: Callable[[], Any]) -> None:
        """See `Pool`."""
        self._thought = thought

    def wait(self) -> list[Ended | Thought]:
        """Do what is to be done; see `Pool`."""
        if self._task is not None:
            task, self._task = self._task, None
            return [Ended(task, run_task(task, self._cache, self._clock))]
        if self._thought is not None:
            thought, self._thought = self._thought, None
            try:
                return [Thought(thought())]
            except Exception as error:
                return [Thought(error=error)]
        return []

    def close(self, *, at_once: bool) -> None:
        """See `Pool`."""
