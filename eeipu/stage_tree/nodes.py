"""The nodes of a search plan, and the requests that wait for them.

A node has to run when a request ends at it, or a child has to run that starts from it, and its
state is not there; it is ready when its parent's state is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from eeipu.stage_tree.tree import Node, StageTree
from eeipu.stages.paths import Kind, Path

__all__ = [
    "Answer",
    "PlanNode",
    "PlanTree",
    "Request",
    "RequestState",
    "error_of",
    "first_waiting",
    "waiting_below",
]


class RequestState(StrEnum):
    """What has become of a request."""

    OPEN = "open"
    ANSWERED = "answered"
    FAILED = "failed"  # answered by an error
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Request:
    """A trial's wish for a path to be run. Made by `SearchPlan.request`, which changes its state.

    Attributes:
        id: Counts requests of all studies in the order they were made.
        study: Who asks; `trial`: for which trial.
        node: The node that ends the path.
        steps: How many steps the path counts.
        state: What has become of it.
    """

    id: int
    study: str
    trial: int
    node: "PlanNode"
    steps: int
    state: RequestState = RequestState.OPEN


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gave.

    Attributes:
        request: The request.
        value: What the last stage of the path returned; `None` after training alone.
        error: Why there is no value, where a node of the path failed.
    """

    request: Request
    value: Any = None
    error: str | None = None


class PlanNode(Node):
    """A node of the plan's tree.

    Attributes:
        has_state: Whether its state, or for a last node its value, is there.
        is_running: Whether a worker has it.
        needs: Open requests that end here, and children that have to run.
        holds: Trials that may go on from its state.
        requests: The open requests that end here.
        cost_s: Seconds it took, or was estimated to take when a longer node was split.
        payer: The study that it was run for.
        value: What a plain stage or an evaluation returned, where a request ended here.
        error: Why it failed.
        losses: How often a worker died under it.
        remaining: Kept by a scheduler: the longest remaining time through it.
        order: Kept by a scheduler: how many nodes were needed before it; negative: not yet.
        queued: Kept by a scheduler: the priority under which it waits, if it does.
    """

    __slots__ = (
        "cost_s",
        "error",
        "has_state",
        "holds",
        "is_running",
        "losses",
        "needs",
        "order",
        "payer",
        "queued",
        "remaining",
        "requests",
        "value",
    )
    parent: "PlanNode | None"
    children: dict[str, "PlanNode"]  # type: ignore[assignment]

    def __init__(self, key: str, parent: Node | None, path: Path, start: int, stop: int) -> None:
        super().__init__(key, parent, path, start, stop)
        self.has_state = parent is None  # the inputs are always there
        self.is_running = False
        self.needs = self.holds = self.losses = 0
        self.requests: tuple[Request, ...] = ()
        self.cost_s: float | None = None
        self.payer: str | None = None
        self.value: Any = None
        self.error: str | None = None
        self.remaining = 0.0
        self.order = -1
        self.queued: tuple[float, ...] | None = None

    def ancestry(self) -> Iterator["PlanNode"]:
        """This node and those above it, without the root."""
        return super().ancestry()  # type: ignore[return-value]

    @property
    def must_run(self) -> bool:
        """Whether somebody needs what it would make."""
        return self.needs > 0 and not self.has_state and self.error is None

    @property
    def is_ready(self) -> bool:
        """Whether it can run now, and somebody waits for it."""
        return (
            self.must_run
            and not self.is_running
            and self.parent is not None
            and self.parent.has_state
            # Children that run already took their state from further up (they were split off).
            and (
                bool(self.requests)
                or any(c.must_run and not c.is_running for c in self.children.values())
            )
        )

    @property
    def is_training(self) -> bool:
        """Whether it ends inside or at the end of training, so that it has no value of its own."""
        return self.path.stretches[self.path.index(self.stop - 1)].call.kind is Kind.TRAINING


class PlanTree(StageTree):
    """The tree of a plan, which notes what was made and split."""

    def __init__(self) -> None:
        self.made: list[PlanNode] = []
        self.splits: list[tuple[PlanNode, PlanNode]] = []
        super().__init__()

    def _make(self, path: Path, parent: Node | None, start: int, stop: int) -> Node:
        node = PlanNode(path.key(stop), parent, path, start, stop)
        if parent is not None:
            self._nodes[node.key] = node
        self.made.append(node)
        return node

    def split(self, node: Node, position: int) -> Node:
        """Cut a node in two; the upper part has no state, and costs its share."""
        share = (position - node.start) / (node.stop - node.start)
        upper = super().split(node, position)
        assert isinstance(node, PlanNode)
        assert isinstance(upper, PlanNode)
        upper.payer, upper.is_running = node.payer, node.is_running
        if node.cost_s is not None:
            upper.cost_s, node.cost_s = share * node.cost_s, (1.0 - share) * node.cost_s
        upper.needs = int(node.must_run)
        node.remaining = 0.0  # it is shorter now
        self.splits.append((upper, node))
        return upper


def error_of(node: PlanNode) -> str | None:
    """Why a node cannot run, where it or one that it has to start from has failed.

    What runs has begun from further up, and no longer depends on what fails there.
    """
    each: PlanNode | None = node
    while each is not None and not (each.has_state or each.is_running):
        if each.error is not None:
            return each.error
        each = each.parent
    return None


def first_waiting(node: PlanNode) -> str | None:
    """A study that waits for a node: the first that is found below it."""
    while not node.requests:
        below = next((child for child in node.children.values() if child.must_run), None)
        if below is None:
            return None
        node = below
    return node.requests[0].study


def waiting_below(node: PlanNode) -> Iterator[Request]:
    """The open requests that cannot be answered without a node."""
    stack = [node]
    while stack:
        each = stack.pop()
        yield from each.requests
        stack.extend(c for c in each.children.values() if c.must_run and not c.is_running)
