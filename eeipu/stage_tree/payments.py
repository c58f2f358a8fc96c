"""Who pays for what workers spend."""

import math

from eeipu.stage_tree.database import PlanStore
from eeipu.stage_tree.nodes import PlanNode, first_waiting

__all__ = ["Payments"]


class Payments:
    """Seconds that workers spent, by the study that they were spent for.

    A node is paid by the first study that waits for it, and where none does any more, by the one
    that it was begun for.

    Args:
        store: Where they are kept.

    Attributes:
        paid_s: Study -> seconds, what was lost included.
    """

    def __init__(self, store: PlanStore) -> None:
        self._store = store
        self.paid_s: dict[str, float] = dict(store.payments())

    @property
    def total_s(self) -> float:
        """Seconds for all studies."""
        return math.fsum(self.paid_s.values())

    def charge(self, node: PlanNode, cost_s: float) -> None:
        """Have somebody pay for what a node took."""
        study = first_waiting(node) or node.payer or ""
        if node.cost_s is None or node.payer is None:  # whoever runs it again pays, but for it
            node.payer = study
        if cost_s > 0.0:
            self.paid_s[study] = self.paid_s.get(study, 0.0) + cost_s
            self._store.set_paid(study, self.paid_s[study])
