"""A cluster of discrete events in virtual time: a thousand GPUs in seconds of a laptop's."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from eeipu.errors import ConfigurationError
from eeipu.executors.clusters import Outcome, Report
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.scheduler import Batch, Resources

__all__ = ["SimulatedCluster"]


@dataclass(eq=False)
class _Worker:
    free: Resources
    is_up: bool = True
    state: str = ""  # the key of the last state it made, which it has in memory
    tasks: set["_Task"] = field(default_factory=set)


@dataclass(eq=False)
class _Task:
    """A batch on its way: the first node in work from `began` to `ends`, the others to follow."""

    worker: _Worker
    resources: Resources
    nodes: list[PlanNode]
    began: float = 0.0
    ends: float = 0.0
    version: int = 0  # counts changes of `ends`; events of older ones are void


class SimulatedCluster:
    """Workers that do nothing, for as long as it would have taken.

    Args:
        workers: How many, with one CPU core and one GPU each; or what each has.
        seconds: What a node takes.
        value: What the last node of a request gives.
        load_s: Seconds to fetch a state that the worker does not have.
        save_s: Seconds to write a checkpoint.
        time_between_failures_s: Mean of a worker's exponentially distributed times to failure.
        repair_s: How long a worker that failed is away.
        straggling: Which share of nodes takes longer; `slowdown`: how many times.
        seed: Makes failures and stragglers repeatable.

    Raises:
        ConfigurationError: There are no workers, or a share or time is out of range.

    Attributes:
        busy_s: Seconds that all workers together have worked.
        deaths: How many workers have failed so far.
    """

    def __init__(
        self,
        workers: int | Sequence[Resources],
        seconds: Callable[[PlanNode], float],
        value: Callable[[PlanNode], Any] = lambda node: None,  # noqa: ARG005
        *,
        load_s: float = 0.0,
        save_s: float = 0.0,
        time_between_failures_s: float | None = None,
        repair_s: float = 0.0,
        straggling: float = 0.0,
        slowdown: float = 3.0,
        seed: int = 0,
    ) -> None:
        if isinstance(workers, int):
            workers = [Resources(1.0, 1.0)] * workers
        if not workers or not 0.0 <= straggling <= 1.0 or slowdown < 1.0:
            raise ConfigurationError(
                f"a cluster needs workers, straggling in [0, 1] and slowdown >= 1, but got "
                f"{len(workers)} workers, {straggling!r} and {slowdown!r}."
            )
        self._seconds, self._value = seconds, value
        self._load_s, self._save_s = load_s, save_s
        self._mean_life_s, self._repair_s = time_between_failures_s, repair_s
        self._straggling, self._slowdown = straggling, slowdown
        self._rng = np.random.default_rng(seed)
        self._now = self.busy_s = 0.0
        self.deaths = 0
        self._tasks: dict[str, _Task] = {}
        self._left_s: dict[str, float] = {}
        self._events: list[tuple[float, int, _Task | _Worker, int]] = []
        self._ties = count()
        # Workers that have room, by what they have free, and who has which state in memory.
        self._idle: dict[Resources, dict[_Worker, None]] = {}
        self._who_has: dict[str, _Worker] = {}
        self._workers = [_Worker(each) for each in workers]
        for worker in self._workers:
            self._set_free(worker, worker.free)
            self._await_failure(worker)

    def renew(self) -> None:
        """There is no code."""

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    def offers(self) -> list[Resources]:
        """What single workers have free, the largest first."""
        return sorted((free for free, idle in self._idle.items() if idle), reverse=True)

    def submit(self, batch: Batch) -> None:
        """Give a batch to a worker that has room, if possible one that has the state."""
        parent = batch.nodes[0].parent
        assert parent is not None
        worker = self._who_has.get(parent.key)
        if worker is None or not (worker.is_up and batch.resources.fit(worker.free)):
            tightest = min(f for f, idle in self._idle.items() if idle and batch.resources.fit(f))
            worker = next(iter(self._idle[tightest]))
        self._set_free(worker, _minus(worker.free, batch.resources))
        task = _Task(worker, batch.resources, list(batch.nodes))
        worker.tasks.add(task)
        for node in batch.nodes:
            self._tasks[node.key] = task
        is_there = parent.parent is None or parent.key == worker.state
        self._begin(task, 0.0 if is_there else self._load_s)

    def split(self, upper: PlanNode, lower: PlanNode) -> bool:
        """Have the upper part reported too, unless the worker is past it."""
        task = self._tasks[lower.key]
        place = task.nodes.index(lower)
        if place == 0:
            share = (upper.stop - upper.start) / (lower.stop - upper.start)
            at = task.began + share * (task.ends - task.began)
            if at <= self._now:
                return False
            self._left_s[lower.key] = task.ends - at
            self._set_end(task, at)
        task.nodes.insert(place, upper)
        self._tasks[upper.key] = task
        return True

    def recall(self, node: PlanNode) -> list[PlanNode]:
        """Take back a node, and those after it, unless it was begun earlier than now."""
        task = self._tasks[node.key]
        place = task.nodes.index(node)
        if place == 0 and task.began < self._now:
            return []
        recalled = task.nodes[place:]
        del task.nodes[place:]
        for each in recalled:
            del self._tasks[each.key]
        if not task.nodes:
            self._end_task(task)
        return recalled

    def wait(self) -> list[Report] | None:
        """Go on to the next thing that happens; `None` if nothing ever will."""
        while self._tasks or not all(worker.is_up for worker in self._workers):
            time, _, what, version = heapq.heappop(self._events)
            if isinstance(what, _Task) and version != what.version:
                continue
            self._now = time
            if isinstance(what, _Task):
                return [self._end_node(what)]
            return self._fail(what) if what.is_up else self._repair(what)
        return None

    def drain(self) -> list[Report]:
        """Take everything back, at once."""
        reports = []
        for task in {id(each): each for each in self._tasks.values()}.values():
            for place, node in enumerate(task.nodes):
                self._left_s.pop(node.key, None)
                cost_s = max(0.0, self._now - task.began) if place == 0 else 0.0
                self.busy_s += cost_s
                reports.append(Report(node, Outcome.STOPPED, cost_s))
            self._end_task(task)
        self._tasks.clear()
        return reports

    def _begin(self, task: _Task, delay_s: float = 0.0) -> None:
        """Begin the first node of a task."""
        node = task.nodes[0]
        task.began = self._now
        seconds = self._left_s.pop(node.key, None)
        if seconds is None:
            seconds = self._seconds(node) + (self._save_s if node.is_training else 0.0)
            if self._straggling and self._rng.random() < self._straggling:
                seconds *= self._slowdown
        self._set_end(task, self._now + delay_s + seconds)

    def _set_end(self, task: _Task, time: float) -> None:
        task.ends = time
        task.version += 1
        self._push(time, task, task.version)

    def _push(self, time: float, what: "_Task | _Worker", version: int = 0) -> None:
        heapq.heappush(self._events, (time, next(self._ties), what, version))

    def _end_node(self, task: _Task) -> Report:
        node = task.nodes.pop(0)
        del self._tasks[node.key]
        worker = task.worker
        self._keep_state(worker, node.key)
        cost_s = self._now - task.began
        self.busy_s += cost_s
        if task.nodes:
            self._begin(task)
        else:
            self._end_task(task)
        following = task.nodes[0] if task.nodes else None
        return Report(node, Outcome.COMPLETED, cost_s, self._value(node), following=following)

    def _end_task(self, task: _Task) -> None:
        task.version += 1
        task.worker.tasks.discard(task)
        self._set_free(task.worker, _plus(task.worker.free, task.resources))

    def _set_free(self, worker: _Worker, free: Resources) -> None:
        self._idle.setdefault(worker.free, {}).pop(worker, None)
        worker.free = free
        if worker.is_up and free > Resources(0.0, 0.0):
            self._idle.setdefault(free, {})[worker] = None

    def _keep_state(self, worker: _Worker, key: str) -> None:
        if self._who_has.get(worker.state) is worker:
            del self._who_has[worker.state]
        worker.state = key
        self._who_has[key] = worker

    def _await_failure(self, worker: _Worker) -> None:
        if self._mean_life_s is not None:
            self._push(self._now + float(self._rng.exponential(self._mean_life_s)), worker)

    def _repair(self, worker: _Worker) -> list[Report]:
        worker.is_up = True
        self._set_free(worker, worker.free)
        self._await_failure(worker)
        return []

    def _fail(self, worker: _Worker) -> list[Report]:
        """A worker dies with all it has, and comes back empty."""
        self.deaths += 1
        worker.is_up = False
        self._keep_state(worker, "")
        self._push(self._now + self._repair_s, worker)
        reports = []
        for task in sorted(worker.tasks, key=lambda each: each.began):
            for place, node in enumerate(task.nodes):
                del self._tasks[node.key]
                self._left_s.pop(node.key, None)
                cost_s = self._now - task.began if place == 0 else 0.0
                self.busy_s += cost_s
                outcome = Outcome.LOST if place == 0 else Outcome.STOPPED
                reports.append(Report(node, outcome, cost_s))
            self._end_task(task)
        self._set_free(worker, worker.free)
        return reports


def _plus(one: Resources, other: Resources) -> Resources:
    return Resources(one.num_cpus + other.num_cpus, one.num_gpus + other.num_gpus)


def _minus(one: Resources, other: Resources) -> Resources:
    return Resources(one.num_cpus - other.num_cpus, one.num_gpus - other.num_gpus)
