"""What a cluster is to a plan: it offers resources, takes batches, and reports on their nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.scheduler import Batch, Resources

__all__ = ["Cluster", "Outcome", "Report"]


class Outcome(StrEnum):
    """What became of a node that a worker had."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"  # its worker died under it
    STOPPED = "stopped"  # it was not begun, or was ended by what may be no fault of its own
    MISSING = "missing"  # its state, which was needed to begin, is gone


@dataclass(frozen=True)
class Report:
    """What became of a node.

    Attributes:
        node: The node.
        outcome: What became of it.
        cost_s: Seconds that the worker spent on it.
        value: What a plain stage or an evaluation returned.
        error: The traceback, where it failed.
        following: The node that the worker goes on with, if it does.
    """

    node: PlanNode
    outcome: Outcome
    cost_s: float = 0.0
    value: Any = None
    error: str | None = None
    following: PlanNode | None = None


class Cluster(Protocol):
    """Workers, and a clock that may be virtual."""

    def renew(self) -> None:
        """Follow values that the stages' code uses and that have changed."""
        ...

    def now(self) -> float:
        """Seconds since the cluster began."""
        ...

    def offers(self) -> Sequence[Resources]:
        """What single workers have free, the largest first; none that has nothing."""
        ...

    def submit(self, batch: Batch) -> None:
        """Give a batch to a worker that has room for it."""
        ...

    def split(self, upper: PlanNode, lower: PlanNode) -> bool:
        """A running node was split: whether its worker will report the upper part on its way."""
        ...

    def recall(self, node: PlanNode) -> Sequence[PlanNode]:
        """Take back a node that follows in a batch, and those after it, if they are not begun."""
        ...

    def wait(self) -> Sequence[Report] | None:
        """What has happened next; `None` if nothing runs and no worker is to come back."""
        ...

    def drain(self) -> Sequence[Report]:
        """End all batches after the nodes that they are in; what has become of their nodes."""
        ...
