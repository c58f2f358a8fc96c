"""A pool of workers in virtual time: a thousand of them in minutes of a laptop's.

Stage calls take the seconds that are foreseen for them, whether they are really made, for what they
return, or only pretended. Suggestions are really made, and arrive when the virtual time has passed
that they took; the driver's own seconds pass too, in which it hears of nothing.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError
from eeipu.executors.pool import Ended, Joined, Thought
from eeipu.stages.calls import Clock
from eeipu.stages.resources import Resources
from eeipu.stages.runs import StageRun
from eeipu.stages.worker import Job, StageTask, TaskResult, run_task

__all__ = ["SimulatedPool", "WorkerDied", "declared_seconds"]


class WorkerDied(Exception):  # noqa: N818 - an event of the simulation
    """A simulated worker has died under its task."""


def declared_seconds(task: StageTask) -> float:
    """The declared cost of a task's stage, taken for seconds.

    Raises:
        ConfigurationError: The stage declares none.
    """
    call = task.call
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


@dataclass(eq=False)
class _Worker:
    """A worker.

    Attributes:
        free: The resources that it has free; `None` where it takes one call of any size.
        is_up: Whether it is there.
        state: The key of the last output that it made, which it has in memory.
        running: The runs on it.
    """

    free: Resources | None
    is_up: bool = True
    state: str = ""
    running: list["_Run"] = field(default_factory=list)

    def can_take(self, needs: Resources) -> bool:
        """Whether it could begin a call with these needs now."""
        if not self.is_up:
            return False
        return not self.running if self.free is None else needs.fit(self.free)

    def add(self, run: "_Run") -> None:
        """Begin a run."""
        self.running.append(run)
        self.free = None if self.free is None else self.free - run.needs

    def remove(self, run: "_Run") -> None:
        """Let go of a run."""
        self.running.remove(run)
        self.free = None if self.free is None else self.free + run.needs


@dataclass(eq=False)
class _Run:
    """A task on its way; where it was split, its parts, one after another.

    Attributes:
        worker: Who runs it.
        needs: What it takes.
        parts: Each part as a task, and when that ends.
        began: When the first of them began.
    """

    worker: _Worker
    needs: Resources
    parts: list[tuple[StageTask, float]]
    began: float


class SimulatedPool:
    """Workers that run stage calls as if it took the time that is foreseen.

    Give it to the tuner as its `executor`, with the same cache, or to a plan
    (`eeipu.algorithms.simulation`). It serves one run at a time, and its clock goes on from run to
    run.

    Args:
        workers: The number of workers, each of which takes one call at a time, whatever that needs;
            or the resources of each, which then may run several calls.
        cache: Where outputs are.
        seconds: Task -> seconds that it takes; by default its declared cost.
        value: Task -> its value, where calls are only pretended; by default they are really made.
        load_s: Seconds to fetch the state that a training goes on from, where the worker does not
            have it.
        thinking_s: From the seconds that a suggestion took to those that it takes here, beside the
            workers. A constant makes runs repeatable.
        driving_s: Likewise for the driver's own work between two events.
        time_between_failures_s: Mean of a worker's exponentially distributed times to failure.
        repair_s: Seconds until a worker that failed is there again.
        straggling: The share of calls that take longer, in [0, 1].
        slowdown: How many times longer these take, at least 1.
        seed: Makes failures and stragglers repeatable.
        clock: Real seconds that never decrease, to measure thinking and driving with.

    Raises:
        ConfigurationError: There are no workers, or a share or time is out of range.

    Attributes:
        busy_s: Virtual seconds that all workers together have worked.
        deaths: The number of workers that have failed.
        thought_s: Virtual seconds that suggestions have taken.
        thoughts: The number of suggestions.
        driven_s: Virtual seconds that the driver itself has taken.
    """

    shares_memory = True

    def __init__(
        self,
        workers: int | Sequence[Resources],
        cache: StageCache | None = None,
        seconds: Callable[[StageTask], float] = declared_seconds,
        value: Callable[[StageTask], Any] | None = None,
        *,
        load_s: float = 0.0,
        thinking_s: Callable[[float], float] = float,
        driving_s: Callable[[float], float] = float,
        time_between_failures_s: float | None = None,
        repair_s: float = 0.0,
        straggling: float = 0.0,
        slowdown: float = 3.0,
        seed: int = 0,
        clock: Clock = time.perf_counter,
    ) -> None:
        frees = [None] * workers if isinstance(workers, int) else list(workers)
        _check(len(frees), time_between_failures_s, straggling, slowdown)
        self.size = len(frees)
        self.job = Job((), (), cache)
        self.busy_s = self.thought_s = self.driven_s = 0.0
        self.deaths = self.thoughts = 0
        self._seconds, self._value, self._load_s = seconds, value, load_s
        self._thinking_s, self._driving_s = thinking_s, driving_s
        self._mean_life_s, self._repair_s = time_between_failures_s, repair_s
        self._straggling, self._slowdown = straggling, slowdown
        self._rng = np.random.default_rng(seed)
        self._clock = clock
        self._heard: float | None = None  # when the driver was last told something
        self._now = 0.0
        self._thoughts = 0  # on their way
        self._down = 0  # workers that are away
        self._runs: dict[StageTask, _Run] = {}
        self._events: list[tuple[float, int, _Run | _Worker | Thought, object]] = []
        self._ties = count()
        self._workers = [_Worker(free) for free in frees]
        self._who_has: dict[str, _Worker] = {}
        for worker in self._workers:
            self._await_failure(worker)

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    def renew(self) -> None:
        """There is no other process that could have other code; see `Pool`."""

    # --- what the driver asks for -------------------------------------------------------------

    def can_take(self, needs: Resources) -> bool:
        """See `Pool`."""
        return any(worker.can_take(needs) for worker in self._workers)

    def submit(self, task: StageTask) -> None:
        """See `Pool`."""
        self._drive()
        needs = task.call.resources
        worker = self._worker_for(task, needs)
        seconds = self._seconds(task)
        if self._straggling and self._rng.random() < self._straggling:
            seconds *= self._slowdown
        if task.call.resumes and worker.state != task.upstream:
            seconds += self._load_s
        run = _Run(worker, needs, [(task, self._now + seconds)], self._now)
        worker.add(run)
        self._runs[task] = run
        self._push(self._now + seconds, run, task)
        self._hear()

    def _worker_for(self, task: StageTask, needs: Resources) -> _Worker:
        """One that has the state to go on from, or else the smallest that has room."""
        holder = self._who_has.get(task.upstream)
        if holder is not None and holder.can_take(needs):
            return holder
        able = (worker for worker in self._workers if worker.can_take(needs))
        return min(able, key=lambda worker: worker.free or Resources())

    def split(self, task: StageTask, upper: StageTask, share: float) -> bool:
        """See `Pool`; unless the worker is past the end of that part."""
        run = self._runs[task]
        place = [part for part, _ in run.parts].index(task)
        began = run.began if place == 0 else run.parts[place - 1][1]
        at = began + share * (run.parts[place][1] - began)
        if at <= self._now:
            return False
        run.parts.insert(place, (upper, at))
        self._runs[upper] = run
        self._push(at, run, upper)
        return True

    def think(self, thought: Callable[[], Any]) -> None:
        """Call the function now, and tell of it later; see `Pool`."""
        self._drive()
        start = self._clock()
        try:
            result = Thought(thought())
        except Exception as error:
            result = Thought(error=error)
        seconds = self._thinking_s(self._clock() - start)
        self.thought_s += seconds
        self.thoughts += 1
        self._thoughts += 1
        self._push(self._now + seconds, result)
        self._hear()

    def close(self, *, at_once: bool) -> None:  # noqa: ARG002 - nothing is left to wait for
        """Forget what has not ended, and the time since; see `Pool`."""
        for run in {id(run): run for run in self._runs.values()}.values():
            self._forget(run)
        self._events = [event for event in self._events if isinstance(event[2], _Worker)]
        heapq.heapify(self._events)
        self._thoughts = 0
        self._heard = None

    # --- virtual time -------------------------------------------------------------------------

    def wait(self) -> list[Ended | Thought | Joined]:
        """Go on to the next event; see `Pool`."""
        self._drive()
        told: list[Ended | Thought | Joined] = []
        while not told and (self._runs or self._thoughts or self._down):
            at, _, what, part = heapq.heappop(self._events)
            if isinstance(what, _Run) and not (what.parts and what.parts[0][0] is part):
                continue  # its worker has died
            self._now = max(self._now, at)
            told = self._happened(what)
            self._hear()
        return told

    def _happened(self, what: "_Run | _Worker | Thought") -> list[Ended | Thought | Joined]:
        if isinstance(what, _Run):
            return [self._end_part(what)]
        if isinstance(what, _Worker):
            return self._fail(what) if what.is_up else self._repair(what)
        self._thoughts -= 1
        return [what]

    def _end_part(self, run: _Run) -> Ended:
        task, at = run.parts.pop(0)
        del self._runs[task]
        elapsed_s, run.began = at - run.began, at
        self.busy_s += elapsed_s
        self._keep_state(run.worker, task.call.key)
        if not run.parts:
            run.worker.remove(run)
        return Ended(task, self._result(task, elapsed_s), elapsed_s=elapsed_s)

    def _result(self, task: StageTask, elapsed_s: float) -> TaskResult:
        if self._value is not None:
            run = StageRun(task.call.name, task.call.key, cost=elapsed_s, charged=elapsed_s)
            return TaskResult(run, is_kept=True, value=self._value(task))
        result = run_task(task, self.job, self.now)
        run_or_none = result.run
        if run_or_none is None or run_or_none.memoized or task.call.stage.cost is not None:
            return result
        return replace(result, run=replace(run_or_none, cost=elapsed_s, charged=elapsed_s))

    def _keep_state(self, worker: _Worker, key: str) -> None:
        if self._who_has.get(worker.state) is worker:
            del self._who_has[worker.state]
        worker.state = key
        if key:
            self._who_has[key] = worker

    def _await_failure(self, worker: _Worker) -> None:
        if self._mean_life_s is not None:
            self._push(self._now + float(self._rng.exponential(self._mean_life_s)), worker)

    def _fail(self, worker: _Worker) -> list[Ended | Thought | Joined]:
        """A worker dies with all that it has in memory, and comes back empty."""
        self.deaths += 1
        self._keep_state(worker, "")
        if self._repair_s > 0:
            worker.is_up = False
            self._down += 1
            self._push(self._now + self._repair_s, worker)
        else:
            self._await_failure(worker)
        told: list[Ended | Thought | Joined] = []
        for run in list(worker.running):
            elapsed_s = max(0.0, self._now - run.began)
            self.busy_s += elapsed_s
            (first, _), *others = run.parts
            died = WorkerDied("its simulated worker died")
            told.append(Ended(first, error=died, is_death=True, elapsed_s=elapsed_s))
            told += [Ended(part) for part, _ in others]
            self._forget(run)
        return told

    def _repair(self, worker: _Worker) -> list[Ended | Thought | Joined]:
        worker.is_up = True
        self._down -= 1
        self._await_failure(worker)
        return [Joined()]

    def _forget(self, run: _Run) -> None:
        for part, _ in run.parts:
            del self._runs[part]
        run.parts.clear()
        run.worker.remove(run)

    def _push(self, at: float, what: "_Run | _Worker | Thought", which: object = None) -> None:
        heapq.heappush(self._events, (at, next(self._ties), what, which))

    def _hear(self) -> None:
        self._heard = self._clock()

    def _drive(self) -> None:
        """Let the time pass that the driver has taken since it was last told something."""
        if self._heard is not None:
            seconds = self._driving_s(self._clock() - self._heard)
            self.driven_s += seconds
            self._now += seconds


def _check(workers: int, mean_life_s: float | None, straggling: float, slowdown: float) -> None:
    has_life = mean_life_s is None or mean_life_s > 0
    if workers < 1 or not has_life or not 0.0 <= straggling <= 1.0 or slowdown < 1.0:
        raise ConfigurationError(
            f"a pool needs workers, a time between failures above 0, straggling in [0, 1] and "
            f"slowdown >= 1, but got {workers!r}, {mean_life_s!r}, {straggling!r} and {slowdown!r}."
        )
