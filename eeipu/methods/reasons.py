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
from eeipu.methods.search_models import SearchModels
from eeipu.methods.search_state import Search
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
        unit of the objective; with several objectives `means` and `stds`, a list each, instead of
        these; `cost`, the expected cost, where the method has a model of it; `success`, the
        probability that no stage fails and all limits are kept, where that is modelled; and under
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
        columns = {**_values(search, X, candidates, chain), **_costs(search, X, candidates)}
        if not models.fits.made.keys().isdisjoint({"feasibility", "outcomes"}):
            assert models.chances.probability is not None
            columns["success"] = models.chances.probability.log_probability(X).exp()
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        {
            "reuses": [name for name, free in zip(names, each.reuse.memoized, strict=True) if free],
            **{name: _short(value) for name, value in zip(columns, row, strict=True)},
        }
        for each, row in zip(candidates, rows, strict=True)
    ]


def _values(
    search: Search, X: Tensor, candidates: list[Candidate], chain: StageChain | None
) -> dict[str, Tensor]:
    """What is expected of the objective at points, `c x d`, or of all objectives."""
    models = search.models
    if search.history.objectives.are_several:
        moments = [each.standard.in_units(*_moments(each, X)) for each in models.by_objective]
        means, stds = (torch.stack(each, dim=-1) for each in zip(*moments, strict=True))
        return {"means": means, "stds": stds}
    if chain is None:
        mean, std = _moments(models, X)
        best_f = models.best_f
    else:
        free = torch.tensor([each.reuse.memoized for each in candidates])
        (mean, variance), best_f = chain.moments(X, free), chain.best_f
        std = variance.sqrt()
    gain = models.standard.unit * log_improvement(mean, std, best_f).exp()
    mean, std = models.standard.in_units(mean, std)
    return {"improvement": gain, "mean": mean, "std": std}


def _moments(models: SearchModels, X: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of an objective at points, as the models have it."""
    posterior = models.believer.posterior(X.unsqueeze(-2))
    return posterior.mean.flatten(), posterior.variance.sqrt().flatten()


def _costs(search: Search, X: Tensor, candidates: list[Candidate]) -> dict[str, Tensor]:
    """The expected costs, if the search has a model of them already."""
    if "costs" not in search.fits.made:
        return {}
    mean, std = search.models.costs.by_stage.log_cost_posterior(X)
    free = torch.tensor([each.reuse.memoized for each in candidates])
    stages = torch.where(free, search.load_cost, (mean + 0.5 * std.square()).exp())
    return {"cost": stages.sum(-1) + search.overhead}


def _short(value: float | list[float]) -> Any:
    """A number with a few digits; `None` if it is not finite, which JSON cannot say."""
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
