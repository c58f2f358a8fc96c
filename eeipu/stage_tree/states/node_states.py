"""Which nodes of a plan have a state, and which of them have to run.

Both are counts that change along one path from a node towards the root, so that a change takes
time in proportion to the depth of the path, however large the tree is. States are in a
`StageCache` under the nodes' keys, or nowhere, as in simulations.
"""

from collections.abc import Iterable

from eeipu.cache import StageCache
from eeipu.errors import CacheMiss
from eeipu.stage_tree.database import NodeRow, PlanDatabase
from eeipu.stage_tree.nodes import PlanNode, PlanTree
from eeipu.stage_tree.payments import Payments, Purpose
from eeipu.stage_tree.states.state_references import StateReferences, TrialId
from eeipu.stages.paths import Path
from eeipu.stages.runs import numbers_of

__all__ = ["NodeStates"]


class NodeStates:
    """The states of a plan's nodes, and the counts that say which nodes have to run.

    Args:
        tree: The plan's tree.
        cache: Where states are kept; `None`: nodes have a state once they have run.
        database: Stores what is known of the nodes.
        payments: Who pays for states that are found in the cache.
        references: Who refers to which states.
    """

    def __init__(
        self,
        tree: PlanTree,
        cache: StageCache | None,
        database: PlanDatabase,
        payments: Payments,
        references: StateReferences,
    ) -> None:
        self._tree = tree
        self._cache = cache
        self._database = database
        self._payments = payments
        self._references = references
        self._changed: list[PlanNode] = []
        self._splits: list[tuple[PlanNode, PlanNode]] = []

    def take_changed(self) -> list[PlanNode]:
        """Return the nodes that may have become ready, cheaper or dearer since the last call."""
        changed, self._changed = self._changed, []
        return changed

    def take_splits(self) -> list[tuple[PlanNode, PlanNode]]:
        """Return the nodes that were split since the last call and run, as upper and lower part."""
        splits, self._splits = self._splits, []
        return [(upper, lower) for upper, lower in splits if lower.is_running]

    def mark(self, *nodes: PlanNode) -> None:
        """Note that nodes have changed."""
        self._changed += nodes

    # --- counts -----------------------------------------------------------------------------------

    def need(self, node: PlanNode, by: int) -> None:
        """Change the number of those who need a node.

        Where the node now has to run, or need not run any more, those above change likewise.
        """
        stack = [node]
        while stack:
            each = stack.pop()
            before = each.must_run
            each.needs += by
            self._references.note(each)
            self.mark(each)
            if each.is_in_hand and not each.has_waiting_child:
                self.forget(each)  # nobody takes it any more; requests need a run of their own
            elif each.must_run != before:
                stack.extend(each.above)
        if by > 0:
            self._mark_first(node)

    def _mark_first(self, node: PlanNode) -> None:
        """Mark the first nodes that have to run for this one: they may be ready now."""
        stack = [node]
        while stack:
            each = stack.pop()
            waits_for = [up for up in each.above if up.must_run]
            stack += waits_for
            if not waits_for and each is not node:
                self.mark(each)

    def set(self, node: PlanNode, *, has_state: bool, in_hand: bool = False) -> None:
        """Note that a node's state is there or not.

        Args:
            node: The node.
            has_state: Whether the state is there.
            in_hand: Whether it is not in the cache but only with the runner.
        """
        before = node.must_run
        node.has_state, node.is_in_hand = has_state, in_hand
        self.save(node)
        self._references.note(node)
        self._pass_on(node, before)
        self.mark(node, *(child for child in node.below if child.must_run))

    def forget(self, node: PlanNode) -> None:
        """Note that a state is gone. The inputs of the run are always there."""
        if node.parent is not None and node.has_state:
            self.set(node, has_state=False)

    def clear(self, node: PlanNode) -> None:
        """Clear a node's failure so that it can run again if it is still needed."""
        before = node.must_run
        node.error, node.losses = None, 0
        self.save(node)
        self._pass_on(node, before)
        self.mark(node)

    def _pass_on(self, node: PlanNode, had_to_run: bool) -> None:
        if node.must_run != had_to_run:
            for each in node.above:
                self.need(each, 1 if node.must_run else -1)

    # --- what is there already ----------------------------------------------------------------

    def add(self, path: Path, trial: TrialId | None) -> PlanNode:
        """Return the node that ends a path, adding the nodes that the tree lacks.

        New nodes have a state where the cache has one.
        """
        node = self._tree.add(path, trial=trial)
        assert isinstance(node, PlanNode)
        made, self._tree.made = self._tree.made, []
        splits, self._tree.splits = self._tree.splits, []
        self.find(made)
        for upper, lower in splits:
            self.mark(lower, upper)
            if lower.cost_s is not None:
                self.save(upper)
                self.save(lower)
        self._splits.extend(splits)
        return node

    def find(self, nodes: Iterable[PlanNode]) -> None:
        """Take over the states of nodes that the cache has.

        Where an earlier process had begun to run a node, its study pays for it now.
        """
        if self._cache is None:
            return
        for node in nodes:
            if node.key in self._cache:
                node.cost_s = self._cache.cost(node.key)
                self.set(node, has_state=True)
                if node.payer is not None:
                    self._payments.charge(node, node.cost_s or 0.0, Purpose.RUNS)

    def find_value(self, node: PlanNode) -> None:
        """Take a node's value from the cache, where a killed process or a tuner has left it."""
        is_known = node.value is not None or node.is_training or not node.has_state
        if self._cache is None or is_known or node.is_in_hand:
            return
        try:
            node.value = numbers_of(self._cache.get(node.key))
        except CacheMiss:
            self.forget(node)
        else:
            self.save(node)

    def restore(self, row: NodeRow, node: PlanNode) -> None:
        """Take over what is stored of a node, and its state if that is still there."""
        node.cost_s, node.payer, node.value = row.cost_s, row.payer, row.value
        node.error, node.losses = row.error, row.losses
        is_kept = self._cache is None or node.key in self._cache or node.value is not None
        node.has_state = row.has_state and is_kept
        self._references.note(node)

    def save(self, node: PlanNode) -> None:
        """Store what is known of a node."""
        self._database.put_node(
            NodeRow(
                node.key,
                node.cost_s,
                node.payer,
                node.value,
                node.error,
                node.has_state and not node.is_in_hand,
                node.losses,
            )
        )
