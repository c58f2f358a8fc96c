"""A cluster on any `concurrent.futures.Executor`: threads, processes, loky, Dask, Ray."""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from concurrent.futures.thread import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError, PipelineError
from eeipu.executors.clusters import Outcome, Report
from eeipu.executors.node_batches import Job, WorkResult, run_works, work_of, works_above
from eeipu.executors.worker_processes import packed, run_elsewhere
from eeipu.fingerprints.keys import inputs_key
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.scheduler import Batch, Resources
from eeipu.stages.calls import Clock
from eeipu.stages.declaration import Stage, refresh_code

__all__ = ["FuturesCluster"]

# Seconds between looks whether a batch has left a state in the cache that others wait for.
POLL_S = 0.05

# Why nodes are lost as long as no worker has given a result.
NO_RESULT = (
    "its worker, like all before it, died without a result (a script that starts workers by "
    "spawn or forkserver is run again by them: start them under `if __name__ == '__main__':`)"
)


_Results = Future[list[WorkResult] | None]


@dataclass(eq=False)
class _Task:
    executor: Executor
    worker: int
    nodes: list[PlanNode]  # those that were not reported yet
    paid_until: float  # on the cluster's clock: what was spent before is reported
    is_suspect: bool = False  # its executor broke, under this batch or another
    cut: str = field(default_factory=lambda: uuid.uuid4().hex)  # ends it, once it is in the cache
    is_cut: bool = False


class _Pool:
    """An executor that is replaced when it breaks, and the job that its workers have."""

    def __init__(self, executor: Executor | Callable[[], Executor], job: Job) -> None:
        self._renew = executor if not isinstance(executor, Executor) else None
        self.executor = executor if isinstance(executor, Executor) else executor()
        self._job, self._name = job, ""
        self._packed: bytes | None = None
        self._codes: list[str] = []
        self._is_local = isinstance(self.executor, ThreadPoolExecutor)
        if not self._is_local and job.cache.location is None:
            raise ConfigurationError(
                "workers in other processes cannot reach a cache in memory; give the plan and the "
                "cluster a StageCache(directory)."
            )
        self.refresh()

    def refresh(self) -> None:
        """Look at the stages' code, and pack the job anew where it is not what workers have."""
        stages = self._job.stages.values()
        refresh_code(stages)
        if self._is_local:
            return
        # The fingerprints travel with the job: a worker may not be able to read the code.
        codes = [stage.code_fingerprint for stage in stages]
        if self._packed is None or codes != self._codes:
            self._packed, self._codes = packed(self._job), codes
            self._name = hashlib.sha256(self._packed).hexdigest()

    def send(self, task: _Task, *, with_job: bool = False) -> _Results:
        """Hand a batch over, with the job only where a process has asked for it."""
        first = task.nodes[0]
        parent = first.parent
        upstream = parent.key if parent is not None and parent.parent is not None else None
        works = [work_of(node) for node in task.nodes]
        place = upstream, works_above(first), task.cut
        if self._packed is None:
            return task.executor.submit(run_works, works, self._job, *place)
        job = self._packed if with_job else None
        return task.executor.submit(run_elsewhere, self._name, job, works, *place)

    def replace(self, broken: Executor) -> None:
        """Make a new executor, unless that was done for an earlier batch, or the user's breaks."""
        if self._renew is not None and broken is self.executor:
            broken.shutdown(wait=False)
            self.executor = self._renew()

    def close(self) -> None:
        """Shut down what was made here."""
        if self._renew is not None:
            self.executor.shutdown()


