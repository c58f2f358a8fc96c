"""Which trials are the best ones, where there are several objectives or constraints on outcomes.

Notation:
    n: trials; M: objectives; J: constraints.
    values: `n x M`, maximised; a row of a trial that failed has NaN.
    violations: `n x J`, positive where an outcome is beyond its limit; NaN where it is not known.

A trial dominates another if it is at least as good in all objectives and better in one. The first
front are those that none dominates, the second those that only the first front dominates, and so
on. Within a front, those come first that are far from their neighbours: the crowding distance of
Deb et al. 2002 ("A fast and elitist multiobjective genetic algorithm: NSGA-II", section III).
Trials within all limits come before others (their section VI), which follow by how far they are
beyond them.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_first", "first_front", "totals"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]


def best_first(values: Array, violations: Array) -> Indices:
    """The trials that have values, the best one first; earlier trials win ties.

    Args:
        values: `n x M`.
        violations: `n x J`.
    """
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    beyond = totals(violations)[known]
    within, others = known[beyond == 0], known[beyond > 0]
    others = others[np.argsort(beyond[beyond > 0], kind="stable")]
    if values.shape[1] == 1:
        return np.concatenate([within[np.argsort(-values[within, 0], kind="stable")], others])
    fronts = []
    while len(within):
        is_first = first_front(values[within])
        front = within[is_first]
        fronts.append(front[np.argsort(-_crowding(values[front]), kind="stable")])
        within = within[~is_first]
    return np.concatenate([*fronts, others]).astype(np.intp)


def first_front(values: Array) -> Flags:
    """Which rows no other one dominates, `n x M -> n`; of equal rows all count."""
    is_first = np.ones(len(values), dtype=np.bool_)
    for i, row in enumerate(values):
        better = (values >= row).all(axis=1) & (values > row).any(axis=1)
        is_first[i] = not better.any()
    return is_first


def totals(violations: Array) -> Array:
    """How far each trial is beyond its limits in all, `n`; 0 within them.

    Constraints have units of their own: each violation counts relative to the largest one of its
    constraint.
    """
    beyond = np.nan_to_num(np.maximum(violations, 0.0), nan=0.0, posinf=np.finfo(float).max)
    largest = beyond.max(axis=0, initial=0.0)
    shares = beyond / np.where(largest > 0, largest, 1.0)
    found: Array = np.where((beyond > 0).any(axis=1), np.maximum(shares.sum(axis=1), 1e-300), 0.0)
    return found


def _crowding(values: Array) -> Array:
    """The crowding distance of each member of a front, `n x M -> n`; infinite at the ends."""
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        distance[order[[0, -1]]] = np.inf
        span = column[order[-1]] - column[order[0]]
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance
