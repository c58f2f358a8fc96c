"""Configurations that are worth another run, because their last stages draw anew.

Where a stage is not memoized, and so draws its output anew, a configuration that has run can run
again at the cost of the stages that are not kept, and its value is another observation of the same
thing. It tells which of the good configurations is the best one, and nothing else. That need not be
known before the end, and then it is known which ones are good: so a search repeats at its end, with
what is left of the budget for a few repetitions. What each is worth is compared with what the best
new candidates are worth, both by

    log KG + log E[1/C] (+ log P(success)),

the knowledge gradient per unit of cost (`eeipu.methods.noise.knowledge_gradient`), in which an
observation counts with the noise that the model has learnt. Running trials count as observed, with
the values that the model expects of them (the kriging believer).

Notation:
    r: configurations that have run; m: running trials; c: candidates that are new; K: stages.
    b = r + m + c: all these points, in this order.
"""

import math
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from optuna.trial import FrozenTrial
from torch import Tensor

from eeipu.acquisition import LogCostFactor
from eeipu.methods.climbing.skipping import free_at
from eeipu.methods.noise.knowledge_gradient import log_knowledge_gradient, moves
from eeipu.methods.noise.recommendation import means_of_run
from eeipu.methods.reuse.candidates import Candidate, Reuse
from eeipu.methods.search_state import Search
from eeipu.models.feasibility import SuccessModel
from eeipu.models.objective import ObjectiveModel
from eeipu.models.observed_stages.chain import StageChain
from eeipu.pipeline import Pipeline

__all__ = ["Repeat", "best_repeat", "draws_anew", "is_near_end"]

# So many of the configurations with the highest means can be the best one in the end, and so many
# of them are considered for another run; a repeat has to be worth more than each of so many of the
# best new candidates.
MOST_RUN, MOST_REPEATED, MOST_NEW = 60, 10, 5

# Repeats begin when no more is left than so many of them cost, and at most this share of the budget
# after the warm-up.
REPEATS, LAST_SHARE = 10, 0.1

# Stages that are not memoized need not be random. If so many repeats all gave the very value of the
# first run, there are no further ones.
ENOUGH_EQUAL = 2


@dataclass(frozen=True)
class Repeat:
    """A configuration that is worth another run.

    Attributes:
        candidate: The configuration, and what it reuses.
        number: The number of its first trial.
        gain: The knowledge gradient, in the unit of the search's values.
    """

    candidate: Candidate
    number: int
    gain: float


def draws_anew(search: Search) -> bool:
    """Whether values may differ from run to run, as far as trials have shown.

    They may if a stage is not memoized that leads to the objective, until enough repeats have all
    given the same value.
    """
    history = search.history
    if history.pipeline.memoizes[-1] or history.objectives.are_several:
        return False
    values: dict[tuple[float, ...], Counter[float]] = {}
    identities = history.ledger.arrays.identities(history.ended)
    for identity, value in zip(identities, history.values.tolist(), strict=True):
        if not math.isnan(value):
            values.setdefault(identity, Counter())[value] += 1
    repeats = sum(found.total() - 1 for found in values.values())
    return repeats < ENOUGH_EQUAL or any(len(found) > 1 for found in values.values())


def is_near_end(search: Search) -> bool:
    """Whether so little of the budget is left that repeats may begin."""
    return search.cooling <= LAST_SHARE


def best_repeat(
    search: Search,
    model: ObjectiveModel | StageChain,
    cost: LogCostFactor,
    kept: Container[str],
    new: Sequence[Candidate],
    least: float,
) -> Repeat | None:
    """The configuration whose repetition is worth more than any new candidate, if there is one.

    Args:
        search: The state of the search, which `is_near_end`, and in which `draws_anew` holds.
        model: What predicts the objective.
        cost: The factor of a candidate's cost.
        kept: The content keys of the outputs that can be reused.
        new: Candidates that have not run, best first.
        least: A repetition with a smaller knowledge gradient is no gain.
    """
    pipeline = search.history.pipeline
    run, new = _most_believed(search, model), new[:MOST_NEW]
    redrawn = [i for i, trial in enumerate(run) if _draws(trial, search)][:MOST_REPEATED]
    if not redrawn:
        return None
    again = [_again(run[i], search, kept) for i in redrawn]
    if search.uncommitted > REPEATS * _least_cost(search, again) and search.budget.is_limited:
        return None
    success = search.models.chances.success  # fitted with gradients
    with torch.no_grad():
        gains = torch.tensor(_log_gains(search, model, run, new, redrawn))
        scores = gains + _log_factor([*again, *new], pipeline, cost, success)
    first = len(again)
    best = int(scores[:first].argmax())
    others = scores[first:].amax().item() if new else -math.inf
    gain = gains[best].exp().item()
    if not (gain > least and scores[best].item() > others):
        return None
    # On the scale of the method's own scores, so that both can be compared.
    reference = new[0].score - scores[first].item() if new else 0.0
    candidate = replace(again[best], score=scores[best].item() + reference)
    return Repeat(candidate, run[redrawn[best]].number, gain)


