"""Several suggestions from one maximisation, for searches on very many workers.

Notation:
    b: candidates.
    F: fantasies of what is being evaluated (see `eeipu.models.pending_improvement`).

Candidates are chosen one after another, each as if the ones before it were being evaluated: in
every fantasy a value is drawn for the chosen candidate, which moves the means of the others and
reduces their covariances by a matrix of rank one. The rest of a score, which comes from the cost,
does not depend on what is being evaluated.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from eeipu.methods.history import History
from eeipu.methods.reuse.candidates import Candidate
from eeipu.models.pending_improvement import JITTER, LogPendingEI, log_mean_improvement

__all__ = ["SuggestionsInStock", "in_turn"]

# If the candidates chosen before leave less than this share of a candidate's variance, it is
# practically one of them: a new maximisation will find a better one.
LEAST_LEFT = 0.1


def in_turn(
    candidates: Sequence[Candidate], improvement: LogPendingEI, count: int
) -> Iterator[Candidate]:
    """Choose candidates one after another, each the best beside those chosen before it.

    Candidates that hardly differ from a chosen one are passed over.

    Args:
        candidates: The results of a maximisation, at least one. Their scores are the logarithm of
            `improvement` plus terms that do not depend on running trials.
        improvement: What a candidate adds to the running trials.
        count: The number of candidates to choose; fewer come if the others do not differ.
    """
    X = torch.from_numpy(np.stack([candidate.point for candidate in candidates]))
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
        gain = covariance[:, i] / variance[i]
        means = means + gain.unsqueeze(-1) * (drawn - means[i])
        covariance = covariance - gain.unsqueeze(-1) * covariance[i]
        best = torch.maximum(best, drawn)


class SuggestionsInStock:
    """The suggestions of the last maximisation that no trial has taken yet, of one study."""

    def __init__(self) -> None:
        self._study: object = None
        self._params: list[dict[str, Any]] = []

    def put(self, study: object, params: list[dict[str, Any]]) -> None:
        """Replace the stock.

        Args:
            study: Identifies the study that the suggestions are for.
            params: The suggestions, best first.
        """
        self._study, self._params = study, params

    def take(self, study: object, history: History) -> dict[str, Any] | None:
        """Take the next suggestion for this study that has not run; `None` if there is none.

        Args:
            study: Identifies the study.
            history: Its trials, of which some may have begun since the maximisation.
        """
        while study == self._study and self._params:
            params = self._params.pop(0)
            if history.configurations.is_new(params):
                return params
        return None

    def clear(self) -> None:
        """Forget all suggestions."""
        self.put(None, [])

    def __len__(self) -> int:
        return len(self._params)
