"""Base models with out-of-fold predictions, and the logistic meta-model on top.

Notation:
    n, h, f: as in `eeipu.benchmarks.stacking.table`.
    m: number of base models so far.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eeipu.benchmarks.stacking.table import Table
from eeipu.errors import MissingExtraError

try:
    from catboost import CatBoostClassifier
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold
    from xgboost import XGBClassifier
except ImportError as error:
    raise MissingExtraError(
        f"the stacking problems need XGBoost, CatBoost and scikit-learn ({error}); "
        f'pip install "eeipu[benchmarks]"'
    ) from error

__all__ = [
    "FOLDS",
    "MAX_DEPTH",
    "Stacked",
    "catboost_depth",
    "meta_score",
    "with_catboost",
    "with_extra_trees",
    "with_random_forest",
    "with_xgboost",
]

Array = NDArray[np.float64]

# As in the paper.
FOLDS = 3
MAX_DEPTH = 100

# The seed of all models; runs with different seeds differ in their rows.
SEED = 0


class Classifier(Protocol):
    """The interface that the classifiers of all libraries share."""

    def fit(self, X: Array, y: NDArray[np.int64]) -> Any:
        """Fit to features `n x f` and labels `n`."""
        ...

    def predict_proba(self, X: Array) -> Array:
        """The probabilities of both classes, `n x 2`."""
        ...


@dataclass(frozen=True)
class Stacked:
    """A table with the predictions of base models.

    Attributes:
        table: The table.
        train: `n x m`, probabilities of class 1 by models that were not fitted to the row.
        held_out: `h x m`, probabilities of class 1 by models that were fitted to all `n` rows.
    """

    table: Table
    train: Array
    held_out: Array

    @classmethod
    def nothing(cls, table: Table) -> "Stacked":
        """The table without predictions."""
        n, h = len(table.train_labels), len(table.held_out_labels)
        return cls(table, np.empty((n, 0)), np.empty((h, 0)))

    @classmethod
    def joined(cls, parts: Sequence["Stacked"]) -> "Stacked":
        """The predictions of several, at least one, side by side."""
        train, held_out = ([getattr(p, name) for p in parts] for name in ("train", "held_out"))
        return cls(parts[0].table, np.hstack(train), np.hstack(held_out))

    def plus(self, model: Classifier) -> "Stacked":
        """Add the predictions of one more model, which is fitted `FOLDS + 1` times."""
        table = self.table
        out_of_fold = np.empty(len(table.train_labels))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
        for learn, leave in folds.split(table.train, table.train_labels):
            model.fit(table.train[learn], table.train_labels[learn])
            out_of_fold[leave] = model.predict_proba(table.train[leave])[:, 1]
        model.fit(table.train, table.train_labels)
        held_out = model.predict_proba(table.held_out)[:, 1]
        return Stacked(
            table,
            np.column_stack([self.train, out_of_fold]),
            np.column_stack([self.held_out, held_out]),
        )


def with_xgboost(stacked: Stacked, *, trees: int, depth: int, rate: float) -> Stacked:
    """Add the predictions of boosted trees (XGBoost)."""
    model = XGBClassifier(
        n_estimators=trees, max_depth=depth, learning_rate=rate, n_jobs=1, random_state=SEED
    )
    return stacked.plus(model)


def with_catboost(
    stacked: Stacked, *, trees: int, depth: int, rate: float, deepest: int
) -> Stacked:
    """Add the predictions of boosted symmetric trees (CatBoost).

    Args:
        stacked: The table with the predictions so far.
        trees: The number of trees.
        depth: The depth before scaling, from 1 to `MAX_DEPTH`; see `catboost_depth`.
        rate: The learning rate.
        deepest: The largest depth after scaling, at most 16.
    """
    model = CatBoostClassifier(
        iterations=trees,
        depth=catboost_depth(depth, deepest),
        learning_rate=rate,
        thread_count=1,
        random_seed=SEED,
        verbose=False,
        allow_writing_files=False,
    )
    return stacked.plus(model)


def with_extra_trees(stacked: Stacked, *, trees: int, depth: int) -> Stacked:
    """Add the predictions of extremely randomised trees."""
    return stacked.plus(ExtraTreesClassifier(trees, max_depth=depth, random_state=SEED))


def with_random_forest(stacked: Stacked, *, trees: int, depth: int) -> Stacked:
    """Add the predictions of a random forest."""
    return stacked.plus(RandomForestClassifier(trees, max_depth=depth, random_state=SEED))


def catboost_depth(depth: int, deepest: int) -> int:
    """Scale a depth from the range 1 to `MAX_DEPTH` to the range 1 to `deepest`.

    CatBoost's trees are symmetric, with `2 ** depth` leaves, and at most 16 deep. If depths were
    cut off there instead, five sixths of the published range would mean the same.
    """
    return 1 + round((depth - 1) * (deepest - 1) / (MAX_DEPTH - 1))


def meta_score(*stacked: Stacked, C: float, tol: float, max_iter: int) -> float:
    """Fit the logistic meta-model; the area under its ROC curve on the held-out rows, 0 to 1.

    The model sees the predictions of the base models and the features of the table. With four
    predictions alone, any solver converges within 40 iterations, so most of the published range
    of `max_iter` would have no effect. With features of unequal scales, SAGA needs up to all of it.
    """
    predictions = Stacked.joined(stacked)
    table = predictions.table
    model = LogisticRegression(C=C, tol=tol, max_iter=max_iter, solver="saga", random_state=SEED)
    with warnings.catch_warnings():
        # Stopping before convergence is intended: `max_iter` is tuned.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.hstack([predictions.train, table.train]), table.train_labels)
    chances = model.predict_proba(np.hstack([predictions.held_out, table.held_out]))[:, 1]
    return float(roc_auc_score(table.held_out_labels, chances))
