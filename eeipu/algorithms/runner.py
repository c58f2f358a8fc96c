"""Runs studies on a plan: clients ask, the scheduler orders, a cluster works.

The clock is the cluster's: the same code runs on real executors and in virtual time.
"""

import math
import warnings
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eeipu.algorithms.moves import Algorithm, Ask, Move, Stop
from eeipu.errors import ConfigurationError, PipelineError, SpaceError
from eeipu.executors.clusters import Cluster, Outcome, Report
from eeipu.stage_tree.nodes import Answer
from eeipu.stage_tree.scheduler import Resources, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path

__all__ = ["PathOf", "StudyRun", "run_studies"]


class PathOf(Protocol):
    """Makes a path of a configuration, trained up to a step and evaluated there.

    A `SpaceError` says that the configuration is none, such as milestones that do not ascend.
    """

    def __call__(self, config: Mapping[str, Any], step: int) -> Path:
        """The path."""
        ...


@dataclass
class StudyRun:
    """A study on a plan.

    Attributes:
        name: Its name in the plan.
        algorithm: Who asks.
        path_of: What a configuration means.
        objective: Which metric to optimise, where evaluations return a dict of them.
        minimize: Whether smaller is better; the sign changes here and nowhere else.
        values: `(trial, step)` -> value, as evaluated.
        errors: `(trial, step)` -> traceback.
        configs: Trial -> its last configuration.
        ended_s: When the last answer came, on the cluster's clock.

    Raises:
        ConfigurationError: The algorithm has a direction (`minimizes`), and it is the other.
    """

    name: str
    algorithm: Algorithm
    path_of: PathOf
    objective: str | None = None
    minimize: bool = False

    def __post_init__(self) -> None:
        self.values: dict[tuple[int, int], float] = {}
        self.errors: dict[tuple[int, int], str] = {}
        self.configs: dict[int, Mapping[str, Any]] = {}
        self.ended_s = 0.0
        self._open: dict[tuple[int, Hashable], int] = {}
        if getattr(self.algorithm, "minimizes", self.minimize) is not self.minimize:
            raise ConfigurationError(
                f"study {self.name!r} has minimize={self.minimize!r}, but its algorithm's "
                f"direction is the other; pass minimize={not self.minimize!r}."
            )

    @property
    def best(self) -> tuple[int, int]:
        """The trial and step of the best value so far.

        Raises:
            ConfigurationError: There is no value yet.
        """
        if not self.values:
            first = next(iter(self.errors.values()), None)
            remedy = "run it first." if first is None else f"its first failure was: {first}"
            raise ConfigurationError(f"study {self.name!r} has no value yet; {remedy}")
        sign = -1.0 if self.minimize else 1.0
        return max(self.values, key=lambda place: sign * self.values[place])

    def act(self, moves: Iterable[Move], scheduler: Scheduler) -> None:
        """Turn an algorithm's moves into requests; a configuration that is none has failed."""
        pending = deque([moves])
        while pending:
            invalid = []
            for move in pending.popleft():
                if isinstance(move, Stop):
                    scheduler.plan.cancel(self.name, move.trial)
                    continue
                try:
                    self._request(move, scheduler)
                except SpaceError as error:
                    self.errors[move.trial, move.step] = str(error)
                    invalid.append(move)
            pending.extend(self.algorithm.tell(m.trial, m.step, None) for m in invalid)

    def _request(self, ask: Ask, scheduler: Scheduler) -> None:
        path = self.path_of(ask.config, ask.step)
        self.configs[ask.trial] = ask.config
        self._open[ask.trial, path.key(len(path))] = ask.step
        scheduler.plan.request(self.name, ask.trial, path)
        scheduler.follow()

    def hear(self, answer: Answer, scheduler: Scheduler, now: float) -> None:
        """Take an answer to the algorithm, and do what it says."""
        request = answer.request
        step = self._open.pop((request.trial, request.node.key), None)
        if step is None:
            return  # asked by an earlier process, and not by this one
        self.ended_s = now
        value, place = None, (request.trial, step)
        if answer.error is None:
            try:
                value = self.values[place] = self._number(answer.value)
            except (TypeError, ValueError, KeyError) as error:
                self.errors[place] = f"{answer.value!r} is no objective: {error!r}"
        else:
            self.errors[place] = answer.error
        told = value if value is None or not self.minimize else -value
        self.act(self.algorithm.tell(request.trial, step, told), scheduler)

    def _number(self, value: Any) -> float:
        number = float(value if self.objective is None else value[self.objective])
        if math.isnan(number):
            raise ValueError("NaN is neither good nor bad")
        return number