def _most_believed(search: Search, model: ObjectiveModel | StageChain) -> list[FrozenTrial]:
    """The first trials of the configurations with the highest means, best first."""
    history = search.history
    rows = np.flatnonzero(history.objectives.succeeded)
    identities = history.ledger.arrays.identities(history.ended)
    first = {identities[i]: i for i in reversed(rows)}
    X = torch.from_numpy(history.X[[*first.values()]])
    with torch.no_grad():
        mean = means_of_run(model, X, len(history.pipeline.stages))
    order = mean.argsort(descending=True, stable=True)[:MOST_RUN].tolist()
    places = [*first.values()]
    return [history.ended[places[i]] for i in order]


def _least_cost(search: Search, candidates: Sequence[Candidate]) -> float:
    """What the cheapest of some candidates is expected to cost."""
    X = torch.from_numpy(np.stack([each.point for each in candidates]))
    free = torch.tensor([each.reuse.memoized for each in candidates])
    with torch.no_grad():
        mean, std = search.models.costs.by_stage.log_cost_posterior(X)
        stages = torch.where(free, search.load_cost, (mean + 0.5 * std.square()).exp())
    return stages.sum(-1).min().item() + search.overhead


def _keys(trial: FrozenTrial, stages: int) -> list[str | None]:
    """The content keys of a trial's stages, `K`; empty ones where it noted none."""
    keys = trial.user_attrs.get("stage_keys") or ()
    return [*keys] if len(keys) == stages else [""] * stages


def _draws(trial: FrozenTrial, search: Search) -> bool:
    """Whether another run of a trial would run a stage that is not memoized."""
    pipeline = search.history.pipeline
    keys, last = _keys(trial, len(pipeline.stages)), len(pipeline.stages) - 1
    return any(
        not pipeline.stages[k].memoize and keys[k] is not None for k in pipeline.graph.up_to(last)
    )


def _again(trial: FrozenTrial, search: Search, kept: Container[str]) -> Candidate:
    """Another run of a trial as a candidate."""
    pipeline = search.history.pipeline
    params = {name: trial.params[name] for name in pipeline.space}
    keys = _keys(trial, len(pipeline.stages))
    is_kept = [
        key is None or (memoizes and key in kept)
        for key, memoizes in zip(keys, pipeline.memoizes, strict=True)
    ]
    point = pipeline.cube.encode([params])[0]
    return Candidate(params, point, Reuse(params, pipeline.graph.free(is_kept)), 0.0)


def _log_gains(
    search: Search,
    model: ObjectiveModel | StageChain,
    run: Sequence[FrozenTrial],
    new: Sequence[Candidate],
    redrawn: Sequence[int],
) -> list[float]:
    """The logarithms of the knowledge gradients of repeats, and then of new candidates."""
    pipeline = search.history.pipeline
    r, m, K = len(run), len(search.history.running_X), len(pipeline.stages)
    points = [pipeline.cube.encode([trial.params for trial in run]), search.history.running_X]
    X = torch.from_numpy(np.concatenate([*points, *(each.point[None] for each in new)]))
    memoized = torch.zeros(len(X), K, dtype=torch.bool)
    memoized[:r] = True
    for row, each in enumerate(new, start=r + m):
        memoized[row] = torch.tensor(each.reuse.memoized)
    if isinstance(model, StageChain):
        mean, covariance = model.joint_reusing(X, memoized)
    else:
        mean, covariance = model.joint_moments(X)
    if m:
        beside = covariance[:, r : r + m]
        observed = beside[r : r + m] + model.noise * torch.eye(m, dtype=X.dtype)
        covariance = covariance - beside @ torch.linalg.solve(observed, beside.T)
    b, a = moves(covariance, model.noise).numpy(), mean.numpy()
    ended = np.arange(r + m)
    choices = [(i, ended) for i in redrawn]
    choices += [(i, np.append(ended, i)) for i in range(r + m, len(X))]
    return [log_knowledge_gradient(a[among], b[among, i]) for i, among in choices]


def _log_factor(
    candidates: Sequence[Candidate],
    pipeline: Pipeline,
    cost: LogCostFactor,
    success: SuccessModel | None,
) -> Tensor:
    """The logarithm of what the gains of candidates are multiplied with, `c`."""
    X = torch.from_numpy(np.stack([each.point for each in candidates]))
    memoized = torch.tensor([each.reuse.memoized for each in candidates])
    memoized = free_at(X.unsqueeze(-2), memoized, pipeline)
    factor = torch.zeros(len(X), dtype=X.dtype)
    if cost.counts:
        factor = factor + cost.value_at(*cost.cost_model.log_cost_posterior(X), memoized)
    return factor if success is None else factor + success.log_probability(X)
