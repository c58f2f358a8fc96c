"""Several suggestions from one maximisation, for searches on very many workers.

Notation:
    b: candidates; F: fantasies of what is being evaluated (see `eeipu.models.pending_improvement`).

Candidates are chosen one after another, each as if those before it were being evaluated: its value
is drawn in every fantasy, which moves the means there and takes what it tells from the covariances
(rank one each time). What a score has besides the expected improvement, the part of the cost, does
not depend on what is being evaluated.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from eeipu.methods.maximisation import Candidate
from eeipu.models.pending_improvement import JITTER, LogPendingEI, log_mean_improvement

__all__ = ["in_turn"]

# A candidate of whose variance those before it leave less than this share is one of them but for
# the last digits: a new maximisation will find better.
LEAST_LEFT = 0.1


def in_turn(
    candidates: Sequence[Candidate],
    X: Tensor,
    improvement: LogPendingEI,
    count: int,
) -> Iterator[Candidate]:
    """The best candidate, and those that are best beside the ones before and differ from them.

    Args:
        candidates: What a maximisation has found, whose scores are the logarithm of `improvement`
            and of what does not depend on running trials.
        X: `b x d`, where they are.
        improvement: What they add to the running trials.
        count: How many at most.
    """
    with torch.no_grad():
        means, covariance = improvement.conditioned(X)
    alone = covariance.diagonal().clamp_min(JITTER * covariance.diagonal().max())
    best = improvement.best
    normal = improvement.more_normals(count)
    scores = torch.tensor([candidate.score for candidate in candidates], dtype=means.dtype)
    others = scores - log_mean_improvement(means, alone, best)
    for k in range(count):
        differs = covariance.diagonal() >= LEAST_LEFT * alone
        if not differs.any():
            return
        variance = torch.where(differs, covariance.diagonal(), alone)
        scores = others + log_mean_improvement(means, variance, best)
        i = int(torch.where(differs, scores, -torch.inf).argmax())
        yield candidates[i]
        drawn = means[i] + variance[i].sqrt() * normal[:, k]
        told = covariance[:, i] / variance[i]
        means = means + told.unsqueeze(-1) * (drawn - means[i])
        covariance = covariance - told.unsqueeze(-1) * covariance[i]
        best = torch.maximum(best, drawn)
