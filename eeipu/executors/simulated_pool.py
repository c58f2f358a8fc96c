"""A pool of workers in virtual time: a search on a thousand of them in minutes of a laptop's.

Stages are really called, for what they return, and take the seconds that are foreseen for them.
Suggestions are really made, and arrive when so many seconds of virtual time have passed as they
took; the driver's own seconds pass too, in which it hears of nothing.
"""

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError
from eeipu.executors.pool import Ended, Thought
from eeipu.stage_tree.scheduler import Resources
from eeipu.stages.calls import Clock, StageCall
from eeipu.stages.tasks import StageTask, TaskResult, run_task

__all__ = ["SimulatedPool", "WorkerDied", "declared_seconds"]


class WorkerDied(Exception):  # noqa: N818 - an event of the simulation
    """A simulated worker has died under its task."""


def declared_seconds(call: StageCall) -> float:
    """The cost that a call's stage declares, taken for seconds.

    Raises:
        ConfigurationError: It declares none.
    """
    try:
        cost = call.stage.declared_cost(call.params)
    except Exception:
        return 0.0  # the call fails before it begins, and says why
    if cost is None:
        raise ConfigurationError(
            f"nothing says how long stage {call.stage.name!r} takes: declare its cost with "
            f"stage(cost=...), or give SimulatedPool(seconds=...)."
        )
    return cost


@dataclass(frozen=True)
class _Task:
    """A task on its way, from `began` to its end or its worker's."""

    task: StageTask
    began: float
    dies: bool


class SimulatedPool:
    """Workers that call stages as if it took the time that is foreseen.

    Give the tuner one as its `executor`, and the same cache: each serves one run at a time, and
    its clock goes on from run to run.

    Args:
        size: How many workers, each with whatever a call needs.
        cache: Where outputs are.
        seconds: What a stage call takes; by default its declared cost.
        thinking_s: From the seconds that a suggestion took to those that it takes here, beside the
            workers. A constant makes runs repeatable.
        driving_s: Likewise for the driver's own work between two events.
        time_between_failures_s: Mean of the exponentially distributed seconds of work after which
            a worker dies under its task; another takes its place at once.
        straggling: Which share of calls takes longer; `slowdown`: how many times.
        seed: Makes failures and stragglers repeatable.
        clock: Real seconds that only grow, to measure thinking and driving with.

    Raises:
        ConfigurationError: There are no workers, or a share or time is out of range.

    Attributes:
        busy_s: Virtual seconds that all workers together have worked.
        deaths: How many workers have died so far.
        thought_s: Virtual seconds that suggestions have taken; `thoughts`: how many there were.
        driven_s: Virtual seconds that the driver itself has taken.
    """

    shares_memory = True

    def __init__(
        self,
        size: int,
        cache: StageCache | None = None,
        seconds: Callable[[StageCall], float] = declared_seconds,
        *,
        thinking_s: Callable[[float], float] = float,
        driving_s: Callable[[float], float] = float,
        time_between_failures_s: float | None = None,
        straggling: float = 0.0,
        slowdown: float = 3.0,
        seed: int = 0,
        clock: Clock = time.perf_counter,
    ) -> None:
        _check(size, time_between_failures_s, straggling, slowdown)
        self.size = size
        self.busy_s = self.thought_s = self.driven_s = 0.0
        self.deaths = self.thoughts = 0
        self._cache, self._seconds = cache, seconds
        self._thinking_s, self._driving_s = thinking_s, driving_s
        self._mean_life_s = time_between_failures_s
        self._straggling, self._slowdown = straggling, slowdown
        self._rng = np.random.default_rng(seed)
        self._clock = clock
        self._heard: float | None = None  # when the driver was last told something
        self._now = 0.0
        self._running = 0
        self._events: list[tuple[float, int, _Task | Thought]] = []
        self._ties = count()

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    def can_take(self, needs: Resources) -> bool:  # noqa: ARG002 - a worker has all that is needed
        """See `Pool`."""
        return self._running < self.size

    def submit(self, task: StageTask) -> None:
        """See `Pool`."""
        self._drive()
        seconds = self._seconds(task.call)
        if self._straggling and self._rng.random() < self._straggling:
            seconds *= self._slowdown
        life = np.inf if self._mean_life_s is None else self._rng.exponential(self._mean_life_s)
        self._running += 1
        self._push(float(min(seconds, life)), _Task(task, self._now, dies=life < seconds))
        self._hear()

    def think(self, thought: Callable[[], Any]) -> None:
        """See `Pool`."""
        self._drive()
        start = self._clock()
        try:
            result = Thought(thought())
        except Exception as error:
            result = Thought(error=error)
        seconds = self._thinking_s(self._clock() - start)
        self.thought_s += seconds
        self.thoughts += 1
        self._push(seconds, result)
        self._hear()

    def wait(self) -> list[Ended | Thought]:
        """Go on to the next thing that happens; see `Pool`."""
        self._drive()
        if not self._events:
            return []
        at, _, event = heapq.heappop(self._events)
        self._now = max(self._now, at)
        told = event if isinstance(event, Thought) else self._end(event, at)
        self._hear()
        return [told]

    def close(self, *, at_once: bool) -> None:  # noqa: ARG002 - nothing is left to wait for
        """Forget what has not ended, and what has passed since; see `Pool`."""
        self._events.clear()
        self._running = 0
        self._heard = None

    def _hear(self) -> None:
        self._heard = self._clock()

    def _drive(self) -> None:
        """Let the time pass that the driver has taken since it was last told something."""
        if self._heard is not None:
            seconds = self._driving_s(self._clock() - self._heard)
            self.driven_s += seconds
            self._now += seconds

    def _push(self, seconds: float, event: _Task | Thought) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._ties), event))

    def _end(self, running: _Task, at: float) -> Ended:
        elapsed_s = at - running.began
        self._running -= 1
        self.busy_s += elapsed_s
        if running.dies:
            self.deaths += 1
            died = WorkerDied("its simulated worker died")
            return Ended(running.task, error=died, is_death=True, elapsed_s=elapsed_s)
        result = run_task(running.task, self._cache, self.now)
        return Ended(running.task, _timed(result, running.task, elapsed_s), elapsed_s=elapsed_s)


def _timed(result: TaskResult, task: StageTask, elapsed_s: float) -> TaskResult:
    """A result that has taken so long, where the stage's cost is measured."""
    run = result.run
    if run is None or run.memoized or task.call.stage.cost is not None:
        return result
    return replace(result, run=replace(run, cost=elapsed_s, charged=elapsed_s))


def _check(size: int, mean_life_s: float | None, straggling: float, slowdown: float) -> None:
    has_life = mean_life_s is None or mean_life_s > 0
    if size < 1 or not has_life or not 0.0 <= straggling <= 1.0 or slowdown < 1.0:
        raise ConfigurationError(
            f"a pool needs workers, a time between failures above 0, straggling in [0, 1] and "
            f"slowdown >= 1, but got {size!r}, {mean_life_s!r}, {straggling!r} and {slowdown!r}."
        )
