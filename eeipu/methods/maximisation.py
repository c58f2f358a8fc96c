"""The prefix pool, and the maximisation of an acquisition over all prefixes at once.

Notation:
    P: prefixes in the pool; K: stages; d: hyper-parameters.
    X: `b x 1 x d`, candidates in the unit cube.
    memoized: `b x K`, which stages each candidate gets for free.

A prefix fixes the hyper-parameters of the first stages at those of a trial whose outputs are
kept. The rest of the cube is searched: shared quasi-random points are snapped into every prefix
and scored together, the best go through a batched L-BFGS-B in their continuous columns and an
exchange of values in their discrete ones, and all are compared at the value that will run.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.optim.batched_lbfgs_b import fmin_l_bfgs_b_batched
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from torch import Tensor

from eeipu.pipeline import Pipeline
from eeipu.space import Space

__all__ = ["Candidate", "Prefix", "Region", "maximize", "prefix_pool", "quasi_random"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Score = Callable[[Tensor, Tensor], Tensor]
"""`X` (`b x 1 x d`) and `memoized` (`b x K`) -> acquisition values (`b`)."""

# Points scored under each prefix: quasi-random ones, and ones around good trials.
RAW_SAMPLES = 256
LOCAL_SAMPLES = 128

# Local searches under each prefix, and how many more go to the best points of all.
RESTARTS_EACH = 4
RESTARTS_SHARED = 30

# The pool of a long pipeline has many prefixes, most of them of no interest: more than this many
# share the points and local searches of so many.
FULL_EFFORT_PREFIXES = 48

# Shared starts under one prefix lie at least so far apart in some column; without it most of them
# climb the same hill, and other maxima are missed.
LEAST_SPREAD = 0.15

MAX_ITERATIONS = 100

# Points scored in one call: more of them leave the processor's cache, and were measured to take
# five times as long each.
SCORED_AT_ONCE = 512

# Rounds of "move the continuous columns, then exchange the discrete ones": the second climbs the
# slope that an exchange has opened.
ROUNDS = 2

# Discrete columns are exchanged one at a time: each start tries all of at most so many ordered
# values, and of more than that those at halving distances. Choices have no distance: each start
# tries all, or as many different ones as keep the trials of all starts at this number.
MAX_EXCHANGED = 32
MAX_CHOICES = 10_000


@dataclass(frozen=True)
class Prefix:
    """The first stages of a candidate, fixed because their outputs are kept.

    Attributes:
        params: The fixed hyper-parameters, exactly as stored. Empty: nothing is fixed.
        memoized: For every stage, whether a candidate with this prefix gets it for free.
    """

    params: dict[str, Any]
    memoized: tuple[bool, ...]


@dataclass(frozen=True)
class Region:
    """A part of the cube under one prefix.

    Attributes:
        bounds: `2 x d`, its lower and upper corner.
        prefix: What is fixed.
    """

    bounds: Array
    prefix: Prefix


@dataclass(frozen=True)
class Candidate:
    """A configuration, the prefix it shares, and what the acquisition says of it."""

    params: dict[str, Any]
    prefix: Prefix
    score: float


def prefix_pool(
    pipeline: Pipeline, trials: tuple[FrozenTrial, ...], kept: Container[str]
) -> list[Prefix]:
    """All prefixes of these trials whose last output is kept, and the empty prefix.

    Prefixes that fix every hyper-parameter are left out: there is nothing left to choose.

    Args:
        pipeline: The pipeline that was tuned.
        trials: The trials whose prefixes to offer, best first (the paper: the top Q).
        kept: The content keys whose outputs can be loaded now.
    """
    names = list(pipeline.space)
    k = len(pipeline.stages)
    pool: dict[tuple[Any, ...], Prefix] = {(): Prefix({}, (False,) * k)}
    for trial in trials:
        keys = trial.user_attrs.get("stage_keys", [])
        for depth in range(1, k):
            if len(keys) < depth or not pipeline.stages[depth - 1].memoize:
                continue
            if keys[depth - 1] not in kept:
                continue
            end = sum(len(columns) for columns in pipeline.stage_columns[:depth])
            if end == len(names):
                break
            fixed = {name: trial.params[name] for name in names[:end]}
            identity = tuple((type(value), value) for value in fixed.values())
            # Deeper comes later: where two depths fix the same, more is free at the deeper one.
            pool[identity] = Prefix(fixed, (True,) * depth + (False,) * (k - depth))
    return list(pool.values())


def maximize(
    score: Score,
    space: Space,
    pool: list[Prefix],
    *,
    seed: int,
    incumbents: Array | None = None,
    bounds: Array | None = None,
    effort: int = 1,
) -> Iterator[Candidate]:
    """The maximisers found, best first, at the values that will run.

    Args:
        score: The acquisition; it may be asked for gradients.
        space: The search space.
        pool: The prefixes to search under, at least one.
        seed: Fixes the quasi-random starting points.
        incumbents: `m x d`, good points to start around as well.
        bounds: `2 x d`, the corners of the box to search; `None`: the whole cube.
        effort: Multiplies the points scored and the local searches.
    """
    box = np.stack([np.zeros(len(space)), np.ones(len(space))]) if bounds is None else bounds
    search = _Search(score, space, pool, box, seed)
    each = effort * min(1.0, FULL_EFFORT_PREFIXES / len(pool))
    raw = _raw_points(space, seed, incumbents, box, each)
    index, X = search.starts(raw, max(1, round(each * RESTARTS_EACH)), effort * RESTARTS_SHARED)
    for _ in range(ROUNDS):
        X = search.ascend(index, X)
        X, changed = search.exchange(index, X)
        if not changed:
            break
    values = search.values(index, X)
    for i in np.argsort(-values, kind="stable"):
        prefix = pool[index[i]]
        # What is fixed is taken as stored, not decoded: a bit lost in the cube is a cache miss.
        yield Candidate({**space.decode(X[i]), **prefix.params}, prefix, float(values[i]))


def quasi_random(d: int, count: int, seed: int, skip: int = 0) -> Array:
    """Points `skip` to `skip + count` of a scrambled Sobol sequence, `count x d`."""
    sobol = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed)
    sobol.fast_forward(skip)
    points: Array = sobol.draw(count, dtype=torch.double).numpy()
    return points


def _raw_points(
    space: Space, seed: int, incumbents: Array | None, box: Array, effort: float
) -> Array:
    low, high = box
    count = max(1, round(effort * RAW_SAMPLES))
    points = [low + (high - low) * quasi_random(len(space), count, seed)]
    if incumbents is not None and len(incumbents):
        # At scales from the whole cube down to a late refinement.
        rng = np.random.default_rng(seed)
        count = max(1, round(effort * LOCAL_SAMPLES))
        centres = incumbents[rng.integers(len(incumbents), size=count)]
        widths = 10.0 ** rng.uniform(-2.5, -0.5, size=(count, 1))
        points.append(np.clip(centres + widths * rng.standard_normal(centres.shape), low, high))
    return space.snap(np.concatenate(points))


def _spread(X: Array, index: Indices, order: Indices, count: int) -> Indices:
    """The first `count` points of an order that lie apart, so as not to climb one hill twice."""
    chosen: list[int] = []
    for i in order[: 20 * count]:
        same = [j for j in chosen if index[j] == index[i]]
        if not same or np.abs(X[same] - X[i]).max(axis=1).min() > LEAST_SPREAD:
            chosen.append(int(i))
        if len(chosen) == count:
            break
    return np.array(chosen, dtype=np.intp)


class _Search:
    """The steps of the maximisation, all over batches of (prefix index, point)."""

    def __init__(
        self, score: Score, space: Space, pool: list[Prefix], box: Array, seed: int
    ) -> None:
        self._score = score
        self._rng = np.random.default_rng(seed)
        self._box = box
        self._space = space
        self._memoized = torch.tensor([prefix.memoized for prefix in pool])
        self._fixed = np.full((len(pool), len(space)), np.nan)
        for row, prefix in enumerate(pool):
            end = len(prefix.params)
            axes = Space(dict(list(space.distributions.items())[:end]))
            self._fixed[row, :end] = axes.encode([prefix.params])[0]
        self._continuous = np.array([cells is None for cells in space.cells])

    def _score_at(self, index: Indices, X: Tensor) -> Tensor:
        return self._score(X.unsqueeze(-2), self._memoized[torch.from_numpy(index)])

    def values(self, index: Indices, X: Array) -> Array:
        """Scores without gradients; what is not a number is never chosen."""
        ends = range(SCORED_AT_ONCE, len(X), SCORED_AT_ONCE)
        with torch.no_grad():
            parts = [
                self._score_at(i, torch.from_numpy(part)).numpy()
                for i, part in zip(np.split(index, ends), np.split(X, ends), strict=True)
            ]
        values: Array = np.nan_to_num(np.concatenate(parts), nan=-np.inf)
        return values

    def starts(self, raw: Array, each: int, shared: int) -> tuple[Indices, Array]:
        """The `each` best raw points under every prefix, and the `shared` best of those left."""
        count = len(self._fixed)
        fixed = self._fixed[:, None, :]
        X = np.where(np.isnan(fixed), raw[None], fixed).reshape(-1, raw.shape[1])
        index = np.repeat(np.arange(count), len(raw))
        values = self.values(index, X)
        ranked = np.argsort(-values.reshape(count, -1), axis=1, kind="stable")
        best = (ranked + np.arange(count)[:, None] * len(raw))[:, :each].ravel()
        values[best] = -np.inf
        rest = _spread(X, index, np.argsort(-values, kind="stable"), shared)
        chosen = np.concatenate([best, rest])
        return index[chosen], X[chosen]

    def ascend(self, index: Indices, X: Array) -> Array:
        """Climb in the continuous columns that no prefix fixes, all starts in one batch."""
        free = np.isnan(self._fixed[index]) & self._continuous
        if not free.any():
            return X

        def negative(x: Array, batch_indices: list[int]) -> tuple[Array, Array]:
            point = torch.from_numpy(np.ascontiguousarray(x)).requires_grad_(True)
            values = self._score_at(index[batch_indices], point)
            (gradient,) = torch.autograd.grad(values.sum(), point)
            # A coordinate without a gradient never moves in L-BFGS-B.
            slope = np.where(free[batch_indices], gradient.numpy(), 0.0)
            return -values.detach().numpy(), -np.nan_to_num(slope)

        best, _, _ = fmin_l_bfgs_b_batched(
            negative,
            X,
            bounds=list(zip(*self._box, strict=True)),
            maxiter=MAX_ITERATIONS,
            factr=None,
            ftol=1e-8,
            pass_batch_indices=True,
        )
        climbed: Array = np.clip(best, *self._box)
        return climbed

    def exchange(self, index: Indices, X: Array) -> tuple[Array, bool]:
        """Replace each discrete coordinate by its best value, one column after another."""
        X = X.copy()
        before = X.copy()
        for column in np.flatnonzero(~self._continuous):
            free = np.flatnonzero(np.isnan(self._fixed[index, column]))
            if len(free) == 0:
                continue
            options = self._options(int(column), X[free, column])
            trials = np.repeat(X[free], options.shape[1], axis=0)
            trials[:, column] = options.ravel()
            values = self.values(np.repeat(index[free], options.shape[1]), trials)
            best = values.reshape(options.shape).argmax(axis=1)
            X[free, column] = options[np.arange(len(free)), best]
        return X, not np.array_equal(X, before)

    def _options(self, column: int, current: Array) -> Array:
        """Values to try in a discrete column, the current one first: `len(current) x options`."""
        low, high = self._box[:, column]
        values = self._space.values(column)
        values = values[(low <= values) & (values <= high)]
        current = current.clip(values[0], values[-1])
        if column in self._space.categorical_columns:
            others = self._choices(values, len(current))
        elif len(values) <= MAX_EXCHANGED:
            others = np.broadcast_to(values, (len(current), len(values)))
        else:
            place = np.searchsorted(values, current).clip(0, len(values) - 1)
            reach = len(values) // 2 ** np.arange(1, MAX_EXCHANGED // 2)
            reach = np.unique(reach[reach > 0])
            offsets = np.concatenate([-reach, reach])
            others = values[(place[:, None] + offsets).clip(0, len(values) - 1)]
        return np.concatenate([current[:, None], others], axis=1)

    def _choices(self, values: Array, starts: int) -> Array:
        """Choices for each start: all, or others for each where they are too many."""
        count = max(MAX_EXCHANGED, MAX_CHOICES // starts)
        if len(values) <= count:
            return np.broadcast_to(values, (starts, len(values)))
        order = self._rng.random((starts, len(values))).argsort(axis=1)
        return values[order[:, :count]]
