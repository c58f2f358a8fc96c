"""The stage tree: the paths of all trials merged into one tree, in which common prefixes are one.

A node is a stretch of positions `[start, stop)` that belongs to the paths of some trials. Its key
is the content key of the state at `stop` (`eeipu.stages.paths`). The root stands for the inputs.
Trials share their nodes up to the position where their paths part (stage trees: Shin et al. 2019,
arXiv 1911.10504; Hippo: Shin et al., arXiv 2006.11972).

Where a call gets several outputs, as in a graph of stages, a path ends at each of them and another
one begins at the root, whose first node *joins* the nodes at which these paths end.

A node ends at a cut of a path through it, where a requested path ends, or where two paths part,
and nowhere else. The tree therefore depends on its paths only, and not on their order. A path that
ends or parts inside a node splits the node in two.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from rich.text import Text
from rich.tree import Tree

from eeipu.counts import counted
from eeipu.errors import ConfigurationError
from eeipu.html_drawings import Bar, bars_svg
from eeipu.html_tables import box
from eeipu.stages.paths import Kind, Path, Stretch, common_length, steps_in_all

__all__ = ["CriticalPath", "Node", "StageTree"]

Cost = Callable[["Node"], float]


class Node:
    """A stretch of positions that all paths through it share.

    Attributes:
        key: The content key of the state at its end.
        parent: The node that ends where this one begins; `None` for the root.
        path: Any path through the node.
        start: Its first position.
        stop: The position after its last one.
        children: The nodes that begin where this one ends, by the labels of their first calls.
        sources: Where the node joins outputs: the nodes that they are of, in the order of the
            arguments, and `None` for the run's inputs. Its parent is the root then.
        joins: The nodes that join the output of this one and others.
    """

    __slots__ = ("_steps", "children", "joins", "key", "parent", "path", "sources", "start", "stop")

    def __init__(self, key: str, parent: "Node | None", path: Path, start: int, stop: int) -> None:
        self.key = key
        self.parent = parent
        self.path = path
        self.start = start
        self.stop = stop
        self.children: dict[str, Node] = {}
        self.sources: tuple[Node | None, ...] = ()
        self.joins: list[Node] = []
        self._steps: int | None = None

    def __repr__(self) -> str:
        return f"Node({self.describe()!r})"

    @property
    def steps(self) -> int:
        """The number of steps that the node counts; see `Path.steps`."""
        if self._steps is None:
            self._steps = self.path.steps(self.start, self.stop)
        return self._steps

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """The stretches of the node, one for each call."""
        return tuple(self.path.between(self.start, self.stop))

    @property
    def first(self) -> Stretch:
        """The stretch of the path in which the node begins; it may begin and end outside."""
        return self.path.stretches[self.path.index(self.start)]

    @property
    def last(self) -> Stretch:
        """The stretch of the path in which the node ends; it may begin and end outside."""
        return self.path.stretches[self.path.index(self.stop - 1)]

    @property
    def above(self) -> "tuple[Node, ...]":
        """The nodes whose outputs it begins from: its parent, or those that it joins."""
        if not self.sources:
            return () if self.parent is None else (self.parent,)
        return tuple(dict.fromkeys(each for each in self.sources if each is not None))

    @property
    def below(self) -> "Iterable[Node]":
        """The nodes that begin from its output: its children, and those that join it."""
        children = self.children.values()
        return chain(children, self.joins) if self.joins else children

    def ancestry(self) -> Iterator["Node"]:
        """Yield this node and those above it, each once, without the root."""
        node = self
        while node.parent is not None and not node.sources:
            yield node
            node = node.parent
        seen: set[str] = set()
        stack = [node]
        while stack:
            node = stack.pop()
            if node.parent is not None and node.key not in seen:
                seen.add(node.key)
                yield node
                stack.extend(reversed(node.above))

    def describe(self) -> str:
        """Return the node's stage, steps and hyper-parameters as a text for people."""
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
        given = [f"<- {each.path.stretches[-1].call.stage}" for each in self.above if self.sources]
        return " ".join([name, *values, *given])


@dataclass(frozen=True)
class CriticalPath:
    """The most expensive path from the root. No number of workers can be faster.

    Attributes:
        nodes: The nodes of the path, first to last.
        cost: The sum of their costs.
    """

    nodes: tuple[Node, ...]
    cost: float


