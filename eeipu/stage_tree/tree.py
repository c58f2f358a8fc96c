"""The stage tree: all trials as one, every common prefix once.

A node is a stretch of positions `[start, stop)` that some trials do alike, under the content key of
what is there at `stop` (`eeipu.stages.paths`); the root is what is there before anything is done.
Trials share nodes up to where they part (Shin et al. 2019, arXiv 1911.10504, stage trees; Shin et
al., Hippo, arXiv 2006.11972). Nodes end at the cuts of every path through them, where requests end,
and where paths part, and nowhere else; so the tree depends on its paths and not on their order. A
path that ends, or parts, inside a node splits it.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from rich.text import Text
from rich.tree import Tree

from eeipu.errors import ConfigurationError
from eeipu.stages.paths import Kind, Path, Stretch, common_length

__all__ = ["CriticalPath", "Node", "StageTree"]

Cost = Callable[["Node"], float]


class Node:
    """A stretch of positions that all paths through it share.

    Attributes:
        key: The content key of what is there at its end.
        parent: The node that ends where this one begins; `None` for the root.
        path: Any path through it.
        start: Its first position; `stop`: the first that is not its.
        children: The nodes that begin where this one ends, by what they do first.
    """

    __slots__ = ("_steps", "children", "key", "parent", "path", "start", "stop")

    def __init__(self, key: str, parent: "Node | None", path: Path, start: int, stop: int) -> None:
        self.key = key
        self.parent = parent
        self.path = path
        self.start = start
        self.stop = stop
        self.children: dict[str, Node] = {}
        self._steps: int | None = None

    def __repr__(self) -> str:
        return f"Node({self.describe()!r})"

    @property
    def steps(self) -> int:
        """How many steps it counts (`Path.steps`)."""
        if self._steps is None:
            self._steps = self.path.steps(self.start, self.stop)
        return self._steps

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """What is called in it, one call after another."""
        return tuple(self.path.between(self.start, self.stop))

    def ancestry(self) -> Iterator["Node"]:
        """This node and those above it, without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent

    def describe(self) -> str:
        """The node in words: stage, steps and hyper-parameters."""
        if self.parent is None:
            return "inputs"
        parts = self.stretches
        first, last = parts[0], parts[-1]
        call = first.call
        name = call.stage if call.kind is not Kind.EVALUATION else f"{call.stage} evaluation"
        if call.kind is Kind.TRAINING:
            name += f" [{self.start - first.origin}, {self.stop - first.origin})"
        values = [
            f"{param}={value!r}"
            + ("" if value == last.call.params[param] else f"..{last.call.params[param]!r}")
            for param, value in call.params.items()
        ]
        return " ".join([name, *values])


@dataclass(frozen=True)
class CriticalPath:
    """The costliest path from the root: no number of workers can be faster.

    Attributes:
        nodes: The nodes along it, first to last.
        cost: What they cost together.
    """

    nodes: tuple[Node, ...]
    cost: float