class FuturesCluster:
    """Workers of an executor. A batch is one call; its states go to a cache that all share.

    A worker process gets stages and inputs once, and ends when the process that started it does,
    however that ends (`eeipu.executors.worker_processes`).

    Where a worker's death breaks an executor under several batches, nobody knows whose it was:
    none counts as lost, and until they are done batches run one at a time.

    A batch whose end nobody wants any more, or that comes to a node that was split meanwhile, ends
    between two nodes. It is not called back for what has become more urgent, unlike a simulated
    one, and a node that was begun runs to its end.

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
        ConfigurationError: The cache is in memory, and workers are no threads; or they are several
            threads, and a stage is of `eeipu.stages.torch_training.loop`, whose random generators
            are the process's own.
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
        by_name = {stage.name: stage for stage in stages}
        self._pool = _Pool(executor, Job(by_name, inputs, _key_of(inputs), cache))
        self._cache = cache
        each = Resources(1.0, gpus)
        self._free = [each] * workers if isinstance(workers, int) else list(workers)
        if len(self._free) > 1 and isinstance(self._pool.executor, ThreadPoolExecutor):
            _check_threads(self._pool.executor, stages)
        self._whole = list(self._free)
        self._clock, self._began = clock, clock()
        self._tasks: dict[_Results, _Task] = {}
        self._suspects: set[PlanNode] = set()
        self._has_results = False

    def __enter__(self) -> "FuturesCluster":
        return self

    def __exit__(self, *_: object) -> None:
        """End batches after the nodes that they are in, and the executor, if the cluster made it.

        What they leave in the cache is found by whoever runs the plan next.
        """
        for future, task in self._tasks.items():
            self._cut(task)
            future.cancel()
        self._pool.close()
        self._cache.discard(
            [task.cut for f, task in self._tasks.items() if task.is_cut and f.done()]
        )

    def renew(self) -> None:
        """See `Cluster`. Batches that are on their way have the code that was."""
        self._pool.refresh()

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
        task = _Task(self._pool.executor, worker, list(batch.nodes), self.now())
        try:
            future = self._pool.send(task)
        except BrokenExecutor:  # a worker died while it had nothing to do
            self._pool.replace(task.executor)
            task.executor = self._pool.executor
            future = self._pool.send(task)
        self._free[worker] = Resources(0.0, 0.0)
        self._tasks[future] = task

    def split(self, upper: PlanNode, lower: PlanNode) -> bool:  # noqa: ARG002
        """Where a worker has yet to come to the node, its batch ends before that; else it goes on.

        Training is the user's own code from one end of a node to the other.
        """
        for task in self._tasks.values():
            if lower in task.nodes[1:]:
                self._cut(task)
        return False

    def recall(self, node: PlanNode) -> list[PlanNode]:  # noqa: ARG002
        """A batch that was handed over stays, whatever has become more urgent."""
        return []

    def _cut(self, task: _Task) -> None:
        """Have a worker end its batch between two nodes; what it did not begin comes back."""
        if not task.is_cut:
            task.is_cut = True
            with suppress(OSError):  # without room for that it goes on
                self._cache.put(task.cut, True)

    def wait(self) -> list[Report] | None:
        """Wait until a batch has ended, or left a state that somebody else waits for."""
        while self._tasks:
            done, _ = wait(self._tasks, timeout=POLL_S, return_when=FIRST_COMPLETED)
            done = {future for future in done if not self._is_asked(future)}
            reports = [report for future in done for report in self._end(future)]
            reports += [report for task in self._tasks.values() for report in self._look(task)]
            if reports or done:
                return reports
        return None

    def drain(self) -> list[Report]:
        """See `Cluster`. It waits for the nodes that run."""
        reports: list[Report] = []
        for future, task in list(self._tasks.items()):
            self._cut(task)
            if future.cancel():  # it waits in the executor's queue
                reports += self._take_back(future)
        while (ended := self.wait()) is not None:
            reports += ended
        return reports

    def _take_back(self, future: _Results) -> list[Report]:
        task = self._tasks.pop(future)
        self._free[task.worker] = self._whole[task.worker]
        self._cache.discard([task.cut])
        return [Report(node, Outcome.STOPPED) for node in task.nodes]

    def _look(self, task: _Task) -> list[Report]:
        """Report the nodes of a running batch up to a state in the cache that others wait for.

        A batch of which nobody wants the rest any more is cut short.
        """
        if task.nodes and not task.nodes[-1].must_run:
            self._cut(task)
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

    def _is_asked(self, future: _Results) -> bool:
        """Give a batch to a worker again that did not have the job; now it comes with it."""
        task = self._tasks[future]
        if not task.nodes or future.exception() is not None or future.result() is not None:
            return False
        del self._tasks[future]
        try:
            again = self._pool.send(task, with_job=True)
        except BrokenExecutor as error:  # under another batch
            again = _Results()
            again.set_exception(error)
        self._tasks[again] = task
        return True

    def _end(self, future: _Results) -> list[Report]:
        task = self._tasks.pop(future)
        self._free[task.worker] = self._whole[task.worker]
        if task.is_cut:
            self._cache.discard([task.cut])
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            _suspect(task, self._tasks.values())
            self._pool.replace(task.executor)
            return self._lost(task)
        if isinstance(error, KeyboardInterrupt):  # which a terminal sends to workers too
            return self._lost(task)
        if error is not None:
            raise error  # not the user's stage, whose errors are data
        self._has_results = True
        results = {result.key: result for result in future.result() or ()}
        return [_report(node, results.get(node.key)) for node in task.nodes]

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
            Report(first, outcome, lost_s, error=None if self._has_results else NO_RESULT),
            *[Report(n, Outcome.STOPPED) for n in rest],
        ]


def _check_threads(executor: ThreadPoolExecutor, stages: Iterable[Stage]) -> None:
    """Threads would train with each other's random numbers."""
    for stage in stages:
        if executor._max_workers > 1 and stage.uses_process_state:
            raise ConfigurationError(
                f"stage {stage.name!r} trains with torch, whose random generators all threads of a "
                f"process share; use eeipu.executors.worker_processes, or one thread."
            )


def _suspect(task: _Task, running: Iterable[_Task]) -> None:
    """Where several batches share a broken executor, each may have been what broke it."""
    others = [each for each in running if each.executor is task.executor]
    for each in (task, *others) if others else ():
        each.is_suspect = True


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


def _key_of(inputs: tuple[Any, ...]) -> str | None:
    try:
        return inputs_key(inputs)
    except PipelineError:  # then path_of has a name of its own for them
        return None
