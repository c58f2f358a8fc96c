"""Runs studies on a plan: algorithms ask, the scheduler orders, a pool of workers runs.

The clock is the pool's: the same code runs on real workers and in virtual time.
"""

import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from eeipu.algorithms.node_tasks import NodeTask, NodeTasks
from eeipu.algorithms.plan_watch import FailureWatch, PlanWatch
from eeipu.algorithms.study_run import StudyRun
from eeipu.counts import counted
from eeipu.errors import CacheMiss, ConfigurationError, PipelineError
from eeipu.executors.interrupts import interruptible
from eeipu.executors.pool import Ended, Joined, Pool, SplittingPool, Thought, death_of
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.running.tasks import IN_CACHE, StageTask, TaskResult
from eeipu.stages.runs import StageRun, numbers_of

__all__ = ["run_studies"]

# How often a node may find that the state which it begins with is gone. After that, the cache is
# not one that can be relied on.
MAX_MISSING = 3


def run_studies(
    studies: Iterable[StudyRun],
    scheduler: Scheduler,
    pool: Pool,
    *,
    max_failures: int | None = None,
    watch: PlanWatch | None = None,
    interrupted: threading.Event | None = None,
) -> str | None:
    """Run studies together until all of their requests are answered.

    An interrupt waits for the nodes that run, unless it comes twice; what they made is kept. Where
    everything fails, the plan stops early, with a warning; its requests stay open.

    Args:
        studies: Studies with different names. Requests that another process has made of the plan,
            and that were not answered, are run too, where inputs and code are the same.
        scheduler: The scheduler of the plan that they share.
        pool: The workers, with the plan's cache.
        max_failures: How many calls in a row may fail; `None`: ten, or fifty whose errors say that
            a configuration does not work (see `FailureWatch`).
        watch: Follows the run, and decides in place of this rule when it stops.
        interrupted: Set when the user asks to stop, by a caller who handles Ctrl-C.

    Returns:
        Why the plan has stopped early; `None` where everything is answered.

    Raises:
        ConfigurationError: Two studies share a name, or a node fits no worker.
        PipelineError: Nothing can be run any more, and there are open requests.
    """
    studies = list(studies)
    by_name = {study.name: study for study in studies}
    if len(by_name) < len(studies):
        raise ConfigurationError("two studies have one name; each needs a name of its own.")
    if pool.job.cache is not scheduler.plan.cache:
        raise ConfigurationError(
            f"the plan keeps its states in {scheduler.plan.cache!r}, and the workers theirs in "
            f"{pool.job.cache!r}; give both the same cache."
        )
    pool.renew()
    scheduler.workers, scheduler.now = pool.size, pool.now
    if pool.job.stages:
        scheduler.declare(pool.job.stages.values())
    watch = FailureWatch(studies, max_failures) if watch is None else watch
    run = _PlanRun(by_name, scheduler, pool, watch)
    try:
        handled = interruptible() if interrupted is None else nullcontext(interrupted)
        with handled as asked:
            try:
                for study in studies:
                    study.act(study.algorithm.start(), scheduler)
                _suspend(scheduler.plan)
                run.until_nothing_runs(asked)
            except BaseException:  # such as an error of a callback: the same plan can be run again
                if not asked.is_set():  # this is not the second interrupt, which does not wait
                    run.drain()
                raise
    finally:  # also after a second interrupt
        scheduler.plan.execution.stop_all()
    if scheduler.plan.waiting and watch.reason is None:
        raise PipelineError(
            f"{counted(len(scheduler.plan.waiting), 'request is', 'requests are')} open, but "
            f"nothing can be run for them; make a new Scheduler and run the studies again."
        )
    return watch.reason


def _suspend(plan: SearchPlan) -> None:
    """Warn of open requests that these stages and inputs would give other values for."""
    dormant = plan.suspend()
    if dormant:
        warnings.warn(
            f"{len(dormant)} open requests of earlier runs are on other inputs or code, such as "
            f"{dormant[0].node.describe()!r} of study {dormant[0].study!r}; they stay open, and "
            f"are run together with studies on the same inputs and code.",
            RuntimeWarning,
            stacklevel=3,
        )


