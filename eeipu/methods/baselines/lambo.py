r"""LaMBO: a slowly moving bandit decides which stages may change (Lin, Miano and Dyer 2021).

Notation:
    H: splits of the space of the early stages (all but the last); 2^H leaves are the arms.
    i, j: leaves, numbered by their splits' bits, the first stage's most significant.
    A_h(i): the leaves that agree with leaf i in all but the last h bits.
    p: the probabilities of the leaves; eta: the learning rate; l: the loss of a trial, in [0, 1].
    sigma_0, ..., sigma_{H-1}: random signs of a trial; sigma_H = -1.

After a trial of leaf i the next leaf is drawn from p within A_h(i), where h is the first with
sigma_h = -1: within half of the trials no early stage moves, and the first stage seldom does.
Losses are weighted by importance and passed up the tree (Koren, Livni and Mansour 2017,
arXiv 1702.07444, algorithm 1):

    l_0(j) = 1{j = i} l / p(j)
    l_h(j) = -1/eta log sum_{j' in A_h(j)} p(j') / p(A_h(j)) exp(-eta (1 + sigma_{h-1}) l_{h-1}(j'))
    p(j) <- p(j) exp(-eta (l_0(j) + sum_{h < H} sigma_h l_h(j))), normalised.

Within the leaf, the upper confidence bound of the objective's GP is maximised.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eeipu.methods.reuse.candidates import Region, Reuse
from eeipu.methods.search_state import Search
from eeipu.pipeline import Pipeline
from eeipu.space import Space

__all__ = ["lambo_region"]

Array = NDArray[np.float64]

# At most 2^8 leaves, so that the few hundred trials of a study can visit each of them.
MAX_SPLITS = 8

# The space of a stage is split at most this often: four parts are enough to learn where an early
# stage is good.
SPLITS_EACH = 2

# The purposes of a trial's random numbers.
SIGNS, LEAF = range(2)

# A column with more values than this is not looked at value by value.
MANY_VALUES = 1000

# No leaf may become impossible: the next leaf may have to be drawn from its subtree alone.
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Split:
    """One halving of the space.

    Attributes:
        stage: The stage whose space is halved.
        column: The column that is halved.
        level: How often this column has been halved before.
    """

    stage: int
    column: int
    level: int

    def bits(self, X: Array) -> NDArray[np.int64]:
        """The side on which each point of `X` (`n x d`) lies: 0 or 1, `n`."""
        fine = np.floor(X[:, self.column] * 2 ** (self.level + 1)).astype(np.int64)
        side: NDArray[np.int64] = np.minimum(fine, 2 ** (self.level + 1) - 1) & 1
        return side


def lambo_region(search: Search) -> Region:
    """The region of the next trial: the cell of its leaf, and the values kept from the last trial.

    Note:
        The paper does not say how variables of a stage that does not move are treated inside their
        cell; here they stay as they were, so that the stage's outputs can be reused. A trial's loss
        is the position of its value between the best and the worst one so far. The learning rate is
        that of the bandit's regret bound for the present number of trials. Probabilities have a
        lower bound here; the bandit's paper omits the losses of improbable leaves instead.
    """
    pipeline, history = search.history.pipeline, search.history
    splits = _splits(pipeline)
    leaves = _leaves(splits, history.X)
    losses = _losses(history.values)
    p = np.full(2 ** len(splits), 1.0 / 2 ** len(splits))
    eta = np.sqrt(np.log(max(2, len(p))) / (len(p) * len(leaves)))
    height = len(splits)
    for trial, leaf, loss in zip(history.ended, leaves, losses, strict=True):
        signs = search.random(trial.number, SIGNS).choice([-1, 1], size=len(splits))
        height = _first_descent(signs)
        p = _updated(p, int(leaf), float(loss), signs, float(eta))
    leaf = int(leaves[-1])
    near = np.arange(len(p)) >> height == leaf >> height
    weights = np.where(near, p, 0.0)
    chosen = int(search.random(search.number, LEAF).choice(len(p), p=weights / weights.sum()))
    # A stage is fixed if the rule keeps all its splits, but not if they are the same by chance.
    moved = [split.stage for split in splits[len(splits) - height :]]
    first = min(moved, default=len(pipeline.stages) - 1)
    last = history.ended[-1].params
    kept = list(pipeline.space)[: sum(len(c) for c in pipeline.columns.of_stages[:first])]
    bounds = _bounds(splits, chosen, len(pipeline.cube))
    # The fixed values may lie on the boundary of the cell.
    bounds[:, : len(kept)] = [[0.0], [1.0]]
    reuse = Reuse({name: last[name] for name in kept}, (False,) * len(pipeline.stages))
    return Region(bounds, reuse)


def _splits(pipeline: Pipeline) -> list[Split]:
    """The splits of the early stages' spaces, the first stage's first."""
    early = [k for k, columns in enumerate(pipeline.columns.of_stages[:-1]) if columns]
    each = min(SPLITS_EACH, max(1, MAX_SPLITS // max(1, len(early))))
    splits = []
    for k in early:
        halvings = [
            Split(k, column, level)
            for level in range(each)
            for column in pipeline.columns.of_stages[k]
            if _fills(pipeline.cube, column, 2 ** (level + 1))
        ]
        splits += halvings[:each]
    return splits[:MAX_SPLITS]


def _fills(cube: Space, column: int, parts: int) -> bool:
    """Whether each of `parts` equal parts of a column holds a value."""
    cells = cube.cells[column]
    if cells is None:
        return True
    # Of many values, those next to the parts' middles will do.
    few = cells <= MANY_VALUES
    middles = (np.arange(parts) + 0.5) / parts
    index = np.arange(cells, dtype=np.float64) if few else cube.index(column, middles)
    return len(np.unique(np.floor(cube.centres(column, index) * parts))) == parts


def _leaves(splits: list[Split], X: Array) -> NDArray[np.int64]:
    """The number of the leaf that holds each point of `X` (`n x d`), `n`."""
    leaves = np.zeros(len(X), dtype=np.int64)
    for split in splits:
        leaves = 2 * leaves + split.bits(X)
    return leaves


def _bounds(splits: list[Split], leaf: int, d: int) -> Array:
    """The lower and upper corner of a leaf's cell, `2 x d`."""
    bounds = np.stack([np.zeros(d), np.ones(d)])
    for place, split in enumerate(reversed(splits)):
        size = 0.5 ** (split.level + 1)
        bounds[0, split.column] += size * (leaf >> place & 1)
    for split in splits:
        size = 0.5 ** (split.level + 1)
        bounds[1, split.column] = min(bounds[1, split.column], bounds[0, split.column] + size)
    return bounds


