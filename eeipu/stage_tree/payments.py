"""Which study pays for the seconds that workers spend; `accounts` draws up what it got for them.

A node is paid by the first study that waits for it. If none waits any more, the study that it was
begun for pays.
"""

import math

from eeipu.stage_tree.database import PlanDatabase
from eeipu.stage_tree.nodes import PlanNode, first_waiting

__all__ = ["Payments"]


class Payments:
    """The seconds that workers have spent, by the study that pays for them.

    Args:
        database: Where they are stored.

    Attributes:
        paid_s: Study -> seconds, those of calls that failed or were lost included.
    """

    def __init__(self, database: PlanDatabase) -> None:
        self._database = database
        self.paid_s: dict[str, float] = dict(database.payments())

    @property
    def total_s(self) -> float:
        """The seconds of all studies together."""
        return math.fsum(self.paid_s.values())

    def charge(self, node: PlanNode, cost_s: float) -> None:
        """Let a study pay for what a worker has spent on a node, and note it as the node's payer.

        A node that runs again keeps its first payer; the study that needs it again pays all the
        same.
        """
        study = first_waiting(node) or node.payer or ""
        if node.cost_s is None or node.payer is None:
            node.payer = study
        if cost_s > 0.0:
            self.paid_s[study] = self.paid_s.get(study, 0.0) + cost_s
            self._database.set_paid(study, self.paid_s[study])
