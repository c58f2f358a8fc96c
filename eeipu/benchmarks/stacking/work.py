"""Declared costs of the stages of stacking, from numbers of rows, trees, levels and iterations.

A unit is about one second of one core, by measurements on the default table. It is more important
that declared costs are the same on every machine and in the right proportion to each other.

Notation:
    n: number of training rows; a base model is fitted to `(FOLDS - 1) / FOLDS` of them for each
        fold, and to all of them once.
"""

from eeipu.benchmarks.stacking.models import FOLDS, Stacked, catboost_depth

__all__ = ["boosting", "extra_trees", "meta", "random_forest", "symmetric"]

# Seconds for one row and one level of a tree, measured with 13,460 rows and 20 trees of depth 16.
BOOSTING_S = 2e-8
EXTRA_TREES_S = 2e-8
RANDOM_FOREST_S = 2.5e-8
SYMMETRIC_S = 2.5e-8

# Seconds for one leaf of a symmetric tree, which has 2 ** depth leaves even if many are empty.
LEAF_S = 3.7e-6

# Trees stop growing when all leaves are pure, so a larger depth takes no longer.
FULL_DEPTH = 25

# Seconds for one row in one iteration of SAGA.
ROW_S = 1e-7

# Seconds that every fit takes at least.
FIT_S = 1e-2


def _fits(stacked: Stacked, a_row: float, a_fit: float) -> float:
    """The cost of all fits of a base model, from its cost for each row and for each fit."""
    rows = len(stacked.table.train_labels)
    passes = FOLDS * (FOLDS - 1) / FOLDS + 1
    return passes * rows * a_row + (FOLDS + 1) * (a_fit + FIT_S)


def boosting(stacked: Stacked, *, trees: int, depth: int) -> float:
    """The cost of XGBoost."""
    return _fits(stacked, BOOSTING_S * trees * min(depth, FULL_DEPTH), 0.0)


def extra_trees(stacked: Stacked, *, trees: int, depth: int) -> float:
    """The cost of extremely randomised trees."""
    return _fits(stacked, EXTRA_TREES_S * trees * min(depth, FULL_DEPTH), 0.0)


def random_forest(stacked: Stacked, *, trees: int, depth: int) -> float:
    """The cost of a random forest."""
    return _fits(stacked, RANDOM_FOREST_S * trees * min(depth, FULL_DEPTH), 0.0)


def symmetric(stacked: Stacked, *, trees: int, depth: int, deepest: int) -> float:
    """The cost of CatBoost; `deepest` as in `catboost_depth`."""
    levels = catboost_depth(depth, deepest)
    return _fits(stacked, SYMMETRIC_S * trees * levels, LEAF_S * trees * 2**levels)


def meta(stacked: Stacked, *, max_iter: int) -> float:
    """The cost of the logistic meta-model, assuming that it uses all its iterations."""
    return FIT_S + ROW_S * max_iter * len(stacked.table.train_labels)
