"""What the branches of a `ColumnTransformer` and a `FeatureUnion` get.

Columns are selected by a `ColumnTransformer`, by what it gives a transformer that looks at its
data and does nothing else: by name, index, slice, mask or function, one column as 1-d data or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer

from eeipu.sklearn.folds import Fold

__all__ = ["Selection"]


class _Looking(BaseEstimator):
    """A transformer that keeps what it gets."""

    def fit_transform(self, X: Any, *_: Any) -> Any:
        self.train_ = X
        return np.empty((X.shape[0], 0))

    def transform(self, X: Any) -> Any:
        self.test_ = X
        return np.empty((X.shape[0], 0))


@dataclass(frozen=True)
class Selection:
    """What a branch gets.

    Attributes:
        selector: Gives the branch's data to a transformer that keeps it; `None`: it gets all.
    """

    selector: ColumnTransformer | None = None

    @classmethod
    def columns(cls, columns: Any) -> "Selection":
        """These columns, as a `ColumnTransformer` takes them."""
        return cls(ColumnTransformer([("branch", _Looking(), columns)]))

    @classmethod
    def remainder(cls, columns: Sequence[Any]) -> "Selection":
        """The columns that none of these names."""
        others = [(f"branch{i}", "drop", each) for i, each in enumerate(columns)]
        return cls(ColumnTransformer(others, remainder=_Looking()))

    def of(self, fold: Fold) -> Fold:
        """A fold of the branch, in which nothing has been fitted."""
        X_train, X_test = fold.X_train, fold.X_test
        if self.selector is not None and X_train is not None:
            selector = clone(self.selector)
            selector.fit_transform(X_train)
            selector.transform(X_test)
            looks = [each for _, each, _ in selector.transformers_ if isinstance(each, _Looking)]
            # A transformer whose columns are none is never called.
            X_train, X_test = (
                getattr(looks[0], part, None) if looks else None for part in ("train_", "test_")
            )
        return replace(fold, X_train=X_train, X_test=X_test, y_test=None, fitted=(), raw_test=None)
