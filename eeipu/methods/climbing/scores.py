"""Scores: acquisitions as the maximisation asks for them.

Notation:
    b: candidates; K: stages; d: hyper-parameters; P: points whose fixed columns are completed.
    X: `b x 1 x d`, candidates in the unit cube.
    memoized: `b x K`, which stages each candidate gets for free.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["LogScoreWithGradient", "RanksCompletions", "Score"]

Score = Callable[[Tensor, Tensor], Tensor]
"""`X` (`b x 1 x d`) and `memoized` (`b x K`) -> acquisition values (`b`)."""


@runtime_checkable
class LogScoreWithGradient(Protocol):
    """A score that also has gradients, and is the logarithm of an acquisition."""

    def __call__(self, X: Tensor, memoized: Tensor) -> Tensor:
        """Values, as of any `Score`."""

    def value_and_gradient(self, X: Tensor, memoized: Tensor) -> tuple[Tensor, Tensor]:
        """The values (`b`) and their gradients (`b x 1 x d`)."""


@runtime_checkable
class RanksCompletions(LogScoreWithGradient, Protocol):
    """A score that ranks all completions of points at once, for less than it scores them."""

    def rank_completions(
        self, points: Tensor, fixed: Tensor, memoized: Tensor, X: Tensor
    ) -> Tensor:
        """Rough scores, `P x b`, of `P x d` points whose fixed columns are completed by `X`.

        Args:
            points: `P x d`.
            fixed: `d`, boolean.
            memoized: `K`.
            X: `b x d`.
        """
