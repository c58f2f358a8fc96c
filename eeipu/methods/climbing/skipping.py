"""Scores of candidates that leave some stages out, since their parameters choose others.

Notation:
    b: candidates; K: stages; d: hyper-parameters; P: points whose fixed columns are completed.
    X: `b x 1 x d`, candidates in the unit cube.
    memoized: `b x K`, which stages each candidate gets for free.

A stage that a candidate leaves out costs it nothing, and neither does a stage that only such stages
need: all of these count as free.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eeipu.methods.climbing.scores import LogScoreWithGradient, RanksCompletions, Score
from eeipu.pipeline import Pipeline

__all__ = ["free_at", "skipping"]


def skipping(score: Score, pipeline: Pipeline) -> Score:
    """The score, told which stages candidates leave out.

    Args:
        score: The score of candidates that leave no stage out.
        pipeline: The pipeline; without alternatives the score stays as it is.
    """
    if not pipeline.layout.places:
        return score
    if isinstance(score, RanksCompletions):
        return _SkippingWithRanks(score, pipeline)
    if isinstance(score, LogScoreWithGradient):
        return _SkippingWithGradient(score, pipeline)
    return lambda X, memoized: score(X, free_at(X, memoized, pipeline))


class _SkippingWithGradient:
    def __init__(self, score: LogScoreWithGradient, pipeline: Pipeline) -> None:
        self._score = score
        self._pipeline = pipeline

    def __call__(self, X: Tensor, memoized: Tensor) -> Tensor:
        return self._score(X, free_at(X, memoized, self._pipeline))

    def value_and_gradient(self, X: Tensor, memoized: Tensor) -> tuple[Tensor, Tensor]:
        return self._score.value_and_gradient(X, free_at(X, memoized, self._pipeline))


class _SkippingWithRanks(_SkippingWithGradient):
    def __init__(self, score: RanksCompletions, pipeline: Pipeline) -> None:
        super().__init__(score, pipeline)
        self._ranking = score

    def rank_completions(
        self, points: Tensor, fixed: Tensor, memoized: Tensor, X: Tensor
    ) -> Tensor:
        """Rough scores of all completions of points; see `RanksCompletions`.

        Points that choose the same stages are ranked together, with the completions that do.
        """
        columns = [self._pipeline.cube.names.index(name) for name in self._pipeline.layout.places]
        chosen = torch.where(fixed, points, 0.0)[:, columns]
        kinds, kind = torch.unique(chosen, dim=0, return_inverse=True)
        ranks = X.new_empty(len(points), len(X))
        for i in range(len(kinds)):
            rows = torch.nonzero(kind == i).flatten()
            completed = torch.where(fixed, points[rows[0]], X).unsqueeze(-2)
            free = free_at(completed, memoized, self._pipeline)
            masks, mask = torch.unique(free, dim=0, return_inverse=True)
            for j in range(len(masks)):
                those = torch.nonzero(mask == j).flatten()
                ranks[rows[:, None], those] = self._ranking.rank_completions(
                    points[rows], fixed, masks[j], X[those]
                )
        return ranks


def free_at(X: Tensor, memoized: Tensor, pipeline: Pipeline) -> Tensor:
    """Which stages candidates get for free or leave out, `b x K`.

    Args:
        X: `b x 1 x d`.
        memoized: `K` or `b x K`.
        pipeline: The pipeline.
    """
    left_out = _left_out(X.detach().squeeze(-2).numpy(), pipeline)
    kept = memoized.numpy() | left_out
    kinds, kind = np.unique(kept, axis=0, return_inverse=True)
    free = np.array([pipeline.graph.free(row) for row in kinds.tolist()], dtype=np.bool_)
    return torch.from_numpy(free[kind.ravel()])


def _left_out(X: NDArray[np.float64], pipeline: Pipeline) -> NDArray[np.bool_]:
    """Which stages configurations leave out, `b x d -> b x K`."""
    cube, layout = pipeline.cube, pipeline.layout
    left_out = np.zeros((len(X), len(pipeline.stages)), dtype=np.bool_)
    for k, chosen in enumerate(layout.chosen_by):
        for name, choice in chosen:
            column = cube.names.index(name)
            place = list(layout.places[name]).index(choice)
            left_out[:, k] |= cube.index(column, X[:, column]) != place
    return left_out
