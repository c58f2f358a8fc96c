"""A cluster on any `concurrent.futures.Executor`: threads, processes, loky, Dask, Ray."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from concurrent.futures.thread import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cloudpickle

from eeipu.cache import StageCache
from eeipu.clusters import Outcome, Report
from eeipu.errors import ConfigurationError
from eeipu.execution import Clock
from eeipu.node_execution import Work, WorkResult, run_works, work_of
from eeipu.plan_nodes import PlanNode
from eeipu.scheduling import Batch, Resources
from eeipu.stages import Stage

__all__ = ["FuturesCluster"]

# Seconds between looks whether a batch has left a state in the cache that others wait for.
POLL_S = 0.05


@dataclass(eq=False)
class _Task:
    executor: Executor
    worker: int
    nodes: list[PlanNode]  # those that were not reported yet
    paid_until: float  # on the cluster's clock: what was spent before is reported
    is_suspect: bool = False  # its executor broke, under this batch or another


class FuturesCluster:
    """Workers of an executor. A batch is one call; its states go to a cache that all share.

    Where a worker's death breaks an executor under several batches, nobody knows whose it was:
    none counts as lost, and until they are done batches run one at a time.

    Args:
        executor: The executor; or a function that makes one, called again when it breaks, whose
            executor is shut down when the cluster is left as a context.
        stages: The pipeline's stages.
        inputs: The run's inputs.
        cache: The plan's cache. It must be a directory unless all workers are threads.
        workers: How many batches run at once, with one CPU core each; or what each worker has.
        gpus: How many GPUs each worker has, where `workers` is a number.
        clock: Seconds that only grow.

    Raises:
        ConfigurationError: The cache is in memory, and workers are no threads.
    """

    def __init__(
        self,
        executor: Executor | Callable[[], Executor],
        stages: Sequence[Stage],
        inputs: tuple[Any, ...],
        cache: StageCache,
        workers: int | Sequence[Resources] = 1,
        clock: Clock = time.perf_counter,
        gpus: float = 0.0,
    ) -> None:
        self._renew = executor if not isinstance(executor, Executor) else None
        self._executor = executor if isinstance(executor, Executor) else executor()
        self._is_local = isinstance(self._executor, ThreadPoolExecutor)
        if cache.location is None and not self._is_local:
            raise ConfigurationError(
                "workers in other processes cannot reach a cache in memory; give the plan and the "
                "cluster a StageCache(directory)."
            )
        by_name = {stage.name: stage for stage in stages}
        self._job: Any = (by_name, inputs, cache)
        if not self._is_local:  # a cache has locks, which do not travel
            for stage in stages:
                stage.code  # noqa: B018 - kept for workers, where it may not be readable
            self._job = cloudpickle.dumps((by_name, inputs, cache.location, cache.max_bytes))
        self._cache = cache
        each = Resources(1.0, gpus)
        self._free = [each] * workers if isinstance(workers, int) else list(workers)
        self._whole = list(self._free)
        self._clock, self._began = clock, clock()
        self._tasks: dict[Future[list[WorkResult]], _Task] = {}
        self._suspects: set[PlanNode] = set()

    def __enter__(self) -> "FuturesCluster":
        return self

    def __exit__(self, *_: object) -> None:
        """Shut down the executor, if the cluster made it."""
        if self._renew is not None:
            self._executor.shutdown(cancel_futures=True)

    def now(self) -> float:
        """Seconds since the cluster was made."""
        return self._clock() - self._began

    def offers(self) -> list[Resources]:
        """What single workers have free, the largest first; a worker has one batch at a time."""
        self._suspects = {node for node in self._suspects if node.must_run}
        if self._suspects and self._tasks:
            return []
        return sorted({free for free in self._free if free > Resources(0.0, 0.0)}, reverse=True)

    def submit(self, batch: Batch) -> None:
        """Give a batch to the smallest worker that has room."""
        fitting = [w for w, free in enumerate(self._free) if batch.resources.fit(free)]
        worker = min(fitting, key=lambda w: (self._free[w], w))
        parent = batch.nodes[0].parent
        upstream = parent.key if parent is not None and parent.parent is not None else None
        works = [work_of(node) for node in batch.nodes]
        run = _run_here if self._is_local else _run_elsewhere
        future = self._executor.submit(run, self._job, works, upstream)
        self._free[worker] = Resources(0.0, 0.0)
        self._tasks[future] = _Task(self._executor, worker, list(batch.nodes), self.now())

    def split(self, upper: PlanNode, lower: PlanNode) -> bool:  # noqa: ARG002
        """A worker that has begun knows nothing of splits."""
        return False

    def recall(self, node: PlanNode) -> list[PlanNode]:  # noqa: ARG002
        """A batch that was handed over stays."""
        return []

    def wait(self) -> list[Report] | None:
        """Wait until a batch has ended, or left a state that somebody else waits for."""
        while self._tasks:
            done, _ = wait(self._tasks, timeout=POLL_S, return_when=FIRST_COMPLETED)
            reports = [report for future in done for report in self._end(future)]
            reports += [report for task in self._tasks.values() for report in self._look(task)]
            if reports or done:
                return reports
        return None

    def _look(self, task: _Task) -> list[Report]:
        """Report the nodes of a running batch up to a state in the cache that others wait for."""
        count = 0
        for place, node in enumerate(task.nodes, 1):
            if node.requests:  # its value comes with the batch
                break
            if _is_awaited(node) and node.key in self._cache:
                count = place
        return [self._found(task) for _ in range(count)]

    def _found(self, task: _Task) -> Report:
        node = task.nodes.pop(0)
        cost_s = self._cache.cost(node.key) or 0.0
        task.paid_until += cost_s
        return Report(node, Outcome.COMPLETED, cost_s)

    def _end(self, future: Future[list[WorkResult]]) -> list[Report]:
        task = self._tasks.pop(future)
        self._free[task.worker] = self._whole[task.worker]
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            self._suspect(task)
            if self._renew is not None and task.executor is self._executor:
                self._executor.shutdown(wait=False)
                self._executor = self._renew()
            return self._lost(task)
        if error is not None:
            raise error  # not the user's stage, whose errors are data
        results = {result.key: result for result in future.result()}
        return [_report(node, results.get(node.key)) for node in task.nodes]

    def _suspect(self, task: _Task) -> None:
        """Where several batches share a broken executor, each may have been what broke it."""
        others = [each for each in self._tasks.values() if each.executor is task.executor]
        for each in (task, *others) if others else ():
            each.is_suspect = True

    def _lost(self, task: _Task) -> list[Report]:
        """What a worker that died has left in the cache is not lost."""
        reports = []
        while task.nodes and not task.nodes[0].requests and task.nodes[0].key in self._cache:
            reports.append(self._found(task))
        if not task.nodes:
            return reports
        first, *rest = task.nodes
        if task.is_suspect:
            self._suspects.add(first)
        outcome = Outcome.STOPPED if task.is_suspect else Outcome.LOST
        lost_s = max(0.0, self.now() - task.paid_until)
        return [
            *reports,
            Report(first, outcome, lost_s),
            *[Report(n, Outcome.STOPPED) for n in rest],
        ]


def _is_awaited(node: PlanNode) -> bool:
    """Whether somebody waits for a node's state but the batch that makes it."""
    return any(child.must_run and not child.is_running for child in node.children.values())


def _report(node: PlanNode, result: WorkResult | None) -> Report:
    if result is None:
        return Report(node, Outcome.STOPPED)
    if result.is_missing:
        return Report(node, Outcome.MISSING)
    outcome = Outcome.COMPLETED if result.error is None else Outcome.FAILED
    return Report(node, outcome, result.cost_s, result.value, result.error)


def _run_here(
    job: tuple[Mapping[str, Stage], tuple[Any, ...], StageCache],
    works: Sequence[Work],
    upstream: str | None,
) -> list[WorkResult]:
    stages, inputs, cache = job
    return run_works(works, stages, inputs, upstream, cache)


def _run_elsewhere(job: bytes, works: Sequence[Work], upstream: str | None) -> list[WorkResult]:
    stages, inputs, location, max_bytes = cloudpickle.loads(job)
    return run_works(works, stages, inputs, upstream, StageCache(location, max_bytes))
