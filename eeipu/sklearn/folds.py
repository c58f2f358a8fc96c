"""The folds of a cross-validation, and how the data is split into them."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, indexable

__all__ = ["Fold", "Rows", "Splitting"]

Rows = tuple[Any, Any]
"""The rows of a fold to fit on and those to score on, as indices or masks."""


@dataclass(frozen=True, eq=False)
class Fold:
    """A fold of the data, as far as the steps up to now have transformed it.

    Attributes:
        X_train: The part to fit on; `None` in a branch without columns.
        y_train: Its targets; `None` without targets.
        X_test: The part to score on.
        y_test: Its targets; `None` in a branch, where nothing is scored.
        fitted: The transformers that were fitted on this fold, by scikit-learn's names
            (`"columns__text"`); in a branch those of the branch alone. `"passthrough"` or `"drop"`
            where a hyper-parameter has put it in a transformer's place.
        raw_test: The part to score on as it was given, where the scorer is one that may look at it.
    """

    X_train: Any
    y_train: Any
    X_test: Any
    y_test: Any
    fitted: tuple[tuple[str, Any], ...] = ()
    raw_test: Any = None


@dataclass(frozen=True)
class Splitting:
    """How the data is split.

    Attributes:
        cv: As for `sklearn.model_selection.cross_val_score`.
        is_classifier: Whether a number of folds means stratified ones.
        is_pairwise: Whether columns of the data are its rows, as of a precomputed kernel.
        keeps_raw: Whether folds keep the part to score on as it was given.
    """

    cv: Any
    is_classifier: bool
    is_pairwise: bool = False
    keeps_raw: bool = False

    def rows(self, X: Any, y: Any = None, groups: Any = None, /) -> list[Rows]:
        """The rows of each fold."""
        X, y, groups = indexable(X, y, groups)
        # A copy: a splitter with a generator of its own would split anew the next time.
        cv = check_cv(copy.deepcopy(self.cv), y, classifier=self.is_classifier)
        return list(cv.split(X, y, groups))

    def folds(self, rows: Iterable[Rows], X: Any, y: Any = None, _: Any = None) -> Iterator[Fold]:
        """The folds with these rows, one after another, so that one at a time is in memory."""
        X, y = indexable(X, y)
        for train, test in rows:
            X_train, X_test = self._part(X, train, train), self._part(X, test, train)
            y_train, y_test = (None if y is None else _safe_indexing(y, p) for p in (train, test))
            yield Fold(X_train, y_train, X_test, y_test, (), X_test if self.keeps_raw else None)

    def _part(self, X: Any, rows: Any, train: Any) -> Any:
        return X[np.ix_(rows, train)] if self.is_pairwise else _safe_indexing(X, rows)
