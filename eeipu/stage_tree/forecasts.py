"""How long a plan will take under an order of its nodes, if nothing else comes.

The longest path first is a good order, but now and then another one ends sooner, as for all list
scheduling of nodes that are not interrupted (Graham 1969, "Bounds on multiprocessing timing
anomalies"). A forecast runs the nodes on so many workers in virtual time, as the scheduler would.
It has to go on from where the run is, or a run that follows the better order changes to the other:
nodes that run have a part behind them, and of equal ends that of the node that began first counts.
"""

import heapq
from collections.abc import Callable, Iterable
from itertools import count

from eeipu.stage_tree.nodes import PlanNode

__all__ = ["Order", "forecast_s"]

Order = Callable[[PlanNode], tuple[float, ...]]
"""A node's priority; the smallest comes first."""


def forecast_s(
    nodes: Iterable[PlanNode],
    costs: Callable[[PlanNode], float],
    workers: int,
    order: Order,
    *,
    goes_on: bool,
    recalls: bool,
    past: Callable[[PlanNode], float],
    after: PlanNode | None = None,
) -> float:
    """How long the nodes of a plan that have to run will take.

    Args:
        nodes: These nodes.
        costs: Node -> what it is estimated to cost.
        workers: The number of workers; each takes any node.
        order: The priority of a node.
        goes_on: Whether a worker goes on to a node below the one that it has run.
        recalls: Whether it does so only where no other node comes before that one.
        past: Node that runs -> what it has cost so far.
        after: The node that has just run, by the worker that takes the first one.
    """
    run = _Run(costs, order, goes_on, recalls)
    running, waiting = [], []
    for node in nodes:
        if node.is_running:
            running.append((-past(node), node.order, node))
        else:
            run.missing[node] = sum(up.must_run for up in node.above)
            waiting.append(node)
    for begun, _, node in sorted(running):
        run.begin(node, -begun)
    for node in waiting:
        if run.missing[node] == 0:
            run.push(node)
    return run.until_the_end(workers, after)


class _Run:
    """A run in virtual time."""

    def __init__(
        self, costs: Callable[[PlanNode], float], order: Order, goes_on: bool, recalls: bool
    ) -> None:
        self.missing: dict[PlanNode, int] = {}  # how many of the nodes above have not run
        self._costs, self._order = costs, order
        self._goes_on, self._recalls = goes_on, recalls
        self._numbers = count()
        self._now_s = 0.0
        self._ready: list[tuple[tuple[float, ...], int, PlanNode]] = []
        self._running: list[tuple[float, int, PlanNode]] = []
        self._begun: set[PlanNode] = set()

    def push(self, node: PlanNode) -> None:
        """Add a node that is ready."""
        heapq.heappush(self._ready, (self._order(node), next(self._numbers), node))

    def begin(self, node: PlanNode, past: float = 0.0) -> None:
        """Let a worker run a node, which has cost something so far if it runs already."""
        self._begun.add(node)
        ends_s = self._now_s + max(0.0, self._costs(node) - past)
        heapq.heappush(self._running, (ends_s, next(self._numbers), node))

    def until_the_end(self, workers: int, after: PlanNode | None) -> float:
        """Run all nodes, and return the time of the last end."""
        if after is not None:
            self._go_on(after)
        while True:
            while len(self._running) < workers and (node := self._first()) is not None:
                heapq.heappop(self._ready)
                self.begin(node)
            if not self._running:
                return self._now_s
            self._now_s, _, ended = heapq.heappop(self._running)
            for node in ended.below:
                if node in self.missing:
                    self.missing[node] -= 1
                    if self.missing[node] == 0:
                        self.push(node)
            self._go_on(ended)

    def _go_on(self, ended: PlanNode) -> None:
        """Let the worker of a node go on to one below it, where it does so."""
        if not self._goes_on:
            return
        ready = [n for n in ended.below if self.missing.get(n) == 0 and n not in self._begun]
        following = min(ready, key=self._order, default=None)
        first = self._first() if self._recalls else None
        if following is None:
            return
        if first is None or self._order(following)[0] <= self._order(first)[0]:
            self.begin(following)

    def _first(self) -> PlanNode | None:
        while self._ready and self._ready[0][2] in self._begun:
            heapq.heappop(self._ready)
        return self._ready[0][2] if self._ready else None