def run_studies(studies: Iterable[StudyRun], scheduler: Scheduler, cluster: Cluster) -> None:
    """Run studies together until none of them wants anything more.

    Args:
        studies: Studies with different names. What another process has asked the plan for and
            was not answered is run too, where inputs and code are the same.
        scheduler: Of the plan that they share.
        cluster: Where nodes run.

    An interrupt waits for the nodes that run, unless it comes twice; what they made is kept.

    Raises:
        ConfigurationError: Two studies share a name, or a node fits no worker.
        PipelineError: The cluster has nothing to do any more, and there are open requests.
    """
    studies = list(studies)
    by_name = {study.name: study for study in studies}
    if len(by_name) < len(studies):
        raise ConfigurationError("two studies have one name; each needs a name of its own.")
    cluster.renew()
    try:
        for study in studies:
            study.act(study.algorithm.start(), scheduler)
        _suspend(scheduler.plan)
        _run(by_name, scheduler, cluster)
    except BaseException:  # such as an interrupt: the same plan can be run again
        _record_all(cluster.drain(), scheduler)
        raise
    finally:  # also after a second interrupt
        scheduler.plan.execution.stop_all()
    if scheduler.plan.waiting:
        raise PipelineError(
            f"{len(scheduler.plan.waiting)} requests are open, but nothing can be run for them; "
            f"make a new Scheduler and run the studies again."
        )


def _run(by_name: Mapping[str, StudyRun], scheduler: Scheduler, cluster: Cluster) -> None:
    """Deliver, submit and wait until nothing runs."""
    reports: Sequence[Report] | None = ()
    while True:
        _deliver(by_name, scheduler, cluster)
        _submit(scheduler, cluster)
        for report in reports or ():
            _reconsider(report, scheduler, cluster)
        reports = cluster.wait()
        if reports is None:
            node = scheduler.waiting()
            if node is None:
                return
            raise ConfigurationError(
                f"no worker has room for {node!r}, which takes {scheduler.resources_of(node)}; "
                f"the workers have {list(cluster.offers())}."
            )
        _record_all(reports, scheduler)
        scheduler.plan.execution.trim()


def _suspend(plan: SearchPlan) -> None:
    """Say what is left open, as these stages and inputs would give other values for it."""
    dormant = plan.suspend()
    if dormant:
        warnings.warn(
            f"{len(dormant)} open requests of earlier runs are on other inputs or code, such as "
            f"{dormant[0].node.describe()!r} of study {dormant[0].study!r}; they stay open, and "
            f"are run together with studies on the same inputs and code.",
            RuntimeWarning,
            stacklevel=3,
        )


def _deliver(by_name: Mapping[str, StudyRun], scheduler: Scheduler, cluster: Cluster) -> None:
    plan = scheduler.plan
    while answers := plan.take_answers():
        for answer in answers:
            if answer.request.study in by_name:
                by_name[answer.request.study].hear(answer, scheduler, cluster.now())
    for upper, lower in plan.execution.take_splits():
        if not cluster.split(upper, lower):
            plan.execution.stop(upper)


def _submit(scheduler: Scheduler, cluster: Cluster) -> None:
    """Hand out batches until nothing more fits."""
    refused = set[Resources]()
    while free := next((offer for offer in cluster.offers() if offer not in refused), None):
        batch = scheduler.next(free)
        if batch is None:
            refused.add(free)
        else:
            cluster.submit(batch)


def _reconsider(report: Report, scheduler: Scheduler, cluster: Cluster) -> None:
    """Between two nodes of a batch: go on only if somebody wants it, and nobody needs it more."""
    following = report.following
    if following is None or not following.is_running:
        return
    if not following.must_run or scheduler.is_behind(following):
        for node in cluster.recall(following):
            scheduler.plan.execution.stop(node)
        _submit(scheduler, cluster)


def _record_all(reports: Iterable[Report], scheduler: Scheduler) -> None:
    """Nodes that were not begun first: a failure answers only those whom nobody else serves."""
    for report in sorted(reports, key=lambda r: r.outcome is not Outcome.STOPPED):
        _record(report, scheduler)


def _record(report: Report, scheduler: Scheduler) -> None:
    plan, node = scheduler.plan, report.node
    match report.outcome:
        case Outcome.COMPLETED:
            plan.execution.complete(node, report.cost_s, report.value)
            scheduler.observe(node, report.cost_s)
        case Outcome.FAILED:
            plan.execution.fail(node, report.cost_s, report.error or "")
        case Outcome.LOST:
            plan.execution.lose(node, report.cost_s, report.error or "its worker died")
        case Outcome.STOPPED:
            plan.execution.stop(node, report.cost_s)
        case Outcome.MISSING:
            assert node.parent is not None
            plan.execution.forget(node.parent)
            plan.execution.lose(node, why="the state that it begins from was not in the cache")
