"""Who refers to which states of a plan, and which states may be dropped.

A state is referred to by children that have to run, which start from it, and by the trials that
may go on from it: each trial *holds* the last state of its path until it is released. The plan
pins states that somebody refers to. The others are the first to be dropped when the cache is full:
checkpoints before outputs of plain stages, because a checkpoint may need what its stage began
from, and of each the oldest first.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from eeipu.cache import StageCache
from eeipu.stage_tree.database import PlanDatabase
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.states.state_pins import StatePins

__all__ = ["StateReferences", "TrialId"]

TrialId = tuple[str, int]
"""The name of a study and the number of one of its trials."""

# States that nobody refers to may fill the cache up to this share of its limit, so that the next
# state fits.
SPARE_SHARE = 0.75


class StateReferences:
    """The references to the states of a plan.

    Args:
        cache: Where states are kept, if they are.
        database: Where releases are stored.
        owner: The name under which states are pinned, and whether the pins outlive the process.
    """

    def __init__(
        self, cache: StageCache | None, database: PlanDatabase, owner: tuple[str, bool]
    ) -> None:
        self._cache = cache
        self._database = database
        self._held: dict[TrialId, list[PlanNode]] = {}
        self._released = set(database.releases())
        self._referenced: dict[str, PlanNode] = {}  # oldest first, here and below
        self._checkpoints: dict[str, PlanNode] = {}  # that nobody refers to
        self._outputs: dict[str, PlanNode] = {}  # likewise
        self._has_changed = True
        self._pins: StatePins | None = None
        if cache is not None:
            name, is_lasting = owner
            self._pins = StatePins(cache, name, lasting=is_lasting)

    def hold(self, trial: TrialId, node: PlanNode, *, anew: bool = True) -> None:
        """Let a trial hold the last states of its path, instead of earlier ones.

        Args:
            trial: The trial.
            node: The node that ends the path. What is held is the last state of training on it,
                or what its last stage gets; and in a graph, all that is joined with these.
            anew: Whether the trial is to hold a state even if it was released.
        """
        if trial in self._released:
            if not anew:
                return
            self._released.discard(trial)
            self._database.set_released(*trial, is_released=False)
        self._let_go(trial)
        self._held[trial] = held = _to_go_on_from(node) or list(node.above)
        for each in held:
            each.holds += 1
            self.note(each)

    def release(self, trial: TrialId) -> None:
        """Let a trial hold nothing any more, also when the plan is opened again."""
        if self._let_go(trial):
            self._released.add(trial)
            self._database.set_released(*trial, is_released=True)

    def _let_go(self, trial: TrialId) -> bool:
        held = self._held.pop(trial, None)
        if held is None:
            return False
        for node in held:
            node.holds -= 1
            self.note(node)
        return True

    def note(self, node: PlanNode) -> None:
        """Take note that a node's state came or went, or that its references changed."""
        if self._cache is None or node.parent is None:
            return
        self._has_changed = True
        unreferenced = self._checkpoints if node.is_training else self._outputs
        is_referenced = node.needs > 0 or node.holds > 0
        is_there = node.has_state and not node.is_in_hand
        _put(self._referenced, node, is_there and is_referenced)
        _put(unreferenced, node, is_there and not is_referenced)

    def pin(self, *, at_once: bool = False) -> None:
        """Pin the states that somebody refers to, and no others.

        Args:
            at_once: Whether to do so even if pins were written just now.
        """
        if self._pins is not None and self._has_changed and (at_once or self._pins.is_due):
            self._pins.write(self._most_important_first())
            self._has_changed = False

    def close(self) -> None:
        """Write the pins a last time, or remove them where the plan is not stored."""
        if self._pins is not None:
            self._pins.close(self._most_important_first())

    def _most_important_first(self) -> Iterator[str]:
        nodes = list(reversed(self._referenced.values()))
        needed = (node.key for node in nodes if node.needs > 0)
        return chain(needed, (node.key for node in nodes if node.needs == 0))

    def drop(self, max_bytes: float | None = None) -> list[PlanNode]:
        """Drop states that nobody refers to from the cache; see `Execution.trim`.

        Returns:
            The nodes whose states were dropped.
        """
        if self._cache is None:
            return []
        if max_bytes is None:
            if self._cache.max_bytes is None:
                return []
            max_bytes = SPARE_SHARE * self._cache.max_bytes
        sizes = self._cache.place.store.sizes()
        excess = sum(sizes.values()) - max_bytes
        if excess <= 0 or not (self._checkpoints or self._outputs):
            return []
        self.pin(at_once=True)  # what was referred to a moment ago may still be pinned
        kept = self._cache.holders.kept()  # by others
        unwanted = []
        for node in chain(self._checkpoints.values(), self._outputs.values()):
            if excess <= 0:
                break
            if node.key not in kept:
                unwanted.append(node)
                excess -= sizes.get(node.key, 0)
        return self._discard(self._cache, unwanted)

    @staticmethod
    def _discard(cache: StageCache, nodes: Iterable[PlanNode]) -> list[PlanNode]:
        nodes = list(nodes)
        cache.discard(node.key for node in nodes)
        return [node for node in nodes if node.key not in cache]  # others may have pinned some


def _to_go_on_from(node: PlanNode) -> list[PlanNode]:
    """The last states of training that lead to a node, and what is joined with what they give."""
    if node.is_training:
        return [node]
    found = {each: _to_go_on_from(each) for each in node.above if each.parent is not None}
    if not any(found.values()):
        return []
    return [held for each, above in found.items() for held in above or [each]]


def _put(nodes: dict[str, PlanNode], node: PlanNode, belongs: bool) -> None:
    """Make a node a member of a dict, or none; a member keeps its place."""
    if belongs:
        nodes[node.key] = node
    else:
        nodes.pop(node.key, None)
