"""Which node of a plan a free worker runs next.

The critical-path policy takes the node with the longest remaining time below it (Shin et al. 2019,
arXiv 1911.10504; Hippo, arXiv 2006.11972, section 5); the others are there for comparison. A worker
that has just run a node goes on to one of its children, whose state it has in memory, unless its
policy has something more urgent. So a path is run by one worker as long as nobody needs it more.

By the critical path, trials of equal length all end when the last one does. So it is followed only
towards the end: as long as there is much more to do than the longest path takes, depth comes first,
and results come one after the other. Where first in, first out is forecast to end sooner
(`eeipu.stage_tree.forecasts`), that is followed, as long as no other nodes come.
"""

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from eeipu.stage_tree.cost_estimates import CostEstimates
from eeipu.stage_tree.forecasts import forecast_s
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.remaining_times import RemainingTimes
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.declaration import Stage
from eeipu.stages.paths import Call, Kind
from eeipu.stages.resources import Resources

__all__ = [
    "BREADTH_FIRST",
    "CRITICAL_PATH",
    "DEPTH_FIRST",
    "FIFO",
    "Policy",
    "Scheduler",
    "stage_resources",
]

Priority = tuple[float, ...]

# A plan with more nodes to run than this is not forecast: it would take longer than tens of
# milliseconds, and the more nodes there are, the less the order of the last ones matters.
MOST_FORECAST = 2000

# As long as the workers have this many times more to do than the longest path takes, the order does
# not decide when the last trial ends, and trials are finished one after the other.
SLACK = 4.0


@dataclass(frozen=True)
class Policy:
    """An order of nodes.

    Attributes:
        name: For people.
        priority: Maps a node, and the number of nodes that were needed before it, to its priority.
            The smallest priority comes first.
        goes_on: Whether a worker goes on to a child of the node that it has run.
        recalls: Whether it does so only where no other node comes before that child.
    """

    name: str
    priority: Callable[[PlanNode, int], Priority]
    goes_on: bool = True
    recalls: bool = False


def _longest_first(node: PlanNode, order: int) -> Priority:
    """The longest remaining time first, but evaluations before all: they are short, and awaited."""
    # Evaluations are one position long; a scheduler asks often, and the call takes a search.
    is_evaluation = node.stop - node.start == 1 and node.first.call.kind is Kind.EVALUATION
    return (-math.inf if is_evaluation else -node.remaining, order)


CRITICAL_PATH = Policy("critical path", _longest_first, recalls=True)
FIFO = Policy("first in, first out", lambda node, order: (order,))  # noqa: ARG005
BREADTH_FIRST = Policy("breadth first", lambda node, order: (node.start, order), goes_on=False)
DEPTH_FIRST = Policy("depth first", lambda node, order: (-node.start, order))


def stage_resources(stages: Iterable[Stage]) -> Callable[[Call], Resources]:
    """The resources that calls take, as their stages declare it.

    Args:
        stages: The stages. Calls of others take one CPU core: an earlier process may have asked
            for stages that are gone.
    """
    declared = {stage.name: Resources(stage.num_cpus, stage.num_gpus) for stage in stages}
    return lambda call: declared.get(call.stage, Resources())


class _ReadyNodes:
    """The nodes that can run now, in the order of a policy, apart by what they take.

    Entries whose node was taken, or has another priority by now, stay until they come to the front.
    """

    def __init__(
        self,
        priority: Callable[[PlanNode], Priority],
        needs: Callable[[PlanNode], Resources],
    ) -> None:
        self._priority, self._needs = priority, needs
        self._pushes = count()
        self._queues: dict[Resources, list[tuple[Priority, int, PlanNode]]] = {}

    def clear(self) -> None:
        """Forget all nodes."""
        self._queues.clear()

    def push(self, node: PlanNode) -> None:
        """Add a node that is ready, unless it waits under the same priority."""
        if node.must_run:
            priority = self._priority(node)  # also notes that it is needed now
            if node.queued != priority and node.is_ready:
                node.queued = priority
                queue = self._queues.setdefault(self._needs(node), [])
                heapq.heappush(queue, (priority, next(self._pushes), node))

    def first(self, can_take: Callable[[Resources], bool]) -> PlanNode | None:
        """The first node of those that fit; `None` if there is none."""
        heads = [
            head
            for needs in self._queues
            if (head := self._head(needs)) is not None and can_take(needs)
        ]
        return min(heads)[2] if heads else None

    def first_priority(self, needs: Resources) -> Priority | None:
        """The priority of the first node with these needs; `None` if there is none."""
        head = self._head(needs)
        return None if head is None else head[0]

    def _head(self, needs: Resources) -> tuple[Priority, int, PlanNode] | None:
        """Discard stale entries at the head of a queue, and return the first that is not."""
        queue = self._queues.get(needs, [])
        while queue:
            priority, _, node = queue[0]
            if node.is_ready and priority == self._priority(node):
                return queue[0]
            heapq.heappop(queue)
            if node.queued == priority:
                node.queued = None
        return None


