"""Estimates of what the nodes of a plan will cost, learnt from those that have run."""

from collections.abc import Callable

from eeipu.stage_tree.nodes import PlanNode
from eeipu.stages.paths import Call

__all__ = ["CostEstimates"]

# A stage counts as much dearer or cheaper than was known from this ratio on.
STALE = 1.25


class CostEstimates:
    """What a node will cost: in seconds, or in the unit in which its stage declares its cost.

    Args:
        prior: Call -> what one step of it costs, for stages of which nothing was measured; one by
            default. A tuner's cost models can answer here.
    """

    def __init__(self, prior: Callable[[Call], float] | None = None) -> None:
        self._prior = prior if prior is not None else lambda call: 1.0  # noqa: ARG005
        self._totals: dict[str, tuple[float, int]] = {}
        self._known: dict[str, float] = {}  # cost of a step when last told

    def observe(self, node: PlanNode, cost_s: float) -> bool:
        """Learn from a node that has run.

        Args:
            node: The node.
            cost_s: What it cost.

        Returns:
            Whether earlier estimates are out of date, because the mean cost of the stage has
            changed by a factor of more than `STALE`.
        """
        length = node.stop - node.start
        first = node.first
        stage = _stage_name(first.call)
        for name in {stage, *(part.label for part in node.stretches)}:
            cost, positions = self._totals.get(name, (0.0, 0))
            self._totals[name] = (cost + cost_s, positions + length)
        cost, positions = self._totals[stage]
        known = self._known.setdefault(stage, self._prior(first.call))
        if known / STALE <= cost / positions <= known * STALE:
            return False
        self._known[stage] = cost / positions
        return True

    def __call__(self, node: PlanNode) -> float:
        """The estimate: by the mean of equal calls, of the stage, or by the prior."""
        return sum(
            (part.stop - part.start) * self._rate(part.call, part.label) for part in node.stretches
        )

    def _rate(self, call: Call, label: str) -> float:
        for name in (label, _stage_name(call)):
            if name in self._totals:
                cost, positions = self._totals[name]
                return cost / positions
        return self._prior(call)


def _stage_name(call: Call) -> str:
    return f"{call.stage} {call.kind}"  # a label is a digest, and has no space
