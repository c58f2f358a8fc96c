"""Which nodes a free worker takes next.

A ready node and the nodes after it make a batch: one path, run by one worker, which keeps the
state between them. The critical-path policy hands out the path with the longest remaining time
(Shin et al. 2019, arXiv 1911.10504; Hippo, arXiv 2006.11972, section 5); the others are there for
comparison. What is left below each node is kept up to date as requests come and nodes end, along
one path to the root, and never computed for the whole tree at once, unless cost estimates change
by much.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.declaration import Stage
from eeipu.stages.paths import Call

__all__ = [
    "BREADTH_FIRST",
    "CRITICAL_PATH",
    "DEPTH_FIRST",
    "FIFO",
    "Batch",
    "CostEstimates",
    "Policy",
    "Resources",
    "Scheduler",
    "stage_resources",
]

# Remaining times are computed anew when a stage turns out this much dearer or cheaper.
STALE = 1.25


@dataclass(frozen=True, order=True)
class Resources:
    """What a call takes, or a worker has: CPU cores and GPUs, which may be shared in fractions."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def fit(self, free: "Resources") -> bool:
        """Whether as much is free."""
        return self.num_cpus <= free.num_cpus and self.num_gpus <= free.num_gpus


@dataclass(frozen=True)
class Batch:
    """Nodes for one worker, each the child of the one before, all of which need as many GPUs.

    Attributes:
        nodes: The nodes, first to last.
        resources: What all of them take.
    """

    nodes: tuple[PlanNode, ...]
    resources: Resources


@dataclass(frozen=True)
class Policy:
    """An order of nodes.

    Attributes:
        name: For people.
        priority: A node, and how many nodes were needed before it -> what is smallest first.
        in_batches: Whether the worker goes on to the first of the node's children.
        recalls: Whether a worker may be called from its batch, between two nodes, to what has
            come before it in this order meanwhile.
    """

    name: str
    priority: Callable[[PlanNode, int], tuple[float, ...]]
    in_batches: bool = True
    recalls: bool = False


CRITICAL_PATH = Policy("critical path", lambda n, order: (-n.remaining, order), recalls=True)
FIFO = Policy("first in, first out", lambda node, order: (order,))  # noqa: ARG005
BREADTH_FIRST = Policy("breadth first", lambda node, order: (node.start, order), in_batches=False)
DEPTH_FIRST = Policy("depth first", lambda node, order: (-node.start, order))


def stage_resources(stages: Iterable[Stage]) -> Callable[[Call], Resources]:
    """What the calls of these stages take, as the stages declare it; others take one CPU core."""
    declared = {stage.name: Resources(stage.num_cpus, stage.num_gpus) for stage in stages}
    # What an earlier process asked for may be of stages that are gone, which nobody runs.
    return lambda call: declared.get(call.stage, Resources())


class CostEstimates:
    """What a node will take, in seconds.

    Args:
        prior: Seconds that one step of a call takes, for stages of which nothing was measured;
            one second by default. A tuner's cost models can answer here.
    """

    def __init__(self, prior: Callable[[Call], float] | None = None) -> None:
        self._prior = prior if prior is not None else lambda call: 1.0  # noqa: ARG005
        self._totals: dict[str, tuple[float, int]] = {}
        self._known: dict[str, float] = {}  # seconds a position when last told

    def observe(self, node: PlanNode, cost_s: float) -> bool:
        """Learn from a node that has run; whether its stage turned out much dearer or cheaper."""
        length = node.stop - node.start
        first = node.stretches[0]
        stage = _stage_name(first.call)
        for name in {stage, *(part.label for part in node.stretches)}:
            seconds, positions = self._totals.get(name, (0.0, 0))
            self._totals[name] = (seconds + cost_s, positions + length)
        seconds, positions = self._totals[stage]
        known = self._known.setdefault(stage, self._prior(first.call))
        if known / STALE <= seconds / positions <= known * STALE:
            return False
        self._known[stage] = seconds / positions
        return True

    def __call__(self, node: PlanNode) -> float:
        """The estimate: by the call's own mean, its stage's, or the prior, whichever is known."""
        return sum(
            (part.stop - part.start) * self._rate(part.call, part.label) for part in node.stretches
        )

    def _rate(self, call: Call, label: str) -> float:
        for name in (label, _stage_name(call)):
            if name in self._totals:
                seconds, positions = self._totals[name]
                return seconds / positions
        return self._prior(call)


def _stage_name(call: Call) -> str:
    return f"{call.stage} {call.kind}"  # a label is a digest, and has no space