class Scheduler:
    """Hands out the nodes of a plan. A plan has one scheduler at a time.

    Args:
        plan: The plan.
        policy: The order of nodes.
        costs: What nodes will cost.
        resources: Call -> what it takes. By default, what the stages of the workers declare.

    Attributes:
        workers: How many workers there are, for forecasts; `None`: there are none.
        now: Their clock, in seconds.
    """

    def __init__(
        self,
        plan: SearchPlan,
        policy: Policy = CRITICAL_PATH,
        costs: CostEstimates | None = None,
        resources: Callable[[Call], Resources] | None = None,
    ) -> None:
        self.plan = plan
        self.policy = self._followed = policy
        self.workers: int | None = None
        self.now: Callable[[], float] = lambda: 0.0
        self._observed = self._elapsed_s = 0.0  # of the same nodes, as costs may have any unit
        self._new = 0  # nodes that were needed for the first time since the last forecast
        self._due = 0  # so many of them are needed for the next one
        self._ended = 0  # nodes that have ended since then
        self._ended_due = math.inf  # so many of them make another one due
        self._is_forecast = False  # with the costs as they are estimated now
        self._costs = costs if costs is not None else CostEstimates()
        self._is_declared = resources is None
        self._resources = resources if resources is not None else stage_resources(())
        self._orders = count()
        self._times = RemainingTimes(self._costs)
        self._ready = _ReadyNodes(self._priority, self.resources_of)
        plan.execution.take_changed()
        for node in self._nodes():
            node.order = -1
        for request in plan.requests():
            for node in request.node.ancestry():
                self._note_order(node)
        self.refresh()

    def declare(self, stages: Iterable[Stage]) -> None:
        """Learn what calls take from the stages that the workers have, unless that was given."""
        if self._is_declared:
            self._resources = stage_resources(stages)
            self.refresh()

    def next(
        self, can_take: Callable[[Resources], bool], after: PlanNode | None = None
    ) -> PlanNode | None:
        """The next node for a free worker; it counts as started.

        Args:
            can_take: Whether a worker has these resources free.
            after: The node that the worker has just run, so that it has its state in memory.

        Returns:
            `None` where nothing is ready that fits.
        """
        self.follow()
        self._forecast(after)
        node = None if after is None else self._child_of(after, can_take)
        if node is None:
            node = self._ready.first(can_take)
        if node is not None:
            self.plan.execution.start(node)
            node.began = self.now()
        return node

    def _forecast(self, after: PlanNode | None) -> None:
        """Choose the order: depth first while much is left, and then what ends sooner.

        The time for this is in proportion to the number of nodes that are new or have ended.
        """
        if self.policy is not CRITICAL_PATH or self.workers is None:
            return
        if self._is_forecast and self._new < self._due and self._ended < self._ended_due:
            return
        everything = self._nodes()
        nodes = [node for node in everything if node.must_run]
        self._new = self._ended = 0
        self._is_forecast = True
        self._due = max(len(nodes), len(everything) // 8)
        work = math.fsum(map(self._times.own, nodes))
        longest = max((node.remaining for node in nodes), default=0.0)
        has_slack = work > SLACK * self.workers * longest
        due = max(len(nodes) // 16, len(everything) // 32) + 1
        self._ended_due = due if has_slack else math.inf
        best = DEPTH_FIRST if has_slack else CRITICAL_PATH
        if not has_slack and len(nodes) <= MOST_FORECAST:
            orders = (CRITICAL_PATH, FIFO)
            best = min(orders, key=lambda policy: self._forecast_s(nodes, policy, after))
        if best is not self._followed:
            self._followed = best
            self.refresh()

    def _forecast_s(self, nodes: list[PlanNode], policy: Policy, after: PlanNode | None) -> float:
        assert self.workers is not None
        return forecast_s(
            nodes,
            self._costs,
            self.workers,
            lambda node: policy.priority(node, node.order),
            goes_on=policy.goes_on,
            recalls=policy.recalls,
            past=self._past,
            after=after,
        )

    def _past(self, node: PlanNode) -> float:
        """What a node that runs has cost so far."""
        if node.began is None or self._elapsed_s == 0.0:
            return 0.0
        return (self.now() - node.began) * self._observed / self._elapsed_s

    def waiting(self) -> PlanNode | None:
        """A node that is ready, if there is one; it waits for ever where no worker is free."""
        self.follow()
        return self._ready.first(lambda needs: True)  # noqa: ARG005

    def observe(self, node: PlanNode, cost_s: float) -> None:
        """Learn from what a node that has run has cost."""
        self._ended += 1
        if node.began is not None:
            self._observed += cost_s
            self._elapsed_s += self.now() - node.began
        if self._costs.observe(node, cost_s):
            self._is_forecast = False
            self.refresh()

    def refresh(self) -> None:
        """Compute all remaining times and queues anew."""
        nodes = self._nodes()
        self._times.compute(reversed(nodes))
        self._ready.clear()
        for node in nodes:
            node.queued = None
            self._ready.push(node)

    def follow(self) -> None:
        """Take in the changes of the plan since the last call.

        `next` does so too. If many requests are made, call this after each, to spread the work.
        """
        changed = self.plan.execution.take_changed()
        above = [each for node in changed for each in self._times.follow(node)]
        for node in dict.fromkeys([*changed, *above]):
            self._ready.push(node)

    def resources_of(self, node: PlanNode) -> Resources:
        """The resources that a node takes, as its stage declares them or as `resources` says."""
        return self._resources(node.first.call)

    def _nodes(self) -> list[PlanNode]:
        """All nodes of the plan, each after those that it begins from."""
        return [node for node in self.plan.tree if isinstance(node, PlanNode)]

    def _note_order(self, node: PlanNode) -> None:
        if node.order < 0:
            node.order = next(self._orders)
            self._new += 1

    def _priority(self, node: PlanNode) -> Priority:
        self._note_order(node)
        return self._followed.priority(node, node.order)

    def _child_of(self, node: PlanNode, can_take: Callable[[Resources], bool]) -> PlanNode | None:
        """The first child to go on to, where the policy goes on and nothing is more urgent."""
        if not self._followed.goes_on:
            return None
        children = [
            child for child in node.below if child.is_ready and can_take(self.resources_of(child))
        ]
        child = min(children, key=self._priority, default=None)
        if child is not None and self._followed.recalls:
            first = self._ready.first_priority(self.resources_of(child))
            if first is not None and first[0] < self._priority(child)[0]:
                return None
        return child
