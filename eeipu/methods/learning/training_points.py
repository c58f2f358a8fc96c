"""The configurations that the models of a search learn from."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from eeipu.methods.history import History
from eeipu.methods.transfer.earlier_trials import EarlierTrials

__all__ = ["RowOptions", "TrainingPoints"]

Array = NDArray[np.float64]


class RowOptions(TypedDict):
    """Arguments of a model that say which rows of its `X` are special."""

    focus: list[int]
    borrowed: int
    study_columns: list[int]


@dataclass(frozen=True)
class TrainingPoints:
    """The configurations of earlier studies, if there are any, and then those of this study.

    Attributes:
        history: The trials of this study.
        earlier: What earlier studies know; `None`: there are none to learn from.
    """

    history: History
    earlier: EarlierTrials | None

    @cached_property
    def X(self) -> Array:  # noqa: N802
        """All points, `(m + n) x (d + S)`, as `EarlierTrials` has them; `n x d` without these."""
        X = self.history.X
        return X if self.earlier is None else self.earlier.followed_by(X)

    @cached_property
    def focus(self) -> list[int]:
        """The trials of this study that succeeded, best first.

        Models must be right about the best of them. This matters if there are too many trials for
        all to count alike.
        """
        found: list[int] = self.history.best_first.tolist()
        return found

    @property
    def row_options(self) -> RowOptions:
        """What models are told of these points: which matter most, and which are borrowed."""
        count = 0 if self.earlier is None else len(self.earlier)
        return {
            "focus": [count + row for row in self.focus],
            "borrowed": count,
            "study_columns": list(range(self.history.X.shape[1], self.X.shape[1])),
        }