class StageTree:
    """Trials merged by their common prefixes.

    >>> from eeipu.stages.schedules import Constant, MultiStep
    >>> def fit(lr):
    ...     return Path().train("fit", "v1", {"lr": lr}, steps=90)
    >>> tree = StageTree.build({0: fit(Constant(0.1)), 1: fit(MultiStep(0.1, [30]))})
    >>> tree.requested_steps, tree.distinct_steps, tree.merge_rate
    (180, 150, 1.2)
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self.root = self._make(Path(), None, 0, 0)
        self._ends: dict[Hashable, tuple[Path, int]] = {}

    @classmethod
    def build(cls, trials: Mapping[Hashable, Path] | Iterable[Path]) -> "StageTree":
        """The tree of these trials.

        Args:
            trials: Trial -> path; or paths alone, which are then numbered.
        """
        tree = cls()
        named = trials.items() if isinstance(trials, Mapping) else enumerate(trials)
        for trial, path in named:
            tree.add(path, trial=trial)
        return tree

    def merge(self, *others: "StageTree") -> "StageTree":
        """The tree of this one's trials and the others'; each must have names of its own.

        Raises:
            ConfigurationError: Two trees have a trial of the same name.
        """
        merged = StageTree()
        for tree in (self, *others):
            for trial, (path, stop) in tree._ends.items():
                if trial in merged._ends:
                    raise ConfigurationError(
                        f"two trees have a trial {trial!r}; name them apart, such as "
                        f"(study, number)."
                    )
                merged.add(path, stop, trial=trial)
        return merged

    def add(self, path: Path, stop: int | None = None, *, trial: Hashable | None = None) -> Node:
        """Add a path up to position `stop`, whole by default.

        Args:
            path: What to do.
            stop: Where to end.
            trial: Who asks, for the number of requested steps; again and further is fine.

        Returns:
            The node that ends at `stop`.

        Raises:
            ConfigurationError: `stop` does not lie on the path.
        """
        stop = len(path) if stop is None else stop
        if not 0 < stop <= len(path):
            raise ConfigurationError(
                f"position {stop!r} does not lie on {path!r}; it must be in 1..{len(path)}."
            )
        node = self.root
        while node.stop < stop:
            node = self._descend(node, path, stop)
        if trial is not None and stop > self._ends.get(trial, (path, 0))[1]:
            self._ends[trial] = (path, stop)
        return node

    def _descend(self, node: Node, path: Path, stop: int) -> Node:
        """The child of `node` that `path` goes through, made or split to fit."""
        start = node.stop
        end = min(path.next_cut(start), stop)
        label = path.label(start)
        child = node.children.get(label)
        if child is None:
            child = node.children[label] = self._make(path, node, start, end)
            return child
        end = common_length(path, child.path, start, min(end, child.stop))
        return child if end == child.stop else self.split(child, end)

    def split(self, node: Node, position: int) -> Node:
        """Cut a node in two at a position inside it.

        Returns:
            The new upper part. The node itself becomes the lower part and keeps its key, which
            stands for what is there at its end.

        Raises:
            ConfigurationError: The position does not lie inside the node.
        """
        if not node.start < position < node.stop or node.parent is None:
            raise ConfigurationError(
                f"position {position!r} does not lie inside {node!r}, "
                f"which has the positions {node.start}..{node.stop}."
            )
        upper = self._make(node.path, node.parent, node.start, position)
        node.parent.children[node.path.label(node.start)] = upper
        upper.children[node.path.label(position)] = node
        node.parent, node.start, node._steps = upper, position, None
        return upper

    def _make(self, path: Path, parent: Node | None, start: int, stop: int) -> Node:
        """A new node, which is not yet among its parent's children; here for subclasses."""
        node = Node(path.key(stop), parent, path, start, stop)
        if parent is not None:
            self._nodes[node.key] = node
        return node

    def __iter__(self) -> Iterator[Node]:
        """All nodes but the root, each after its parent."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, key: object) -> bool:
        return key in self._nodes

    def __getitem__(self, key: str) -> Node:
        return self._nodes[key]

    def __eq__(self, other: object) -> bool:
        """Whether two trees have the same nodes, in the same places."""
        return isinstance(other, StageTree) and self._shape == other._shape

    __hash__ = None  # type: ignore[assignment]

    @property
    def _shape(self) -> set[tuple[str, str, int]]:
        return {(n.parent.key, n.key, n.stop) for n in self if n.parent is not None}

    @property
    def requested_steps(self) -> int:
        """Steps that all trials ask for, each for itself."""
        return sum(path.steps(0, stop) for path, stop in self._ends.values())

    @property
    def distinct_steps(self) -> int:
        """Steps that are left after merging."""
        return sum(node.steps for node in self)

    @property
    def merge_rate(self) -> float:
        """Requested over distinct steps: how many times less there is to compute. 1 if empty."""
        distinct = self.distinct_steps
        return self.requested_steps / distinct if distinct else 1.0

    def critical_path(self, cost: Cost | None = None) -> CriticalPath:
        """The costliest path from the root.

        Args:
            cost: The cost of a node; by default its steps.
        """
        cost = cost if cost is not None else (lambda node: node.steps)
        longest: dict[str, float] = {self.root.key: 0.0}
        last = self.root
        for node in self:
            assert node.parent is not None
            longest[node.key] = longest[node.parent.key] + cost(node)
            if longest[node.key] > longest[last.key]:
                last = node
        return CriticalPath(tuple(last.ancestry())[::-1], longest[last.key])

    def draw(self) -> Tree:
        """The tree as text, for `rich.print`: what each node does, and how many trials share it."""
        shared: dict[str, int] = {}
        for path, stop in self._ends.values():
            for node in self._nodes[path.key(stop)].ancestry():
                shared[node.key] = shared.get(node.key, 0) + 1
        drawing = Tree(
            f"{len(self._ends)} trials, {len(self)} nodes, {self.requested_steps} steps requested, "
            f"{self.distinct_steps} distinct: merge rate {self.merge_rate:.2f}"
        )
        branches = {self.root.key: drawing}
        for node in self:
            assert node.parent is not None
            count = shared.get(node.key, 0)  # none at the early rungs of trials that went on
            line = Text(node.describe(), style="bold" if count > 1 else "")
            line.append(f"  x{count}" if count else "")
            branches[node.key] = branches[node.parent.key].add(line)
        return drawing

    def __rich__(self) -> Tree:
        return self.draw()
