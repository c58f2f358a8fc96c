"""Many ascents along the gradients of an acquisition at once.

Notation:
    K: stages.
    d: hyper-parameters.
    X: `b x 1 x d`, candidates in the unit cube.
    memoized: `b x K`, which stages each candidate gets for free.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult
from torch import Tensor

from eeipu.methods.climbing.scores import LogScoreWithGradient, Score

__all__ = ["LEAST_GAIN", "Ascent"]

Array = NDArray[np.float64]

# An ascent ends once a step gains less than this share of the value (of 1, if the value is
# smaller): nobody can tell acquisitions apart that differ by a factor of 1.00001. With 1e-8 an
# ascent takes twice as many steps.
LEAST_GAIN = 1e-5

# After this many steps of all ascents, those that lie further below the best than this, in the
# logarithm of the acquisition, end where they are.
PATIENCE = 6
HOPELESS = 2.0


class Ascent:
    """What a batched L-BFGS-B asks about many ascents at once, as it minimises.

    Args:
        score: The acquisition.
        memoized: `b x K`, the stages that each start gets for free.
        free: `b x d`, the coordinates that may move.
    """

    def __init__(self, score: Score, memoized: Tensor, free: NDArray[np.bool_]) -> None:
        self._score = score
        self._memoized = memoized
        self._free = free
        self._calls = 0
        self._best = np.inf

    def negative(self, x: Array, batch_indices: list[int]) -> tuple[Array, Array]:
        """Minus the values and minus the gradients of some starts, at `x`."""
        self._calls += 1
        X = torch.from_numpy(np.ascontiguousarray(x)).unsqueeze(-2)
        values, gradient = self._value_and_gradient(X, self._memoized[batch_indices])
        negative = -values.numpy()
        self._best = min(self._best, np.nanmin(negative, initial=np.inf))
        # A coordinate without a gradient never moves in L-BFGS-B.
        slope = np.where(self._free[batch_indices], gradient.squeeze(-2).numpy(), 0.0)
        return negative, -np.nan_to_num(slope)

    def _value_and_gradient(self, X: Tensor, memoized: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self._score, LogScoreWithGradient):
            return self._score.value_and_gradient(X, memoized)
        X = X.requires_grad_(True)
        values = self._score(X, memoized)
        (gradient,) = torch.autograd.grad(values.sum(), X)
        return values.detach(), gradient

    def end_if_hopeless(self, intermediate_result: OptimizeResult) -> None:
        """Called after each step of an ascent: end it if it has little hope to become the best.

        Raises:
            StopIteration: This is how L-BFGS-B is told to end it.
        """
        # Values of other scores than logarithms have no unit in which a distance means something.
        if self._calls < PATIENCE or not isinstance(self._score, LogScoreWithGradient):
            return
        if intermediate_result.fun > self._best + HOPELESS:
            raise StopIteration
