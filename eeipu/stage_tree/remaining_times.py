"""How long a plan still takes from each node on, along its longest path.

The times follow the plan as requests come and nodes end, along the ways to the root for each
change. They are computed for the whole tree only where cost estimates change by much.
"""

from collections.abc import Callable, Iterable

from eeipu.stage_tree.nodes import PlanNode

__all__ = ["RemainingTimes"]


class RemainingTimes:
    """Keeps `PlanNode.remaining`: the cost of the costliest path through a node to the end.

    It is 0 for nodes that need not run.

    Args:
        costs: Node -> what it is estimated to cost.
    """

    def __init__(self, costs: Callable[[PlanNode], float]) -> None:
        self._costs = costs

    def compute(self, nodes: Iterable[PlanNode]) -> None:
        """Compute the times of all nodes of a tree anew; they come those below first."""
        for node in nodes:
            node.remaining = self._through(node)

    def follow(self, node: PlanNode) -> list[PlanNode]:
        """Take in that a node has to run, or need not run any more.

        Returns:
            The nodes above it whose times have changed.
        """
        if node.must_run and node.remaining == 0.0:
            return self._rise(node)
        if not node.must_run and node.remaining > 0.0:
            return self._fall(node)
        return []

    def own(self, node: PlanNode) -> float:
        """What a node that has to run takes by itself, as it was estimated for these times."""
        below: float = max((c.remaining for c in node.below if c.must_run), default=0.0)
        return node.remaining - below

    def _through(self, node: PlanNode) -> float:
        if not node.must_run:
            return 0.0
        below = max((c.remaining for c in node.below if c.must_run), default=0.0)
        return self._costs(node) + below

    def _rise(self, node: PlanNode) -> list[PlanNode]:
        """Raise the time of a node, and of those above it whose longest path goes through it."""
        raised = []
        stack = [(node, self._through(node))]
        while stack:
            each, remaining = stack.pop()
            if each.must_run and remaining > each.remaining:
                each.remaining = remaining
                raised.append(each)
                stack += [(up, remaining + self._costs(up)) for up in each.above if up.must_run]
        return raised[1:]

    def _fall(self, node: PlanNode) -> list[PlanNode]:
        """Lower the times of the nodes whose longest path went through this one."""
        lowered = []
        stack = [(node, node.remaining)]
        node.remaining = 0.0
        while stack:
            child, before = stack.pop()
            for each in child.above:
                if not each.must_run or before + self._costs(each) < each.remaining:
                    continue
                remaining = self._through(each)
                if remaining != each.remaining and each.remaining > 0.0:
                    stack.append((each, each.remaining))
                    each.remaining = remaining
                    lowered.append(each)
        return lowered
