"""What a search knew of a configuration when it chose it, in a few numbers that a trial can keep.

All of it comes from models that the choice has fitted anyway: nothing is fitted for it, and a few
points are predicted.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeipu.methods.reuse.candidates import Candidate
from eeipu.methods.search_state import Search
from eeipu.models.objective import middle_value
from eeipu.models.observed_stages.chain import StageChain
from eeipu.models.pending_improvement import log_improvement

__all__ = ["reason_for"]

# Digits of the numbers that are kept.
DIGITS = 5


def reason_for(
    search: Search,
    chosen: Candidate,
    others: Iterable[Candidate],
    chain: StageChain | None = None,
) -> dict[str, Any]:
    """What was known of a candidate that was chosen, and of the best ones that it was preferred to.

    Args:
        search: The state of the search.
        chosen: The candidate.
        others: Candidates, best first. Of each set of stages that are free, the best one counts.
        chain: The model that predicts the objective; `None`: the search's plain model of it.

    Returns:
        Values for JSON: `reuses`, the names of the stages that were expected to be free;
        `improvement`, the expected improvement, and `mean` and `std` of the predicted value, in the
        unit of the objective; `cost`, the expected cost, where the method has a model of it;
        `success`, the probability that no stage fails, where some have failed; and under
        `instead`, the same of the others, with `score`, the difference of their score from that of
        the chosen one.
    """
    by_free = {chosen.reuse.memoized: chosen}
    for each in others:
        by_free.setdefault(each.reuse.memoized, each)
    candidates = list(by_free.values())
    first, *rest = _described(search, candidates, chain)
    scores = [each.score - chosen.score for each in candidates[1:]]
    instead = [{**known, "score": _short(score)} for known, score in zip(rest, scores, strict=True)]
    return {"by": "models", **first, **({"instead": instead} if instead else {})}


def _described(
    search: Search, candidates: list[Candidate], chain: StageChain | None
) -> list[dict[str, Any]]:
    """What is known of each candidate."""
    models, names = search.models, search.history.pipeline.stage_names
    X = torch.from_numpy(np.stack([each.point for each in candidates]))
    with torch.no_grad():
        if chain is None:
            posterior, best_f = models.believer.posterior(X.unsqueeze(-2)), models.best_f
            mean, std = posterior.mean.flatten(), posterior.variance.sqrt().flatten()
        else:
            free = torch.tensor([each.reuse.memoized for each in candidates])
            (mean, variance), best_f = chain.moments(X, free), chain.best_f
            std = variance.sqrt()
        columns = {
            "improvement": models.unit * log_improvement(mean, std, best_f).exp(),
            "mean": _sign(search) * (models.unit * mean + middle_value(search.history.values)),
            "std": models.unit * std,
            **_costs(search, X, candidates),
        }
        if models.__dict__.get("feasibility") is not None:
            assert models.feasibility is not None
            columns["success"] = models.feasibility.log_probability(X).exp()
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {
            "reuses": [name for name, free in zip(names, each.reuse.memoized, strict=True) if free],
            **{name: _short(value) for name, value in zip(columns, row, strict=True)},
        }
        for each, row in zip(candidates, rows, strict=True)
    ]


def _costs(search: Search, X: Tensor, candidates: list[Candidate]) -> dict[str, Tensor]:
    """The expected costs, if the search has a model of them already."""
    if "costs" not in search.models.__dict__:
        return {}
    mean, std = search.models.costs.log_cost_posterior(X)
    free = torch.tensor([each.reuse.memoized for each in candidates])
    stages = torch.where(free, search.load_cost, (mean + 0.5 * std.square()).exp())
    return {"cost": stages.sum(-1) + search.overhead}


def _sign(search: Search) -> float:
    return -1.0 if search.history.is_minimized else 1.0


def _short(value: float) -> float | None:
    """A number with a few digits; `None` if it is not finite, which JSON cannot say."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