class _PlanRun:
    """One call of `run_studies`.

    Args:
        studies: Name -> study.
        scheduler: Orders the nodes of the plan.
        pool: Runs them.
        watch: Follows the run.
    """

    def __init__(
        self,
        studies: Mapping[str, StudyRun],
        scheduler: Scheduler,
        pool: Pool,
        watch: PlanWatch,
    ) -> None:
        self._studies = studies
        self._watch = watch
        self._scheduler, self._plan = scheduler, scheduler.plan
        self._execution = scheduler.plan.execution
        self._pool = pool
        self._tasks = NodeTasks(pool.job)
        self._running: dict[PlanNode, NodeTask] = {}
        # Outputs that no cache keeps. The first node that begins with one gets it; for another, the
        # stage has to run again.
        self._outputs: dict[PlanNode, Any] = {}
        self._missing: Counter[PlanNode] = Counter()

    def until_nothing_runs(self, interrupted: threading.Event) -> None:
        """Deliver answers, submit nodes and wait for events, in turn, until the watch stops it.

        Args:
            interrupted: Set when the user asks to stop after the nodes that run.

        Raises:
            KeyboardInterrupt: The user has asked, and these nodes have ended.
        """
        done: Sequence[PlanNode] = ()
        while True:
            self._deliver()
            if interrupted.is_set():
                self.drain()
                raise KeyboardInterrupt
            if self._watch.reason is not None:
                self.drain()
                self._deliver()
                return
            for node in done:  # its worker goes on where that is best
                self._submit_next(after=node)
            while self._submit_next():
                pass
            self._watch.waits()
            events = self._pool.wait()
            self._watch.hears()
            if not events:
                self._check_done()
                return
            done = self._take(events)
            self._execution.trim()

    def drain(self) -> None:
        """Wait for the nodes that run, and record them."""
        while self._running and (events := self._pool.wait()):
            self._take(events)

    def _deliver(self) -> None:
        """Tell the studies of answers, and the pool of running nodes that were split."""
        while answers := self._plan.take_answers():
            for answer in answers:
                if answer.request.study in self._studies:
                    study = self._studies[answer.request.study]
                    failure = study.hear(answer, self._scheduler, self._pool.now())
                    if answer.error is None:
                        self._watch.answered(failure)
        for upper, lower in self._execution.take_splits():
            task = self._tasks.task(upper, self._scheduler.resources_of(upper))
            share = (upper.stop - upper.start) / (lower.stop - upper.start)
            pool, running = self._pool, self._running[lower]
            if isinstance(pool, SplittingPool) and pool.split(running, task, share):
                self._running[upper] = task
            else:
                self._execution.stop(upper)

    def _check_done(self) -> None:
        node = self._scheduler.waiting()
        if node is not None:
            raise ConfigurationError(
                f"no worker has room for {node!r}, which takes "
                f"{self._scheduler.resources_of(node)}; declare less with "
                f"stage(num_cpus=..., num_gpus=...), or give a pool whose workers have as much."
            )

    # --- from the scheduler to the pool -------------------------------------------------------

    def _submit_next(self, after: PlanNode | None = None) -> bool:
        """Submit the next node that a worker can take; return whether there was one."""
        node = self._scheduler.next(self._pool.can_take, after)
        if node is None:
            return False
        try:
            task = self._task(node)
        except PipelineError:
            self._fail(node, 0.0, traceback.format_exc())
        else:
            self._running[node] = task
            self._pool.submit(task)
            self._watch.began(node)
        return True

    def _task(self, node: PlanNode) -> NodeTask:
        needs, given = self._scheduler.resources_of(node), node.sources or (node.parent,)
        at_hand = {each: self._outputs[each] for each in given if each and each in self._outputs}
        if not at_hand:
            return self._tasks.task(node, needs)
        args = tuple(IN_CACHE if each is None else at_hand.get(each, IN_CACHE) for each in given)
        task = self._tasks.task(node, needs, args)
        for each in at_hand:
            del self._outputs[each]
            self._execution.forget(each)
        return task

    # --- from the pool to the plan ------------------------------------------------------------

    def _take(self, events: Sequence[Ended | Thought | Joined]) -> list[PlanNode]:
        """Record what has ended, and return the nodes that were completed.

        Nodes that were not begun come first: a failure answers only requests that nothing else
        serves.
        """
        done = []
        ended = [event for event in events if isinstance(event, Ended)]
        for event in sorted(ended, key=lambda e: not (e.result is None and e.error is None)):
            task = event.task
            assert isinstance(task, NodeTask)
            node = task.node
            # A task of an earlier call, which a second interrupt has ended, is nobody's any more.
            if node is None or self._running.get(node) is not task:
                continue
            del self._running[node]
            if self._record(node, event):
                done.append(node)
        return done

    def _record(self, node: PlanNode, event: Ended) -> bool:
        """Tell the plan of the end of a node, and return whether it was completed."""
        if event.result is None:
            self._record_without_result(node, event)
            return False
        run = event.result.run
        if run is None:
            cache = self._pool.job.cache
            gone = [each for each in node.above if cache is None or each.key not in cache]
            for each in gone or node.above:
                self._execution.forget(each)
            self._record_missing(node)
            return False
        if run.error is not None:
            self._watch.ended(node, run)
            self._execution.fail(node, run.charged, run.error)
            return False
        self._complete(node, event.task, event.result, run)
        return True

    def _record_missing(self, node: PlanNode) -> None:
        """Let a node run again whose first state is gone, unless that happens too often."""
        self._missing[node] += 1
        if self._missing[node] < MAX_MISSING:
            self._execution.stop(node)
            return
        why = f"the state that it begins with was not in the cache {MAX_MISSING} times"
        self._fail(node, 0.0, f"{why}: {node.describe()}")

    def _fail(self, node: PlanNode, cost_s: float, error: str) -> None:
        """Let a node fail whose call has not reported why."""
        name = node.first.call.stage
        self._watch.ended(node, StageRun(name, node.key, error=error, charged=cost_s))
        self._execution.fail(node, cost_s, error)

    def _record_without_result(self, node: PlanNode, event: Ended) -> None:
        # Declared costs have a unit of their own, to which seconds cannot be added.
        lost_s = event.elapsed_s if event.task.call.stage.cost is None else 0.0
        if event.is_death:
            stages = self._pool.job.stages
            limit = event.task.call.stage.retries + 1 if stages else None
            why = f"{death_of(event)} ({event.error})"
            self._execution.lose(node, lost_s, why, limit=limit)
            if node.error is not None:
                name = node.first.call.stage
                self._watch.ended(node, StageRun(name, node.key, error=node.error))
        elif event.error is not None:
            error = "".join(traceback.format_exception(event.error))
            self._fail(node, lost_s, error)
        else:
            self._execution.stop(node, lost_s)

    def _complete(self, node: PlanNode, task: StageTask, result: TaskResult, run: StageRun) -> None:
        self._watch.ended(node, run)
        value = result.value
        if not result.is_kept:
            self._outputs[node] = run.output
        elif value is None and node.requests and not node.is_training:
            value = self._kept_value(node)  # a request came while it ran
        is_measured = task.call.stage.cost is None
        cost = run.saved if run.memoized else run.cost or 0.0
        self._execution.complete(
            node,
            cost,
            value,
            is_kept=result.is_kept,
            was_reused=run.memoized,
            transfer_s=run.load_s + (result.load_s + result.keep_s if is_measured else 0.0),
            lost_s=max(0.0, run.charged - run.load_s - (run.cost or 0.0)),
        )
        if not result.is_kept and not node.is_in_hand:
            del self._outputs[node]
        if not run.memoized:
            self._scheduler.observe(node, cost)

    def _kept_value(self, node: PlanNode) -> Any:
        cache = self._pool.job.cache
        try:
            return None if cache is None else numbers_of(cache.get(node.key))
        except CacheMiss:
            return None
