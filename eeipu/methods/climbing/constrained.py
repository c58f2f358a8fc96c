"""Steps of a maximisation that keep the constraints of a space.

Notation:
    P: entries of the pool (`eeipu.methods.reuse`).
    d: hyper-parameters.
    X: `b x d`, points in the unit cube, each with the values fixed that the entry of the pool fixes
        whose place `index` (`b`) tells.

An ascent along gradients knows no constraints. Where it leaves the allowed set, it is taken back to
the last allowed point on the straight line to its end. From there, and along walls of the allowed
set that no column is parallel to, a direct search goes on, by the moves of
`eeipu.spaces.feasible`.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from eeipu.spaces.distributions import Params
from eeipu.spaces.feasible import FeasiblePoints

__all__ = ["WithinConstraints"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]
Values = Callable[[Indices, Array], Array]

# So many halvings find the wall between an allowed point and one that is not to a millionth of
# their distance.
HALVINGS = 20

# The direct search goes on from this many of the best points, with so many moves of each in every
# round, which get smaller by this factor from round to round: from a fifth of the cube to 1e-4.
POLISHED, MOVES = 24, 8
FIRST_WIDTH, SHRINKING, ROUNDS = 0.2, 0.65, 18


class WithinConstraints:
    """The part of the cube, under each prefix, that the constraints of a space allow.

    Args:
        feasible: Points that satisfy the constraints.
        fixed: The values that each prefix fixes, as stored, `P`.
        box: `2 x d`, the corners of the box to search.
        seed: Fixes everything random.
    """

    def __init__(
        self, feasible: FeasiblePoints, fixed: Sequence[Params], box: Array, seed: int
    ) -> None:
        self._feasible = feasible
        self._fixed = [*fixed]
        self._box = box
        self._rng = np.random.default_rng([seed, 1])

    def add(self, fixed: Iterable[Params]) -> None:
        """Add entries to the pool, with the values that each fixes, as stored."""
        self._fixed.extend(fixed)

    def allows(self, index: Indices, X: Array) -> Flags:
        """Whether the points satisfy the constraints, with the values that their prefixes fix."""
        return self._feasible.space.allows(X, [self._fixed[prefix] for prefix in index])

    def masked(self, index: Indices, X: Array, values: Array, options: int) -> Array:
        """Scores of points, without hope where a better one than the first is not allowed.

        Args:
            index: `b`.
            X: `b x d`, `options` points one after another that compete; the first is allowed.
            values: `b`, their scores.
            options: How many points compete.
        """
        masked = values.reshape(-1, options).copy()
        is_better = (masked > masked[:, :1]).ravel()
        allowed = np.zeros(len(X), dtype=np.bool_)
        allowed[is_better] = self.allows(index[is_better], X[is_better])
        allowed[::options] = True
        masked[~allowed.reshape(-1, options)] = -np.inf
        return np.asarray(masked.ravel())

    def completions(self, counts: Indices, around: Array | None) -> tuple[Indices, Array]:
        """Further allowed points under the prefixes.

        Args:
            counts: How many each prefix needs, `P`. It gets fewer, or none, if it has no more.
            around: `m x d`, points that may be allowed, to look around at as well.
        """
        drawn = [
            self._feasible.draw(
                self._rng, int(count), fixed=self._fixed[prefix], box=self._box, around=around
            )
            if count > 0
            else np.empty((0, len(self._feasible.space)))
            for prefix, count in enumerate(counts)
        ]
        return np.repeat(np.arange(len(drawn)), [len(X) for X in drawn]), np.concatenate(drawn)

    def taken_back(self, index: Indices, inside: Array, X: Array) -> Array:
        """Points that have left the allowed set, taken back to it.

        Args:
            index: `b`.
            inside: `b x d`, allowed points with the same discrete values.
            X: `b x d`, where they went.

        Returns:
            For each point the last allowed one, roughly, on the straight line to it.
        """
        out = np.flatnonzero(~self.allows(index, X))
        if len(out) == 0:
            return X
        low, high = np.zeros((len(out), 1)), np.ones((len(out), 1))
        way = X[out] - inside[out]
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            allowed = self.allows(index[out], inside[out] + middle * way)[:, None]
            low, high = np.where(allowed, middle, low), np.where(allowed, high, middle)
        back = X.copy()
        # The very point that was allowed, where no step is.
        back[out] = np.where(low == 0.0, inside[out], inside[out] + low * way)
        return back

    def polished(self, values: Values, index: Indices, X: Array, free: Flags) -> Array:
        """Improve the best points by a direct search among allowed ones.

        Args:
            values: Gives the scores of points, to be maximised.
            index: `b`.
            X: `b x d`, allowed points.
            free: `b x d`, the coordinates that may move.
        """
        known = values(index, X)
        best = np.argsort(-known, kind="stable")[:POLISHED]
        X, others = X.copy(), np.concatenate([self._feasible.pool, X])
        width = FIRST_WIDTH
        for _ in range(ROUNDS):
            rows = np.repeat(best, MOVES)
            moved = self._feasible.moved(X[rows], others, self._rng, width)
            moved = np.where(free[rows], moved, X[rows])
            is_new = ((moved >= self._box[0]) & (moved <= self._box[1]) | ~free[rows]).all(axis=1)
            is_new &= (moved != X[rows]).any(axis=1)
            rows, moved = rows[is_new], moved[is_new]
            allowed = self.allows(index[rows], moved)
            rows, moved = rows[allowed], moved[allowed]
            if len(rows):
                found = values(index[rows], moved)
                for k in np.argsort(found, kind="stable"):  # the best of each point comes last
                    if found[k] > known[rows[k]]:
                        X[rows[k]], known[rows[k]] = moved[k], found[k]
            width *= SHRINKING
        return X
