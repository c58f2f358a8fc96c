"""What each study on a plan paid for, and what it got for free."""

import math
from dataclasses import dataclass

from eeipu.stage_tree.nodes import PlanNode, RequestState, error_of
from eeipu.stage_tree.search_plan import SearchPlan

__all__ = ["Account", "account"]


@dataclass(frozen=True)
class Account:
    """A study's account; all amounts are seconds that its nodes took.

    A node is paid by the study that waited for it when it ran: by the first of them, where
    several did. Who has a node run again, as its state was gone, pays again.

    Attributes:
        study: Whose it is.
        trials: How many trials were answered.
        separately: What these trials would have taken each by itself, with its own checkpoints.
        paid: What was run for this study, what failed or was lost included.
        from_others: What it used that was first run for other studies, or there before any.
    """

    study: str
    trials: int
    separately: float
    paid: float
    from_others: float

    @property
    def free(self) -> float:
        """What the study did not have to pay."""
        return self.separately - self.paid


def account(plan: SearchPlan, study: str) -> Account:
    """The account of a study, from the requests that were answered.

    Args:
        plan: The plan.
        study: A study that has asked it for something.
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
        plan.paid_s.get(study, 0.0),
        math.fsum(node.cost_s or 0.0 for node in distinct.values() if node.payer != study),
    )
