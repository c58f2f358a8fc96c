"""The warm-up: the configurations that run before models choose.

Notation:
    n: trials of the warm-up.
    K: stages.
    d: hyper-parameters.
    number: a trial's place in the study, from 0.

Every design is a sequence that depends on nothing but the seed and the trials so far, so that a
study that is resumed continues it. Its points know no constraints: those that violate one are
repaired, and what trials share stays shared (`eeipu.spaces.feasible`).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from eeipu.methods.budget import Budget, spent
from eeipu.methods.climbing.maximisation import quasi_random
from eeipu.methods.history import History
from eeipu.methods.reuse.shared_settings import settings
from eeipu.methods.search_state import Search
from eeipu.pipeline import Pipeline

__all__ = [
    "LEARNT_TRIALS",
    "USUAL_TRIALS",
    "Design",
    "cost_effective",
    "design_for",
    "independent",
    "next_point",
    "no_design",
    "prefix_sharing",
    "spread_out",
    "within_budget",
]

# Multiples of the golden ratio, less their whole parts, fill an interval evenly at every length.
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0

# Where configurations fail, a model of the objective needs this many successes: from two or three
# it expects so much of the region that fails that a small chance of success there does not matter.
LEAST_SUCCESSES = 5

# Of this many quasi-random points, the one that most probably succeeds is tried. More would lie
# close to the successes so far.
LIKELY_POINTS = 64

Array = NDArray[np.float64]
Design = Callable[[Search], Array | None]
"""Maps a search to the next point of the cube, `d`, or to `None` when the warm-up is over."""

# The number of trials in a warm-up, unless the user or the method says otherwise: the paper's.
USUAL_TRIALS = 10

# The same with earlier studies to learn from: so many tell whether these agree.
LEARNT_TRIALS = 4

# A warm-up of the usual size ends earlier if it has cost this share of the budget, but not before
# this number of trials. On large budgets fewer trials were measured to be neither better nor worse,
# on small ones much better (docs/methods.md).
LARGEST_SHARE = 0.25
LEAST_TRIALS = 3

# The share of the budget that CArBO's warm-up may cost.
INITIAL_SHARE = 1 / 8

# The number of points that CArBO's design chooses from.
COST_EFFECTIVE_POINTS = 512


def design_for(own: Design | None, pipeline: Pipeline, *, keeps_last: bool) -> Design:
    """The design of a search: the method's own, or one that shares prefixes if that saves cost.

    Args:
        own: The method's own design, if it has one.
        pipeline: The pipeline that is tuned.
        keeps_last: Whether the outputs of the last trial can be reused.
    """
    if own is not None:
        return own
    can_share = keeps_last and any(pipeline.memoizes[:-1])
    return prefix_sharing if can_share else independent


def within_budget(history: History, budget: Budget) -> int:
    """The number of trials in a warm-up of the usual size, or of fewer if it has become too dear.

    Args:
        history: The trials so far.
        budget: What all trials together may cost.
    """
    first = history.ended[:USUAL_TRIALS]
    so_far = np.cumsum([spent([trial], history.study_id) for trial in first])
    cheap = int(np.count_nonzero(so_far < LARGEST_SHARE * budget.total))
    if cheap == len(so_far):
        return USUAL_TRIALS
    return min(USUAL_TRIALS, max(LEAST_TRIALS, cheap + 1))


def next_point(search: Search, design: Design, *, fits_models: bool) -> Array | None:
    """The next point of the warm-up, `d`; `None` when it is over.

    Args:
        search: The state of the search.
        design: The warm-up design.
        fits_models: Whether models are fitted after it. They need two successful trials; until
            then the warm-up continues with quasi-random points. If trials have failed, they need
            `LEAST_SUCCESSES`, and points are taken that probably succeed.
    """
    point = design(search)
    if point is not None or not fits_models:
        return point
    successes, d = (
        np.count_nonzero(search.history.objectives.succeeded),
        len(search.history.pipeline.cube),
    )
    if successes == 0 or search.models.chances.feasibility is None:
        return quasi_random(d, 1, search.seed, skip=search.number)[0] if successes < 2 else None
    if successes >= max(2, min(LEAST_SUCCESSES, search.n_initial)):
        return None
    points = quasi_random(d, LIKELY_POINTS, search.seed, skip=search.number * LIKELY_POINTS)
    points = _allowed(search, search.history.pipeline.cube.snap(points))
    chance = search.models.chances.feasibility.log_probability(torch.from_numpy(points))
    likely: Array = points[int(chance.argmax())]
    return likely


def independent(search: Search) -> Array | None:
    """Scrambled Sobol points."""
    if _is_over(search):
        return None
    point: Array = quasi_random(
        len(search.history.pipeline.cube), 1, search.seed, skip=search.number
    )[0]
    return _in_turn(point, search)


def prefix_sharing(search: Search) -> Array | None:
    """Points that share prefixes: few settings of the first stages and many of the last.

    The first stage gets a new setting in every second trial and the last one in every trial; the
    frequency grows evenly from stage to stage. In a graph, branches share their parts: they move in
    different trials, and a stage moves if one that leads to it does; see
    `eeipu.methods.reuse.shared_settings`. Trials with the same setting follow one another, so that
    the output that they share is still kept.

    All settings come from one scrambled Sobol sequence over all hyper-parameters, of which each
    stage takes its own columns at the number of its setting. Sequences of the stages' own would be
    the same up to their scrambles, and stages with equal numbers would be confounded.
    """
    if _is_over(search):
        return None
    pipeline = search.history.pipeline
    point = np.empty(len(pipeline.cube))
    numbers = settings(pipeline, search.number)
    for columns, setting in zip(pipeline.columns.of_stages, numbers, strict=True):
        if columns:
            whole = quasi_random(len(pipeline.cube), 1, search.seed, skip=setting)[0]
            point[list(columns)] = whole[list(columns)]
    return _in_turn(point, search)


def _in_turn(point: Array, search: Search) -> Array:
    """The point with alternatives that take turns, so that the warm-up tries each as often."""
    pipeline = search.history.pipeline
    for name, options in pipeline.layout.places.items():
        column, count = pipeline.cube.names.index(name), len(options)
        block, turn = divmod(search.number, count)
        order = np.random.default_rng([search.seed, column, block]).permutation(count)
        point[column] = pipeline.cube.centres(column, order[turn : turn + 1].astype(np.float64))[0]
    return point


def in_order(search: Search) -> Array | None:
    """The configurations of a finite space one after the other, each once."""
    return _of_grid(search, 1)


def spread_out(search: Search) -> Array | None:
    """The configurations of a finite space, each once, those after each other far apart.

    Where trials are compared while the search goes on, the order must not say which are good: of
    learning rates in ascending order each may be the best so far, and none would be stopped.
    """
    size = search.history.pipeline.cube.size or 1
    stride = max(1, round(size * GOLDEN))
    while math.gcd(stride, size) > 1:  # otherwise some would come twice and others never
        stride += 1
    return _of_grid(search, stride)


def _of_grid(search: Search, stride: int) -> Array | None:
    """The next configuration of a finite space that is new, `stride` of them after the last."""
    history = search.history
    cube = history.pipeline.cube
    size = cube.size or 0
    for number in range(search.number, search.number + size):  # trials may have run out of turn
        point: Array = cube.grid_point(number * stride % size)
        params = cube.decode(point)
        if cube.constraints.allow(params) and history.configurations.is_new(params):
            return point
    return None


def no_design(search: Search) -> Array | None:  # noqa: ARG001 - it is over at once
    """No warm-up at all."""
    return None


def _allowed(search: Search, points: Array) -> Array:
    """Those of some points that the constraints allow; all of them, to be repaired, if none are."""
    allowed = points[search.history.pipeline.cube.allows(points)]
    return allowed if len(allowed) else points


def _is_over(search: Search) -> bool:
    return len(search.history) + len(search.history.running) >= search.n_initial


def cost_effective(search: Search) -> Array | None:
    """CArBO's design: points that fill the space as evenly as an eighth of the budget pays for.

    Of many points, the most expensive one and the one nearest to a trial are dropped in turn until
    one remains (Lee et al. 2020, arXiv 2003.10870, algorithm 1).

    Note:
        While no cost is known, the points are quasi-random ones. Running trials count as having
        run. If trials cost nothing, or there is no budget, the design ends after `n_initial`
        trials, as others do.
    """
    history = search.history
    share = INITIAL_SHARE * search.budget.total
    is_free = history.spent == 0 or not search.budget.is_limited
    if history.spent >= share or (is_free and _is_over(search)):
        return None
    cube = history.pipeline.cube
    points = cube.snap(quasi_random(len(cube), COST_EFFECTIVE_POINTS, search.seed))
    points = _allowed(search, points)
    seen = np.concatenate([history.X, history.running_X])
    if not np.isfinite(history.stages.total_costs).any():
        first: Array = points[search.number % len(points)]
        return first
    distance = _distances(points, seen, cube.categorical_columns).min(axis=1)
    new = distance > 0
    if not new.any():
        return None
    mean, _ = search.models.costs.total.log_cost_posterior(torch.from_numpy(points[new]))
    chosen: Array = points[new][_cheap_and_far(mean.squeeze(-1).numpy(), distance[new])]
    return chosen


def _distances(A: Array, C: Array, categorical: Sequence[int]) -> Array:
    """Euclidean distances, `a x d` and `c x d -> a x c`; different categories are 1 apart."""
    difference = A[:, None] - C[None]
    difference[..., list(categorical)] = difference[..., list(categorical)] != 0
    distance: Array = np.linalg.norm(difference, axis=-1)
    return distance


def _cheap_and_far(costs: Array, distance: Array) -> int:
    """The index that remains when the most expensive and the nearest point are dropped in turn."""
    left = np.arange(len(costs))
    while len(left) > 1:
        left = np.delete(left, costs[left].argmax())
        if len(left) > 1:
            left = np.delete(left, distance[left].argmin())
    return int(left[0])
