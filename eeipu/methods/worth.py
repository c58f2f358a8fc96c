"""Checks that another trial is worth its cost, and that the budget can be expected to cover it."""

import torch

from eeipu.errors import BudgetTooSmall, NothingWorthwhile
from eeipu.methods.catalogue import eeipu, gittins_index
from eeipu.methods.proposals import Proposals

__all__ = ["check_affordable", "check_worth_at"]


def check_worth_at(price: float, proposals: Proposals) -> None:
    """Check that a candidate's expected improvement is worth its expected cost.

    This is the stopping rule of Xie et al. 2025, arXiv 2507.12453.

    Args:
        price: What a unit of cost is worth, in the unit of the objective.
        proposals: What the method proposes.

    Raises:
        NothingWorthwhile: No candidate is worth it.
    """
    models = proposals.search.models
    best = proposals.first_new(gittins_index(proposals.search, price / models.unit))
    if best is not None and best.score <= models.best_f:
        raise NothingWorthwhile(
            f"no candidate's expected improvement is worth its expected cost at a price of "
            f"{price!r} per unit of cost; lower the price to go on."
        )


def check_affordable(proposals: Proposals) -> None:
    """Check that the remaining budget probably covers the next candidate.

    Args:
        proposals: What the method proposes; the method has a score.

    Raises:
        BudgetTooSmall: The chance that it does is less than a half.
    """
    search, score = proposals.search, proposals.method.score
    assert score is not None
    best = proposals.first_new(score(search))
    if best is None:
        return
    X, memoized = torch.from_numpy(best.point[None]), torch.tensor(best.prefix.memoized)
    chance = eeipu(search).log_chance_to_pay(X, memoized, search.uncommitted).exp().item()
    if chance < 0.5:
        raise BudgetTooSmall(
            f"what is left of the budget, {search.uncommitted:.4g}, pays for the next "
            f"candidate with a chance of {chance:.0%}; raise the budget to go on."
        )
