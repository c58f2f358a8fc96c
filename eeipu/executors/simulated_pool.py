"""A pool of workers in virtual time. A laptop simulates a thousand workers in minutes.

Each stage call takes the virtual seconds that a function foresees for it. It is really made, or its
value is given by another function. Suggestions are really computed, and arrive after the
virtual time that they took. The driver's own work takes virtual time too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError
from eeipu.executors.pool import Ended, Joined, Thought
from eeipu.executors.virtual_time import VirtualTime
from eeipu.executors.virtual_workers import Chance, VirtualWorker, VirtualWorkers, WorkerRun
from eeipu.stages.resources import Resources
from eeipu.stages.running.calls import Clock
from eeipu.stages.running.tasks import StageTask, TaskResult
from eeipu.stages.running.worker import Job, run_task
from eeipu.stages.runs import StageRun

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


# More than 15 methods, because eight of them are those of the protocols `Pool` and `SplittingPool`.
class SimulatedPool:
    """Workers whose stage calls take the time that is foreseen, in virtual seconds.

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
        slowdown: The factor by which these take longer, at least 1.
        seed: Makes failures and stragglers repeatable.
        clock: Real seconds that never decrease, to measure thinking and driving with.

    Raises:
        ConfigurationError: There are no workers, or a share or time is out of range.

    Attributes:
        busy_s: Virtual seconds that all workers together have worked.
        deaths: The number of workers that have failed.
        thought_s: Virtual seconds that suggestions have taken.
        thoughts: The number of suggestions.
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
        self.busy_s = self.thought_s = 0.0
        self.deaths = self.thoughts = 0
        self._seconds, self._value = seconds, value
        self._load_s, self._repair_s = load_s, repair_s
        self._thinking_s, self._clock = thinking_s, clock
        self._chance = Chance(time_between_failures_s, straggling, slowdown, seed)
        self._time = VirtualTime(driving_s, clock)
        self._thoughts = 0  # on their way
        self._down = 0  # workers that are away
        self._runs: dict[StageTask, WorkerRun] = {}
        self._workers = VirtualWorkers(frees)
        for worker in self._workers.all:
            self._await_failure(worker)

    @property
    def driven_s(self) -> float:
        """Virtual seconds that the driver itself has taken."""
        return self._time.driven_s

    def now(self) -> float:
        """Virtual seconds."""
        return self._time.now

    def renew(self) -> None:
        """There is no other process that could have other code; see `Pool`."""

    def can_take(self, needs: Resources) -> bool:
        """See `Pool`."""
        return self._workers.can_take(needs)

    def submit(self, task: StageTask) -> None:
        """See `Pool`."""
        self._time.drive()
        needs = task.call.resources
        worker = self._workers.best_for(task, needs)
        seconds = self._chance.slowed(self._seconds(task))
        if task.call.resumes and worker.state != task.upstream:
            seconds += self._load_s
        run = WorkerRun(worker, needs, [], self.now())
        worker.add(run)
        self._add_part(run, 0, task, self.now() + seconds)
        self._time.hear()

    def _add_part(self, run: WorkerRun, place: int, task: StageTask, at: float) -> None:
        run.parts.insert(place, (task, at))
        self._runs[task] = run
        self._time.add(at, run, task)

    def split(self, task: StageTask, upper: StageTask, share: float) -> bool:
        """See `SplittingPool`; unless the worker is past the end of that part."""
        run = self._runs[task]
        place = [part for part, _ in run.parts].index(task)
        began = run.began if place == 0 else run.parts[place - 1][1]
        at = began + share * (run.parts[place][1] - began)
        if at <= self.now():
            return False
        self._add_part(run, place, upper, at)
        return True

    def think(self, thought: Callable[[], Any]) -> None:
        """Call the function now, and tell of it later; see `Pool`."""
        self._time.drive()
        start = self._clock()
        try:
            result = Thought(thought())
        except Exception as error:
            result = Thought(error=error)
        seconds = self._thinking_s(self._clock() - start)
        self.thought_s += seconds
        self.thoughts += 1
        self._thoughts += 1
        self._time.add(self.now() + seconds, result)
        self._time.hear()

    def close(self, *, at_once: bool) -> None:  # noqa: ARG002 - nothing is left to wait for
        """Forget what has not ended, and the time since; see `Pool`."""
        for run in {id(run): run for run in self._runs.values()}.values():
            self._forget(run)
        self._time.keep_only(VirtualWorker)
        self._time.rest()
        self._thoughts = 0

    # --- virtual time -------------------------------------------------------------------------

    def wait(self) -> list[Ended | Thought | Joined]:
        """Go on to the next event; see `Pool`."""
        self._time.drive()
        told: list[Ended | Thought | Joined] = []
        while not told and (self._runs or self._thoughts or self._down):
            at, what, part = self._time.next()
            if isinstance(what, WorkerRun) and not (what.parts and what.parts[0][0] is part):
                continue  # its worker has died
            self._time.advance(at)
            if isinstance(what, WorkerRun):
                told = [self._end_part(what)]
            elif isinstance(what, VirtualWorker):
                told = self._fail(what) if what.is_up else [self._repair(what)]
            else:
                self._thoughts -= 1
                told = [what]
            self._time.hear()
        return told

    def _end_part(self, run: WorkerRun) -> Ended:
        task, at = run.parts.pop(0)
        del self._runs[task]
        elapsed_s, run.began = at - run.began, at
        self.busy_s += elapsed_s
        self._workers.keep_state(run.worker, task.call.key)
        if not run.parts:
            run.worker.remove(run)
        if self._value is None:
            result = _timed(run_task(task, self.job, self.now), task, elapsed_s)
        else:
            pretended = StageRun(task.call.name, task.call.key, cost=elapsed_s, charged=elapsed_s)
            result = TaskResult(pretended, is_kept=True, value=self._value(task))
        return Ended(task, result, elapsed_s=elapsed_s)

    # --- failures -----------------------------------------------------------------------------

    def _await_failure(self, worker: VirtualWorker) -> None:
        life_s = self._chance.life_s()
        if life_s is not None:
            self._time.add(self.now() + life_s, worker)

    def _fail(self, worker: VirtualWorker) -> list[Ended | Thought | Joined]:
        """A worker dies with all that it has in memory, and comes back empty."""
        self.deaths += 1
        self._workers.keep_state(worker, "")
        if self._repair_s > 0:
            worker.is_up = False
            self._down += 1
            self._time.add(self.now() + self._repair_s, worker)
        else:
            self._await_failure(worker)
        told: list[Ended | Thought | Joined] = []
        for run in list(worker.running):
            elapsed_s = max(0.0, self.now() - run.began)
            self.busy_s += elapsed_s
            (first, _), *others = run.parts
            died = WorkerDied("its simulated worker died")
            told.append(Ended(first, error=died, is_death=True, elapsed_s=elapsed_s))
            told += [Ended(part) for part, _ in others]
            self._forget(run)
        return told

    def _repair(self, worker: VirtualWorker) -> Joined:
        worker.is_up = True
        self._down -= 1
        self._await_failure(worker)
        return Joined()

    def _forget(self, run: WorkerRun) -> None:
        for part, _ in run.parts:
            del self._runs[part]
        run.parts.clear()
        run.worker.remove(run)


def _timed(result: TaskResult, task: StageTask, elapsed_s: float) -> TaskResult:
    """A result whose measured cost is the virtual time that the call took."""
    run = result.run
    if run is None or run.memoized or task.call.stage.cost is not None:
        return result
    return replace(result, run=replace(run, cost=elapsed_s, charged=elapsed_s))


def _check(workers: int, mean_life_s: float | None, straggling: float, slowdown: float) -> None:
    has_life = mean_life_s is None or mean_life_s > 0
    if workers < 1 or not has_life or not 0.0 <= straggling <= 1.0 or slowdown < 1.0:
        raise ConfigurationError(
            f"a pool needs workers, a time between failures above 0, straggling in [0, 1] and "
            f"slowdown >= 1, but got {workers!r}, {mean_life_s!r}, {straggling!r} and {slowdown!r}."
        )
