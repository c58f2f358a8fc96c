r"""Whether a trial is to go on after a stage, now that it has shown a number.

Notation:
    d: hyper-parameters; K: stages; m: candidates.
    x: the configuration of the trial; y: what its stages have shown so far.

The search would choose x again if nothing promised more:

    log EI(x | y) - eta log C_rest(x)  against the same of the best other candidate,

where C_rest is the cost of the stages that have not run. What was paid for the others is gone in
either case, since their outputs are kept: a trial that is suspended can be gone on with later.

Nothing is fitted and nothing is climbed for it. The models of the last choice take in what the
trial has shown, and score the maximisers that this choice has found, together with other ends of
the same beginning. While the outputs that these count on are kept, the best of them is at most as
good as what a new maximisation would find. Therefore a trial that loses against it would lose then,
too; and one that wins may go on for nothing, as it would have without this look.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeipu.methods.catalogue import Method, eeipu
from eeipu.methods.climbing.maximisation import quasi_random
from eeipu.methods.reuse.candidates import Candidate
from eeipu.methods.search_state import Search
from eeipu.models.pending_improvement import LogPendingEI, log_improvement

__all__ = ["Outlook", "outlook"]

# A trial is suspended if another candidate is worth more by this factor. The models are not sure of
# either, and the other candidate has to be chosen anew and begun.
CLEARLY = math.exp(0.5)

# So many other ends of the trial's beginning are scored.
OTHER_ENDS = 64


@dataclass(frozen=True)
class Outlook:
    """What a trial promises that has run a part of its stages.

    Attributes:
        going_on: The score of going on, a logarithm.
        instead: The score of the best other candidate.
        expected: The best value that is expected from the trial's beginning, whatever its end.
    """

    going_on: float
    instead: float
    expected: float

    @property
    def is_to_stop(self) -> bool:
        """Whether another candidate is clearly worth more."""
        return self.going_on < self.instead - math.log(CLEARLY)

    @property
    def notes(self) -> dict[str, float]:
        """What a trial notes that is suspended, for the search and for people."""
        worth = math.exp(min(0.0, self.going_on - self.instead))
        return {"expected": self.expected, "worth": float(f"{worth:.3g}")}


def outlook(
    search: Search,
    method: Method,
    params: dict[str, Any],
    has_run: Sequence[bool],
    others: Sequence[Candidate],
) -> Outlook | None:
    """Compare going on with a trial to the best other candidate.

    Args:
        search: The state of the search as it would be if the trial was suspended now.
        method: The method, which has a score.
        params: The trial's configuration.
        has_run: For each stage, whether the trial has its output.
        others: Candidates that the search would choose from.

    Returns:
        `None` where what stages show does not count.
    """
    weighed = search.models.weighed_chain
    if weighed is None or method.score is None:
        return None
    history = search.history
    pipeline, cube = history.pipeline, history.pipeline.cube
    x = cube.encode([params])
    known = [c for k, own in enumerate(pipeline.columns.own) if has_run[k] for c in own]
    ends = cube.snap(quasi_random(len(cube), OTHER_ENDS, search.trial_seed))
    ends[:, known] = x[:, known]
    if cube.constraints:
        ends = ends[cube.allows(ends)]
    is_new = history.configurations.is_new
    others = [each for each in others if each.params != params and is_new(each.params)]
    points = np.concatenate([x, ends, *(each.point[None] for each in others)])
    free = pipeline.graph.free(has_run)
    own = 1 + len(ends)
    memoized = torch.tensor([*([free] * own), *(each.reuse.memoized for each in others)])
    X = torch.from_numpy(points)
    with torch.no_grad():
        scores = _scores(search, method, X, memoized)
        scores[0] += _choice_saved(search, X[:1], memoized[:1])
        mean, _ = weighed.chain.moments(X[:own], memoized[:own])
    standard = search.models.standard
    best = history.sign * (standard.unit * float(mean.max()) + standard.middle)
    instead = float(scores[1:].max()) if len(scores) > 1 else -math.inf
    return Outlook(float(scores[0]), instead, best)


def _scores(search: Search, method: Method, X: Tensor, memoized: Tensor) -> Tensor:
    """The scores of candidates, `m x d` and `m x K -> m`.

    What other trials that run take away from them is told by the model that counts more, and for
    candidates that reuse nothing: only so do the outputs count that candidates reuse.
    """
    assert method.score is not None
    alone = replace(search, history=replace(search.history, running=()), given=search.models)
    scores = method.score(alone)(X.unsqueeze(-2), memoized)
    if search.X_pending is None:
        return scores
    model = search.models.leading
    best_f = search.models.best_of(model)
    posterior = model.posterior(X.unsqueeze(-2))
    mean, std = posterior.mean.flatten(), posterior.variance.sqrt().flatten()
    beside = LogPendingEI(model, best_f, search.X_pending, seed=search.trial_seed)
    taken = beside(X.unsqueeze(-2)) - log_improvement(mean, std, best_f)
    beside_others: Tensor = scores + taken.clamp_max(0.0)
    return beside_others


def _choice_saved(search: Search, x: Tensor, free: Tensor) -> float:
    """What is added to the score of a trial that need not be chosen any more, in place of others.

    The score has `E[1 / (C + o)]`; with H the inverse of it, `H - o` is about the cost C.
    """
    if not search.overhead > 0:
        return 0.0
    log_cost = -float(eeipu(search).cost.log_inverse(x, free))
    rest = math.exp(log_cost) - search.overhead
    return search.cooling * (log_cost - math.log(max(rest, search.memoized_cost)))
