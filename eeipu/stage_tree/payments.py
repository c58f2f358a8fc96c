"""Which study pays for the seconds that workers spend, and what for; `accounts` adds it up.

A node is paid by the first study that waits for it. If none waits any more, the study that it was
begun for pays.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from eeipu.stage_tree.database import PlanDatabase
from eeipu.stage_tree.nodes import PlanNode, first_waiting

__all__ = ["Payment", "Payments", "Purpose"]


class Purpose(StrEnum):
    """What seconds of workers were spent on."""

    RUNS = "runs"  # the first run of a node to its end
    REPEATS = "repeats"  # another run of it, where its output was not kept or was lost
    TRANSFERS = "transfers"  # loading inputs, and keeping outputs
    LOSSES = "losses"  # attempts that failed, and calls whose worker died or was killed


@dataclass(frozen=True)
class Payment:
    """What a study has paid for a node.

    Attributes:
        study: The study.
        trial: Its trial that waited for the node; `None` where none did any more.
        node: The node.
        purpose: What was paid for.
        seconds: How much.
    """

    study: str
    trial: int | None
    node: PlanNode
    purpose: Purpose
    seconds: float


class Payments:
    """The seconds that workers have spent, by the study that pays for them and by their purpose.

    Args:
        database: Where they are stored.
    """

    def __init__(self, database: PlanDatabase) -> None:
        self._database = database
        self._paid_s = {(study, Purpose(kind)): s for study, kind, s in database.payments()}
        self._new: list[Payment] = []

    @property
    def paid_s(self) -> dict[str, float]:
        """Study -> all seconds that it has paid."""
        studies = dict.fromkeys(study for study, _ in self._paid_s)
        return {study: math.fsum(self.of(study).values()) for study in studies}

    @property
    def total_s(self) -> float:
        """The seconds of all studies together."""
        return math.fsum(self._paid_s.values())

    def of(self, study: str) -> Mapping[Purpose, float]:
        """The seconds that a study has paid, by what they were spent on."""
        return {purpose: self._paid_s.get((study, purpose), 0.0) for purpose in Purpose}

    def take(self) -> list[Payment]:
        """The payments since the last call."""
        new, self._new = self._new, []
        return new

    def charge(self, node: PlanNode, seconds: float, purpose: Purpose) -> None:
        """Let a study pay for what a worker has spent on a node, and note it as the node's payer.

        A node that runs again keeps its first payer; the study that needs it again pays all the
        same.
        """
        request = first_waiting(node)
        study, trial = (node.payer or "", None) if request is None else request.payer
        if node.cost_s is None or node.payer is None:
            node.payer = study
        if seconds > 0.0:
            paid_s = self._paid_s.get((study, purpose), 0.0) + seconds
            self._paid_s[study, purpose] = paid_s
            self._database.set_paid(study, purpose, paid_s)
            self._new.append(Payment(study, trial, node, purpose, seconds))
