"""Which nodes of a plan have to run, and to which states somebody refers.

Both are counts that change along one path from a node towards the root, so that every change costs
as much as a path is deep.

States are the outputs of nodes: checkpoints of training, outputs of plain stages. They live in a
`StageCache` under the nodes' keys, or nowhere, as in simulations. A state is referred to by
children that have to run and by trials that may go on from it; those that nobody refers to are
the first to go when the cache is full, checkpoints before outputs, as a checkpoint may need what
its stage began from.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from eeipu.cache import StageCache
from eeipu.stage_tree.database import NodeRow, PlanStore
from eeipu.stage_tree.nodes import PlanNode

__all__ = ["Owner", "PlanStates"]

Owner = tuple[str, int]
"""A trial: its study and its number."""

# Part of the cache's limit that states nobody refers to may fill, so that the next one fits.
SPARE_SHARE = 0.75


class PlanStates:
    """What is there of a plan's nodes, and what is still to be made.

    Args:
        cache: Where states are kept; `None`: nodes have a state once they ran.
        store: Where it is noted.
    """

    def __init__(self, cache: StageCache | None, store: PlanStore) -> None:
        self._cache = cache
        self._store = store
        self._held: dict[Owner, PlanNode] = {}
        self._released = set(store.releases())
        self._checkpoints: dict[str, PlanNode] = {}  # that nobody refers to, oldest first
        self._outputs: dict[str, PlanNode] = {}  # likewise
        self._changed: list[PlanNode] = []

    def take_changed(self) -> list[PlanNode]:
        """The nodes since the last call that may have become ready, or cost more or less."""
        changed, self._changed = self._changed, []
        return changed

    def mark(self, *nodes: PlanNode) -> None:
        """Note that nodes have changed."""
        self._changed += nodes

    def need(self, node: PlanNode, by: int) -> None:
        """Add to what a node is needed for, and up the tree as far as that changes anything."""
        each: PlanNode | None = node
        while each is not None:
            before = each.must_run
            each.needs += by
            self._note_references(each)
            self.mark(each)
            if each.must_run == before:
                return
            each = each.parent

    def set(self, node: PlanNode, *, has_state: bool) -> None:
        """Note that a node's state is there or not."""
        before = node.must_run
        node.has_state = has_state
        self.save(node)
        self._note_references(node)
        self._pass_on(node, before)
        self.mark(node, *(child for child in node.children.values() if child.must_run))

    def clear(self, node: PlanNode) -> None:
        """Let a node that has failed run again, for whom it is needed."""
        before = node.must_run
        node.error, node.losses = None, 0
        self.save(node)
        self._pass_on(node, before)
        self.mark(node)

    def _pass_on(self, node: PlanNode, had_to_run: bool) -> None:
        if node.must_run != had_to_run and node.parent is not None:
            self.need(node.parent, 1 if node.must_run else -1)

    def look_for(self, nodes: Iterable[PlanNode]) -> Iterator[PlanNode]:
        """Take over the states of nodes that others have left in the cache; those nodes."""
        for node in nodes:
            if self._cache is not None and node.key in self._cache:
                node.cost_s = self._cache.cost(node.key)
                self.set(node, has_state=True)
                yield node

    def restore(self, row: NodeRow, node: PlanNode) -> None:
        """Take over what is stored of a node; its state where that is still there."""
        node.cost_s, node.payer, node.value = row.cost_s, row.payer, row.value
        node.error, node.losses = row.error, row.losses
        is_kept = self._cache is None or node.key in self._cache or node.value is not None
        node.has_state = row.has_state and is_kept
        self._note_references(node)

    def save(self, node: PlanNode) -> None:
        """Store what is known of a node."""
        self._store.put_node(
            NodeRow(
                node.key,
                node.cost_s,
                node.payer,
                node.value,
                node.error,
                node.has_state,
                node.losses,
            )
        )

    # --- references ---------------------------------------------------------------------------

    def hold(self, owner: Owner, node: PlanNode, *, anew: bool = True) -> None:
        """Keep the last state of a trial, from which it may go on, in the place of an earlier one.

        Args:
            owner: The trial.
            node: The node that ends its path.
            anew: Also where the trial was released before.
        """
        if owner in self._released:
            if not anew:
                return
            self._released.discard(owner)
            self._store.set_released(*owner, is_released=False)
        self._let_go(owner)
        if not node.is_training and node.parent is not None:
            node = node.parent
        self._held[owner] = node
        node.holds += 1
        self._note_references(node)

    def release(self, owner: Owner) -> None:
        """A trial will not go on, for good."""
        if self._let_go(owner):
            self._released.add(owner)
            self._store.set_released(*owner, is_released=True)

    def _let_go(self, owner: Owner) -> bool:
        node = self._held.pop(owner, None)
        if node is None:
            return False
        node.holds -= 1
        self._note_references(node)
        return True

    def _note_references(self, node: PlanNode) -> None:
        if node.parent is None:
            return
        unreferenced = self._checkpoints if node.is_training else self._outputs
        if node.has_state and node.needs == node.holds == 0:
            unreferenced[node.key] = node
        else:
            unreferenced.pop(node.key, None)

    def trim(self, max_bytes: float | None = None) -> list[str]:
        """Drop states that nobody refers to; see `SearchPlan.trim`."""
        if self._cache is None:
            return []
        if max_bytes is None:
            if self._cache.max_bytes is None:
                return []
            max_bytes = SPARE_SHARE * self._cache.max_bytes
        dropped = []
        while self._cache.stats().size_bytes > max_bytes:
            node = next(chain(self._checkpoints.values(), self._outputs.values()), None)
            if node is None:
                break
            self.set(node, has_state=False)
            self._cache.discard([node.key])
            dropped.append(node.key)
        return dropped