def _losses(values: Array) -> Array:
    """0 for the best value so far, 1 for the worst and for failures."""
    low, high = np.nanmin(values), np.nanmax(values)
    span = high - low if high > low else 1.0
    return np.nan_to_num((high - values) / span, nan=1.0)


def _first_descent(signs: NDArray[np.int64]) -> int:
    """The first h with sigma_h = -1; H if there is none among the drawn ones."""
    return next((h for h, sign in enumerate(signs) if sign < 0), len(signs))


def _updated(p: Array, leaf: int, loss: float, signs: NDArray[np.int64], eta: float) -> Array:
    """The probabilities after a trial of `leaf`."""
    level = np.zeros_like(p)
    level[leaf] = loss / p[leaf]
    total = level.copy()
    for h, sign in enumerate(signs):
        if h > 0:
            level = _passed_up(p, level, h, (1 + signs[h - 1]) * eta, eta)
        total = total + sign * level
    logs = np.log(p) - eta * total
    updated = np.maximum(np.exp(logs - logs.max()), LEAST_PROBABILITY)
    normalised: Array = updated / updated.sum()
    return normalised


def _passed_up(p: Array, level: Array, h: int, rate: float, eta: float) -> Array:
    """`l_h` from `l_{h-1}`, for all leaves."""
    groups = np.arange(len(p)) >> h
    mass = np.bincount(groups, weights=p)
    kept = np.bincount(groups, weights=p * np.exp(-rate * level))
    passed: Array = (-np.log(kept / mass) / eta)[groups]
    return passed
