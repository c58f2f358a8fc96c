"""The nodes of a search plan, and the requests that wait for them.

A node has to run while its output is not there and somebody needs it: a request that ends at the
node, or a child that has to run and starts from the output. It is ready to run when the output of
its parent is there. The output of a node, a checkpoint of training or what a plain stage returned,
is called its *state*.
"""

from collections.abc import Iterable, Iterator
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
    """The state of a request."""

    OPEN = "open"
    ANSWERED = "answered"
    FAILED = "failed"  # answered by an error
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Request:
    """A trial's request that a path be run. `SearchPlan.request` makes it and changes its state.

    Attributes:
        id: The request's number; requests of all studies are numbered in the order they were made.
        study: The study that asks.
        trial: The trial that the study asks for.
        node: The node at which the path ends.
        steps: The number of steps that the path counts.
        state: The request's state.
        answer: The answer, where it belongs to this request alone because the output that it was
            taken from was not kept. Otherwise `None`.
    """

    id: int
    study: str
    trial: int
    node: "PlanNode"
    steps: int
    state: RequestState = RequestState.OPEN
    answer: "Answer | None" = None

    @property
    def payer(self) -> tuple[str, int]:
        """The study and the trial that pay for what is run for the request."""
        return self.study, self.trial


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request.

    Attributes:
        request: The request.
        value: What the last stage of the path returned; `None` after training alone.
        error: The reason why there is no value, where a node of the path has failed.
    """

    request: Request
    value: Any = None
    error: str | None = None


class PlanNode(Node):
    """A node of the plan's tree.

    Attributes:
        has_state: Whether the node's state is there, or for a last node its value.
        is_in_hand: Whether the state is not in the cache but only with the runner, which hands it
            to one child and then forgets it. Such a state is never stored as being there.
        is_running: Whether a worker runs the node.
        needs: The number of open requests that end here plus that of children that have to run.
        holds: The number of trials that may go on from the node's state.
        requests: The open requests that end here, the longest waiting first.
        cost_s: Seconds that the node took; after a longer node was split, its share of them.
        payer: The study that the node was run for.
        value: What a plain stage or an evaluation returned, where a request ended here.
        error: The reason why the node has failed.
        losses: The number of workers that have died while they ran the node.
        remaining: The longest remaining time of a path through the node; kept by a scheduler.
        order: The number of nodes that were needed before this one; negative before a scheduler
            has seen it.
        began: When a worker has taken the node, by its clock; kept by a scheduler.
        queued: The priority under which the node waits in a scheduler's queue, if it does.
    """

    __slots__ = (
        "began",
        "cost_s",
        "error",
        "has_state",
        "holds",
        "is_in_hand",
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
    sources: "tuple[PlanNode | None, ...]"
    joins: "list[PlanNode]"  # type: ignore[assignment]
    # The same properties, whose nodes are these: a call of one that hands on to `super` takes long.
    above: "tuple[PlanNode, ...]"
    below: "Iterable[PlanNode]"

    def __init__(self, key: str, parent: Node | None, path: Path, start: int, stop: int) -> None:
        super().__init__(key, parent, path, start, stop)
        self.has_state = parent is None  # the inputs are always there
        self.is_in_hand = self.is_running = False
        self.needs = self.holds = self.losses = 0
        self.requests: tuple[Request, ...] = ()
        self.cost_s: float | None = None
        self.payer: str | None = None
        self.value: Any = None
        self.error: str | None = None
        self.remaining = 0.0
        self.order = -1
        self.began: float | None = None
        self.queued: tuple[float, ...] | None = None

    def ancestry(self) -> Iterator["PlanNode"]:
        """Yield this node and those above it, each once, without the root."""
        return super().ancestry()  # type: ignore[return-value]

    @property
    def must_run(self) -> bool:
        """Whether somebody needs the node's output, which is not there."""
        return self.needs > 0 and not self.has_state and self.error is None

    @property
    def is_ready(self) -> bool:
        """Whether the node can run now, and a request waits for it."""
        return (
            self.must_run
            and not self.is_running
            and self.parent is not None
            and all(each.has_state for each in self.above)
            and self._is_awaited
        )

    @property
    def _is_awaited(self) -> bool:
        """Whether a request waits for this node or for one below it.

        A node below that runs has begun from further up, and does not wait for this one.
        """
        # The first child that has to run nearly always leads to a request; a scheduler asks often.
        node: PlanNode | None = self
        while node is not None:
            if node.requests:
                return True
            node = next((c for c in node.below if c.must_run and not c.is_running), None)
        return next(waiting_below(self), None) is not None

    @property
    def has_waiting_child(self) -> bool:
        """Whether a child has to run that no worker runs yet."""
        return any(child.must_run and not child.is_running for child in self.below)

    @property
    def is_training(self) -> bool:
        """Whether the node ends inside or at the end of training, so that it has no value."""
        return self.last.call.kind is Kind.TRAINING


class PlanTree(StageTree):
    """The stage tree of a plan, which also remembers which nodes were made and split.

    Attributes:
        made: The nodes that were made, until somebody clears the list.
        splits: The upper and lower parts of nodes that were split, likewise.
    """

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
        """Cut a node in two; the upper part has no state, and a share of the cost."""
        share = (position - node.start) / (node.stop - node.start)
        upper = super().split(node, position)
        assert isinstance(node, PlanNode)
        assert isinstance(upper, PlanNode)
        upper.payer, upper.is_running = node.payer, node.is_running
        upper.began, node.began = node.began, None
        if node.cost_s is not None:
            upper.cost_s, node.cost_s = share * node.cost_s, (1.0 - share) * node.cost_s
        upper.needs = int(node.must_run)  # and its sources, if it has any, are needed as before
        node.remaining = 0.0  # it is shorter now
        self.splits.append((upper, node))
        return upper


def error_of(node: PlanNode) -> str | None:
    """Return why a node cannot run, where it or a node that it has to start from has failed.

    A node that runs has begun from further up, and does not depend on failures there.
    """
    stack = [node]
    while stack:
        each = stack.pop()
        if each.has_state or each.is_running:
            continue
        if each.error is not None:
            return each.error
        stack.extend(reversed(each.above))
    return None


def first_waiting(node: PlanNode) -> Request | None:
    """Return the first request found that waits for a node."""
    while not node.requests:
        below = next((child for child in node.below if child.must_run), None)
        if below is None:
            return None
        node = below
    return node.requests[0]


def waiting_below(node: PlanNode) -> Iterator[Request]:
    """Yield the open requests that cannot be answered without a run of this node, each once.

    The first is found without a look at all children, of which a node may have very many.
    """
    joined: set[str] = set()  # a node that joins outputs may be reached on several ways
    stack = [iter((node,))]
    while stack:
        each = next(stack[-1], None)
        if each is None:
            stack.pop()
            continue
        if each.sources:
            if each.key in joined:
                continue
            joined.add(each.key)
        yield from each.requests
        stack.append(c for c in each.below if c.must_run and not c.is_running)