class Scheduler:
    """Hands out the nodes of a plan. A plan has one scheduler at a time.

    Args:
        plan: The plan.
        policy: Which node first.
        costs: What nodes will take.
        resources: What a call takes, such as `stage_resources`; one CPU core by default.
    """

    def __init__(
        self,
        plan: SearchPlan,
        policy: Policy = CRITICAL_PATH,
        costs: CostEstimates | None = None,
        resources: Callable[[Call], Resources] | None = None,
    ) -> None:
        self.plan = plan
        self.policy = policy
        self.costs = costs if costs is not None else CostEstimates()
        self._resources = resources if resources is not None else lambda call: Resources()  # noqa: ARG005
        self._orders, self._pushes = count(), count()
        self._queues: dict[Resources, list[tuple[tuple[float, ...], int, PlanNode]]] = {}
        plan.execution.take_changed()
        for node in self._nodes():
            node.order = -1
        for request in plan.requests():
            for node in request.node.ancestry():
                self._note_order(node)
        self.refresh()

    def next(self, free: Resources) -> Batch | None:
        """The next batch for a worker with so much free; it counts as started.

        Returns:
            `None` where nothing is ready, or nothing that is fits.
        """
        self.follow()
        heads = [
            (queue[0], resources)
            for resources, queue in self._queues.items()
            if resources.fit(free) and self._clean(queue)
        ]
        if not heads:
            return None
        (_, _, node), resources = min(heads)
        nodes = [node]
        while self.policy.in_batches and (child := self._first_child(nodes[-1], resources)):
            nodes.append(child)
        for each in nodes:
            self.plan.execution.start(each)
        return Batch(tuple(nodes), resources)

    def is_behind(self, node: PlanNode) -> bool:
        """Whether somebody waits who should have the worker that is to begin this node."""
        if not self.policy.recalls:
            return False
        queue = self._queues.get(self.resources_of(node), [])
        return self._clean(queue) and queue[0][0][0] < self._priority(node)[0]

    def waiting(self) -> PlanNode | None:
        """A node that is ready, if one is; where no worker is large enough, it waits for ever."""
        self.follow()
        for queue in self._queues.values():
            if self._clean(queue):
                return queue[0][2]
        return None

    def observe(self, node: PlanNode, cost_s: float) -> None:
        """Learn from a node that has run."""
        if self.costs.observe(node, cost_s):
            self.refresh()

    def refresh(self) -> None:
        """Compute all remaining times and queues anew."""
        nodes = self._nodes()
        for node in reversed(nodes):  # children first
            node.remaining, node.queued = self._remaining(node), None
        self._queues.clear()
        for node in nodes:
            self._push(node)

    def resources_of(self, node: PlanNode) -> Resources:
        """What a node takes: what the stage does that it lies in."""
        return self._resources(node.path.stretches[node.path.index(node.start)].call)

    # --- queues -------------------------------------------------------------------------------

    def _nodes(self) -> list[PlanNode]:
        """All nodes of the plan, each after its parent."""
        return [node for node in self.plan.tree if isinstance(node, PlanNode)]

    def _note_order(self, node: PlanNode) -> None:
        if node.order < 0:
            node.order = next(self._orders)

    def _priority(self, node: PlanNode) -> tuple[float, ...]:
        self._note_order(node)
        return self.policy.priority(node, node.order)

    def _push(self, node: PlanNode) -> None:
        if node.must_run:
            priority = self._priority(node)  # also notes that it is needed now
            if node.queued != priority and node.is_ready:
                node.queued = priority
                queue = self._queues.setdefault(self.resources_of(node), [])
                heapq.heappush(queue, (priority, next(self._pushes), node))

    def _clean(self, queue: list[tuple[tuple[float, ...], int, PlanNode]]) -> bool:
        """Drop what is no longer true from the front; whether anything is left."""
        while queue:
            priority, _, node = queue[0]
            if node.is_ready and priority == self._priority(node):
                return True
            heapq.heappop(queue)
            if node.queued == priority:
                node.queued = None
        return False

    def _first_child(self, node: PlanNode, resources: Resources) -> PlanNode | None:
        """Where a batch goes on: the first child that nobody runs, if it needs no more.

        A child that needs less of a GPU is left for a batch of its own: it may take long, and what
        waits for the GPU must not wait for it.
        """
        children = [
            child
            for child in node.children.values()
            if child.must_run and not child.is_running
            for needs in [self.resources_of(child)]
            if needs.num_cpus <= resources.num_cpus and needs.num_gpus == resources.num_gpus
        ]
        return min(children, key=self._priority, default=None)

    # --- remaining times ----------------------------------------------------------------------

    def follow(self) -> None:
        """Take in what has changed in the plan. `next` does; after each request it is less."""
        changed = self.plan.execution.take_changed()
        for node in changed:  # which grows on the way, by nodes that need no more than a push
            if node.must_run and node.remaining == 0.0:
                self._rise(node, self._remaining(node), changed)
            elif not node.must_run and node.remaining > 0.0:
                self._fall(node, changed)
        for node in dict.fromkeys(changed):
            self._push(node)

    def _remaining(self, node: PlanNode) -> float:
        """The longest remaining time through a node, from its children's."""
        if not node.must_run:
            return 0.0
        below = max((c.remaining for c in node.children.values() if c.must_run), default=0.0)
        return self.costs(node) + below

    def _rise(self, node: PlanNode, remaining: float, changed: list[PlanNode]) -> None:
        """Raise a node's remaining time, and those above it that it rules."""
        each: PlanNode | None = node
        while each is not None and each.must_run and remaining > each.remaining:
            each.remaining = remaining
            if each is not node:
                changed.append(each)
            each = each.parent
            if each is not None and each.must_run:
                remaining += self.costs(each)

    def _fall(self, node: PlanNode, changed: list[PlanNode]) -> None:
        """A node need not run any more: lower those above it that it ruled."""
        before, each = node.remaining, node.parent
        node.remaining = 0.0
        while each is not None and each.must_run and each.remaining > 0.0:
            ruled = before + self.costs(each) >= each.remaining
            remaining = self._remaining(each) if ruled else each.remaining
            if remaining == each.remaining:
                return
            before, each.remaining = each.remaining, remaining
            changed.append(each)
            each = each.parent
