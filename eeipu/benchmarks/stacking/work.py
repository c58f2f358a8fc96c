"""What the stages of stacking cost by a work model: rows, trees, depth and iterations.

A unit is about a second of one core, by measurements on the default table; what counts is that it
is the same everywhere, and that the proportions are right.

Notation:
    n: rows to learn from; a model is fitted to `(FOLDS - 1) / FOLDS` of them for each fold, and
        to all of them once.
"""

from eeipu.benchmarks.stacking.models import FOLDS, Stacked, catboost_depth

__all__ = ["boosting", "extra_trees", "meta", "random_forest", "symmetric"]

# Seconds for a row to pass a node, measured with 13,460 rows and 20 trees of a depth of 16.
BOOSTING_S = 2e-8
EXTRA_TREES_S = 2e-8
RANDOM_FOREST_S = 2.5e-8
SYMMETRIC_S = 2.5e-8

# Seconds for a leaf of a symmetric tree: there are 2 ** depth, whether they have rows or not.
LEAF_S = 3.7e-6

# Trees stop growing where each leaf is pure: deeper ones than this take no longer.
FULL_DEPTH = 25

# Seconds for a row in an iteration of SAGA.
ROW_S = 1e-7

# Every fit takes this, however small.
FIT_S = 1e-2


def _fits(stacked: Stacked, a_row: float, a_fit: float) -> float:
    """The cost of all fits of a base model."""
    rows = len(stacked.table.train_labels)
    passes = FOLDS * (FOLDS - 1) / FOLDS + 1
    return passes * rows * a_row + (FOLDS + 1) * (a_fit + FIT_S)


def boosting(stacked: Stacked, *, trees: int, depth: int) -> float:
    """XGBoost."""
    return _fits(stacked, BOOSTING_S * trees * min(depth, FULL_DEPTH), 0.0)


def extra_trees(stacked: Stacked, *, trees: int, depth: int) -> float:
    """Extremely randomised trees."""
    return _fits(stacked, EXTRA_TREES_S * trees * min(depth, FULL_DEPTH), 0.0)


def random_forest(stacked: Stacked, *, trees: int, depth: int) -> float:
    """A random forest."""
    return _fits(stacked, RANDOM_FOREST_S * trees * min(depth, FULL_DEPTH), 0.0)


def symmetric(stacked: Stacked, *, trees: int, depth: int, deepest: int) -> float:
    """CatBoost."""
    levels = catboost_depth(depth, deepest)
    return _fits(stacked, SYMMETRIC_S * trees * levels, LEAF_S * trees * 2**levels)


def meta(stacked: Stacked, *, max_iter: int) -> float:
    """The logistic model, if it uses all its iterations."""
    return FIT_S + ROW_S * max_iter * len(stacked.table.train_labels)
