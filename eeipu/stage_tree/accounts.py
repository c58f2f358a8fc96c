"""The account of one study: what its trials needed, what it paid, what it got from others."""

import math
from dataclasses import dataclass

from eeipu.stage_tree.nodes import PlanNode, RequestState, error_of
from eeipu.stage_tree.search_plan import SearchPlan

__all__ = ["Account", "account"]


@dataclass(frozen=True)
class Account:
    """A study's account. All amounts are seconds that nodes took to run.

    A node is paid by the study that waited for it when it ran. If several studies waited, the first
    of them pays. A study that needs a node again after its state was dropped pays for it again.

    Attributes:
        study: The study.
        trials: The number of trials that were answered.
        separately: What these trials would have taken if each had run by itself, continuing from
            its own checkpoints only.
        from_others: What the study used that was first run for others, or was there before.
        runs: What it paid for first runs of nodes. Over all studies, these are the nodes' costs,
            but for nodes that were in the cache before.
        repeats: What it paid for runs of nodes that had run before: their output was not kept, or
            was gone.
        transfers: What it paid for loading inputs and keeping outputs.
        losses: What it paid for attempts that failed, and for calls whose worker died.
    """

    study: str
    trials: int
    separately: float
    from_others: float
    runs: float
    repeats: float
    transfers: float
    losses: float

    @property
    def paid(self) -> float:
        """All that the study has paid."""
        return math.fsum([self.runs, self.repeats, self.transfers, self.losses])

    @property
    def free(self) -> float:
        """What the study did not have to pay."""
        return self.separately - self.paid


def account(plan: SearchPlan, study: str) -> Account:
    """Draw up the account of a study from the requests that were answered.

    Args:
        plan: The plan.
        study: The name of a study that has requested something.
    """
    used: dict[int, dict[str, PlanNode]] = {}
    for request in plan.requests(study):
        if request.state is RequestState.ANSWERED and error_of(request.node) is None:
            nodes = used.setdefault(request.trial, {})
            nodes.update((node.key, node) for node in request.node.ancestry())
    distinct = {key: node for nodes in used.values() for key, node in nodes.items()}
    return Account(
        study,
        len(used),
        math.fsum(node.cost_s or 0.0 for nodes in used.values() for node in nodes.values()),
        math.fsum(node.cost_s or 0.0 for node in distinct.values() if node.payer != study),
        **{purpose.value: seconds for purpose, seconds in plan.payments.of(study).items()},
    )