# More than 15 methods, because seven of them are Python's protocols of a container that can be
# compared and printed, and leave little to learn.
class StageTree:
    """The paths of trials, merged by their common prefixes.

    It is iterated over without its root, each node after those that it begins from; `len`, `in` and
    `[]` take the keys of nodes; trees with the same nodes in the same places are equal;
    `rich.print` and notebooks draw it.

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
        self._most_steps: dict[Hashable, int] = {}
        self._requested = self._distinct = 0

    @classmethod
    def build(cls, trials: Mapping[Hashable, Path] | Iterable[Path]) -> "StageTree":
        """Build the tree of these trials.

        Args:
            trials: Trial -> path, or just paths, whose trials are then numbered.
        """
        tree = cls()
        named = trials.items() if isinstance(trials, Mapping) else enumerate(trials)
        for trial, path in named:
            tree.add(path, trial=trial)
        return tree

    def merge(self, *others: "StageTree") -> "StageTree":
        """Return the tree of the trials of this tree and the others.

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
        """Add a path, or its beginning.

        Args:
            path: The path.
            stop: The position up to which it is added; by default its end.
            trial: The trial that the path belongs to, so that its steps count as requested. A
                trial may be added again with a longer path.

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
        for source in path.sources:
            if source is not None:
                self.add(source)
        node = self.root
        while node.stop < stop:
            node = self._descend(node, path, stop)
        if trial is not None:
            steps, before = steps_in_all(path, stop), self._most_steps.get(trial, 0)
            if steps >= before:
                self._requested += steps - before
                self._ends[trial], self._most_steps[trial] = (path, stop), steps
        return node

    def _descend(self, node: Node, path: Path, stop: int) -> Node:
        """Return the child of a node that a path goes through, after making or splitting it."""
        start = node.stop
        end = min(path.next_cut(start), stop)
        label = path.label(start)
        child = node.children.get(label)
        if child is None:
            child = node.children[label] = self._make(path, node, start, end)
            self._distinct += child.steps
            if path.sources and start == 0:
                ends = [None if p is None else self[p.key(len(p))] for p in path.sources]
                child.sources = tuple(ends)
                for above in child.above:
                    above.joins.append(child)
            return child
        end = common_length(path, child.path, start, min(end, child.stop))
        return child if end == child.stop else self.split(child, end)

    def split(self, node: Node, position: int) -> Node:
        """Cut a node in two at a position inside it.

        Returns:
            The new upper part. The node itself becomes the lower part and keeps its key, which
            is that of the state at its end.

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
        for above in node.above if node.sources else ():
            above.joins[above.joins.index(node)] = upper
        upper.sources, node.sources = node.sources, ()
        node.parent, node.start, node._steps = upper, position, None
        return upper

    def _make(self, path: Path, parent: Node | None, start: int, stop: int) -> Node:
        """Make a node, which the caller adds to its parent. Subclasses override this."""
        node = Node(path.key(stop), parent, path, start, stop)
        if parent is not None:
            self._nodes[node.key] = node
        return node

    def __iter__(self) -> Iterator[Node]:
        """Yield all nodes but the root, each after those that it begins from."""
        stack = sorted(self.root.children.values(), key=lambda node: -node.path.depth)
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
        """Whether two trees have the same nodes in the same places."""
        return isinstance(other, StageTree) and _shape(self) == _shape(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def requested_steps(self) -> int:
        """The number of steps of all trials, if each ran by itself."""
        return self._requested

    @property
    def distinct_steps(self) -> int:
        """The number of steps of all nodes, which is what is left after merging."""
        return self._distinct

    @property
    def merge_rate(self) -> float:
        """Requested steps divided by distinct steps; 1 for an empty tree."""
        distinct = self.distinct_steps
        return self.requested_steps / distinct if distinct else 1.0

    def critical_path(self, cost: Cost | None = None) -> CriticalPath:
        """Return the most expensive path from the root.

        Args:
            cost: A function that returns the cost of a node; by default its number of steps.
        """
        cost = cost if cost is not None else (lambda node: node.steps)
        longest: dict[Node, float] = {self.root: 0.0}
        before: dict[Node, Node] = {}
        last = self.root
        for node in self:
            before[node] = max(node.above, key=longest.__getitem__, default=self.root)
            longest[node] = longest[before[node]] + cost(node)
            if longest[node] > longest[last]:
                last = node
        nodes, each = [], last
        while each is not self.root:
            nodes.append(each)
            each = before[each]
        return CriticalPath(tuple(nodes[::-1]), longest[last])

    def __rich__(self) -> Tree:
        return _drawing(self)

    def _repr_html_(self) -> str:
        return box(_title(self), bars_svg(_bars(self)))


def _shape(tree: StageTree) -> set[tuple[str, str, int]]:
    return {(n.parent.key, n.key, n.stop) for n in tree if n.parent is not None}


def _title(tree: StageTree) -> str:
    return (
        f"{counted(len(tree._ends), 'trial')}, {counted(len(tree), 'node')}, "
        f"{counted(tree.requested_steps, 'step')} requested, "
        f"{tree.distinct_steps} distinct: merge rate {tree.merge_rate:.2f}"
    )


def _counts(tree: StageTree) -> dict[str, int]:
    """How many trials share each node, by its key."""
    shared: dict[str, int] = {}
    for path, stop in tree._ends.values():
        for node in tree[path.key(stop)].ancestry():
            shared[node.key] = shared.get(node.key, 0) + 1
    return shared


def _bars(tree: StageTree) -> list[Bar]:
    """The nodes as bars, as long as their steps; a node that counts none is one step long."""
    shared, places = _counts(tree), {tree.root.key: -1}
    bars: list[Bar] = []
    for node in tree:
        assert node.parent is not None
        count, above = shared.get(node.key, 0), places[node.parent.key]
        label = node.describe() + (f" x{count}" if count > 1 else "")
        places[node.key] = len(bars)
        bars.append(Bar(label, None if above < 0 else above, max(1, node.steps), count > 1))
    return bars


def _drawing(tree: StageTree) -> Tree:
    """Draw what each node does and how many trials share it."""
    shared, drawing = _counts(tree), Tree(_title(tree))
    branches = {tree.root.key: drawing}
    for node in tree:
        assert node.parent is not None
        count = shared.get(node.key, 0)  # none at the early rungs of trials that went on
        line = Text(node.describe(), style="bold" if count > 1 else "")
        line.append(f"  x{count}" if count else "")
        branches[node.key] = branches[node.parent.key].add(line)
    return drawing
