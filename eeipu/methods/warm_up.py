"""The warm-up: which configurations run before models choose.

Notation:
    n: trials of the warm-up; K: stages; d: hyper-parameters.
    number: a trial's place in the study, from 0.

Every design is a sequence that depends on the seed alone, or on the trials so far as well, so that
a study that is resumed goes on with it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from eeipu.methods.maximisation import quasi_random
from eeipu.methods.search_state import Search

__all__ = ["Design", "cost_effective", "independent", "no_design", "prefix_sharing"]

Array = NDArray[np.float64]
Design = Callable[[Search], Array | None]
"""From a search to the next point of the cube, `d`; `None` when the warm-up is over."""

# The share of the budget that CArBO's warm-up may cost.
INITIAL_SHARE = 1 / 8

# The discretised space that CArBO's design chooses from.
COST_EFFECTIVE_POINTS = 512


def independent(search: Search) -> Array | None:
    """Scrambled Sobol points."""
    if _is_over(search):
        return None
    point: Array = quasi_random(
        len(search.history.pipeline.cube), 1, search.seed, skip=search.number
    )[0]
    return point


def prefix_sharing(search: Search) -> Array | None:
    """Points that share prefixes: few settings of the first stages and many of the last.

    The first stage gets a setting for every two trials, the last one a setting a trial, and those
    between evenly more; each stage's are scrambled Sobol points of its own. Trials with
    the same setting follow one another, so that the output they share is still kept.
    """
    if _is_over(search):
        return None
    pipeline = search.history.pipeline
    settings = _settings(search.number, len(pipeline.stages))
    point = np.empty(len(pipeline.cube))
    for k, columns in enumerate(pipeline.stage_columns):
        if columns:
            seed = (search.seed + k) % 2**31
            point[list(columns)] = quasi_random(len(columns), 1, seed, skip=settings[k])[0]
    return point


def no_design(search: Search) -> Array | None:  # noqa: ARG001 - it is over at once
    """No warm-up at all."""
    return None


def _is_over(search: Search) -> bool:
    return len(search.history) + len(search.history.running) >= search.n_initial


def _settings(number: int, stages: int) -> list[int]:
    """Which of its settings each stage has in trial `number`."""
    settings = [0] * stages
    span = 2 * max(1, stages - 1)
    for i in range(number):
        # Stage k has left behind the share (1 + k / (K - 1)) / 2 of the trials so far. The first
        # that moves on takes all below it along; the last one always does.
        shares = [stages - 1 + k for k in range(stages - 1)]
        moved = [k for k, share in enumerate(shares) if (i + 1) * share // span > i * share // span]
        for k in range(min(moved, default=stages - 1), stages):
            settings[k] += 1
    return settings


def cost_effective(search: Search) -> Array | None:
    """CArBO's design: as small a fill distance as an eighth of the budget pays for.

    Of many points, the costliest that is left and the one nearest to what has run are dropped in
    turn until one remains (Lee et al. 2020, arXiv 2003.10870, algorithm 1).

    Note:
        Where no cost is known yet, the point is the first of the quasi-random ones. Running
        trials count as having run. Where trials cost nothing, it ends as other designs do.
    """
    history = search.history
    share = INITIAL_SHARE * search.budget.total
    if history.spent >= share or (history.spent == 0 and _is_over(search)):
        return None
    cube = history.pipeline.cube
    points = cube.snap(quasi_random(len(cube), COST_EFFECTIVE_POINTS, search.seed))
    seen = np.concatenate([history.X, history.running_X])
    if not np.isfinite(history.total_costs).any():
        first: Array = points[search.number % len(points)]
        return first
    distance = _distances(points, seen, cube.categorical_columns).min(axis=1)
    new = distance > 0
    if not new.any():
        return None
    mean, _ = search.total_cost.log_cost_posterior(torch.from_numpy(points[new]))
    chosen: Array = points[new][_cheap_and_far(mean.squeeze(-1).numpy(), distance[new])]
    return chosen


def _distances(A: Array, C: Array, categorical: Sequence[int]) -> Array:
    """Euclidean distances, `a x d` and `c x d -> a x c`; different categories are 1 apart."""
    difference = A[:, None] - C[None]
    difference[..., list(categorical)] = difference[..., list(categorical)] != 0
    distance: Array = np.linalg.norm(difference, axis=-1)
    return distance


def _cheap_and_far(costs: Array, distance: Array) -> int:
    """What is left when the costliest and the nearest point are dropped in turn."""
    left = np.arange(len(costs))
    while len(left) > 1:
        left = np.delete(left, costs[left].argmax())
        if len(left) > 1:
            left = np.delete(left, distance[left].argmin())
    return int(left[0])
