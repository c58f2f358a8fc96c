"""Points that satisfy the constraints of a space, found by trying.

Notation:
    d: hyper-parameters.
    X: `n x d`, points of the unit cube, discrete columns at the centres of their cells.

Constraints are functions that say yes or no, so that points can only be tried. Uniform points come
first. Where few of them are allowed, those that are move: by steps of all sizes, and along the
difference of two other allowed points, as in differential evolution (Storn and Price 1997,
doi 10.1023/A:1008202821328). Such differences lie along the allowed set, however thin it is, as
where two parameters must nearly be equal.
"""

import math
from functools import cached_property
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from eeipu.errors import SpaceError
from eeipu.spaces.distributions import Params
from eeipu.spaces.space import AT_ONCE, Space

__all__ = ["FeasiblePoints"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# The allowed points that are known of a space, found once: at least FEW of them at random, unless
# MOST_TRIED points in about a second had fewer, and the others by moves.
POOL, FEW = 256, 16
MOST_TRIED = 100_000

# If none of these is allowed, points that violate ever fewer constraints are sought, in so many
# generations of so many points.
GENERATIONS, CROWD = 60, 1024

# At most so many uniform points are tried for each point that is asked for, and at least
# LEAST_TRIED in all; if they have none, LAST_TRIED more.
TRIED_EACH, LEAST_TRIED, LAST_TRIED = 4, 64, 2048

# How often allowed points move to give more of them.
ROUNDS = 24

# Points that move towards fixed values go on while the nearest one comes nearer, in so many
# generations, by a tenth of its distance. Where nothing completes the values, it soon does not.
PATIENCE, NEARER = 5, 0.9


class FeasiblePoints:
    """Points that satisfy the constraints of a space.

    Args:
        space: The space.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._tried = 0

    @cached_property
    def pool(self) -> Array:
        """Some allowed points, always the same, `m x d`; none if none was found."""
        space, rng = self.space, np.random.default_rng(0)
        if space.is_listed:
            everything = list(space.configurations())
            self._tried = space.product or 0
            return space.encode([everything[i] for i in rng.permutation(len(everything))[:POOL]])
        found: list[Array] = []
        while self._tried < MOST_TRIED and sum(map(len, found)) < FEW:
            X = space.snap(rng.random((AT_ONCE // 4, len(space))))
            self._tried += len(X)
            found.append(X[space.allows(X)])
        pool = np.concatenate(found)[:POOL]
        if len(pool) == 0:
            pool = self._by_violations(rng)
        return self._grown(pool, pool, POOL, rng, {}, _whole(space)) if len(pool) else pool

    def _by_violations(self, rng: np.random.Generator) -> Array:
        """Allowed points, by way of those that violate ever fewer constraints."""
        space = self.space
        if len(space.constraints) < 2:
            return np.empty((0, len(space)))
        X = space.snap(rng.random((CROWD, len(space))))
        count = self._violations(X)
        for _ in range(GENERATIONS):
            if (count == 0).any():
                break
            best = np.argsort(count, kind="stable")[: CROWD // 4]
            parents = best[rng.integers(len(best), size=CROWD)]
            children = self.moved(X[parents], X[best], rng)
            violated = self._violations(children)
            is_better = (violated <= count[parents])[:, None]
            X = np.where(is_better, children, X[parents])
            count = np.minimum(violated, count[parents])
        allowed: Array = X[count == 0]
        return allowed

    def _violations(self, X: Array) -> NDArray[np.int64]:
        self._tried += len(X)
        return np.array(self.space.constraints.violations(self.space.decode_all(X)), dtype=np.int64)

    def draw(
        self,
        rng: np.random.Generator,
        count: int,
        *,
        fixed: Params | None = None,
        box: Array | None = None,
        around: Array | None = None,
    ) -> Array:
        """Draw allowed points.

        Args:
            rng: Random numbers.
            count: How many points; fewer come, or none, where no more are found.
            fixed: Values that all configurations have, as stored.
            box: `2 x d`, the corners of a box in which the other columns lie; `None`: the cube.
            around: `m x d`, points that may be allowed, to look around at as well.
        """
        space, fixed = self.space, fixed or {}
        if len(fixed) == len(space):
            return self._allowed(space.encode([fixed]), fixed, None)
        low, high = box = _whole(space) if box is None else box

        def uniform(tries: int) -> Array:
            return self._allowed(low + (high - low) * rng.random((tries, len(space))), fixed, box)

        tried = max(LEAST_TRIED, count) if space.constraints else count
        found = uniform(tried)
        while len(found) < count and (left := TRIED_EACH * count - tried) > 0:
            # As many as will do, if the share of those that are allowed stays what it was.
            more = min(left, math.ceil((count - len(found)) * tried / max(1, len(found))))
            found, tried = np.concatenate([found, uniform(more)]), tried + more
        if len(found) >= count or not space.constraints:
            return found[:count]
        seeds = np.concatenate([found, *self._seeds(fixed, around, box)])
        if len(seeds) == 0:
            seeds = found = uniform(LAST_TRIED)
        if len(seeds) == 0 and fixed and len(self.pool):
            seeds = self._allowed(self._approaching(fixed, rng), fixed, box)
        if len(seeds) == 0 or len(found) >= count:
            return found[:count]
        others = np.concatenate([seeds, self.pool])
        grown = self._grown(seeds, others, len(seeds) + count, rng, fixed, box)
        # The seeds are known already: they come last, but for the uniform points.
        order = [found, grown[len(seeds) :], seeds[len(found) :]]
        return np.concatenate(order)[:count]

    def _seeds(self, fixed: Params, around: Array | None, box: Array) -> list[Array]:
        """Allowed points among those that are known, with the fixed values."""
        known = [self.pool] if around is None else [around, self.pool]
        # The nearer a point was to the fixed values, the sooner it is allowed with them.
        nearest = [X[self._distance(X, fixed).argsort(kind="stable")] for X in known]
        return [self._allowed(X, fixed, box) for X in nearest]

    def _distance(self, X: Array, fixed: Params) -> Array:
        """How far points are from fixed values, in the column where they are farthest, `n`."""
        distance: Array = np.abs(self._placed(X, fixed) - X).max(axis=1, initial=0.0)
        return distance

    def _approaching(self, fixed: Params, rng: np.random.Generator) -> Array:
        """Allowed points that have moved as near to fixed values as they could."""
        X, nearest = self.pool, [math.inf] * PATIENCE
        for _ in range(GENERATIONS):
            X = np.concatenate([X, self._allowed(self.moved(X, X, rng), {}, None)])
            distance = self._distance(X, fixed)
            X = X[distance.argsort(kind="stable")[: len(self.pool)]]
            nearest.append(float(distance.min()))
            if nearest[-1] > NEARER * nearest[-1 - PATIENCE]:
                break
        return X

    def _placed(self, X: Array, fixed: Params) -> Array:
        """Points with fixed values, at the centres of their cells."""
        X = self.space.snap(X)
        if fixed:
            columns = [c for c, name in enumerate(self.space.names) if name in fixed]
            own = {name: self.space.distributions[name] for name in self.space.names}
            part = Space({name: own[name] for name in own if name in fixed})
            X[:, columns] = part.encode([fixed])[0]
        return X

    def _allowed(self, X: Array, fixed: Params, box: Array | None) -> Array:
        """Those points that are allowed, and within a box in the columns that are not fixed."""
        X = self._placed(X, fixed)
        if box is not None:
            is_fixed = np.array([name in fixed for name in self.space.names])
            is_inside = (box[0] <= X) & (box[1] >= X)
            X = X[(is_inside | is_fixed).all(axis=1)]
        return X[self.space.allows(X, fixed)]

    def _grown(
        self,
        X: Array,
        others: Array,
        count: int,
        rng: np.random.Generator,
        fixed: Params,
        box: Array,
    ) -> Array:
        """Allowed points with more of them behind, to which they have moved: `count` at most."""
        for _ in range(ROUNDS):
            if len(X) >= count:
                break
            bases = X[rng.integers(len(X), size=max(count, FEW))]
            new = self._allowed(self.moved(bases, others, rng), fixed, box)
            X, others = np.concatenate([X, new]), np.concatenate([others, new])
        return X[:count]

    def moved(
        self, X: Array, others: Array, rng: np.random.Generator, width: float | None = None
    ) -> Array:
        """Move points by random steps, to where they may be allowed or not.

        Args:
            X: `n x d`.
            others: `m x d`, allowed points, along whose differences half of the points move.
            rng: Random numbers.
            width: The size of the steps; `None`: of all sizes.
        """
        n, d = X.shape
        widths = np.full((n, 1), width or 0.0) if width else 10.0 ** rng.uniform(-3.5, 0, (n, 1))
        first, second = others[rng.integers(len(others), size=(2, n))]
        is_along = rng.random((n, 1)) < 0.5
        # Whole differences keep sums and the like of whole numbers.
        is_whole = rng.random((n, 1)) < (0.5 if width is None else 0.2)
        along = (first - second) * np.where(is_whole, 1.0, 2.0 * widths)
        is_moved = rng.random((n, d)) < np.maximum(0.5, 1.0 / d)
        noise = widths * rng.standard_normal((n, d)) * is_moved
        moved = np.clip(X + np.where(is_along, along, noise), 0.0, 1.0)
        for column, cells in enumerate(self.space.cells):
            if cells is None:
                continue
            at = self.space.index(column, X[:, column])
            if column in self.space.categorical_columns:
                other = np.floor(cells * rng.random(n))
                crossed = np.where(rng.random(n) < 0.5, first[:, column], X[:, column])
                hop = np.where(is_moved[:, column], self.space.centres(column, other), X[:, column])
                moved[:, column] = np.where(is_along[:, 0], crossed, hop)
                continue
            size = np.maximum(1.0, np.round(np.abs(noise[:, column]) * cells))
            step = np.where(noise[:, column] == 0, 0.0, np.copysign(size, noise[:, column]))
            between = self.space.index(column, first[:, column]) - self.space.index(
                column, second[:, column]
            )
            jump = np.where(is_whole[:, 0], between, np.round(2.0 * widths[:, 0] * between))
            reached = at + np.where(is_along[:, 0], jump, step)
            moved[:, column] = self.space.centres(column, reached)
        return np.asarray(moved)

    def repaired(
        self, point: Array, parts: list[list[int]], seed: int, fixed: Params | None = None
    ) -> dict[str, object] | None:
        """An allowed configuration like a point of the cube; `None` if none was found.

        Of two points whose first parts are alike, the configurations are alike in these, too: what
        a part becomes depends on the point's coordinates up to there, and on nothing behind.

        Args:
            point: `d`.
            parts: The columns of each part, in order.
            seed: Fixes the choice.
            fixed: Values that the configuration has in any case.
        """
        space, held = self.space, dict(fixed or {})
        own = space.decode_all(point[None], held)[0]
        if space.constraints.allow(own):
            return own
        found: Array | None = None
        for columns in parts:
            names = [space.names[c] for c in columns if space.names[c] not in held]
            if not names:
                continue
            rng = np.random.default_rng([seed, crc32(point[: columns[-1] + 1].tobytes())])
            wish = {**held, **{name: own[name] for name in names}}
            for values in (wish, held):
                drawn = self.draw(rng, 1, fixed=values, around=found)
                if len(drawn):
                    break
            else:
                return None
            found = drawn
            completion = space.decode_all(drawn, values)[0]
            held.update({name: completion[name] for name in names})
        return {name: held[name] for name in space.names}

    def error(self, fixed: Params | None = None) -> SpaceError:
        """What to tell the user where no allowed point was found.

        Args:
            fixed: Values that the configuration was to have.
        """
        wanted = f" with {dict(fixed)}" if fixed else ""
        if fixed:
            tried = f"{LAST_TRIED:,} at random, and others near those that do"
        elif self.space.is_listed:
            tried = f"all {self.space.product:,} combinations of values"
        else:
            tried = f"{self._tried:,} at random"
        X = np.random.default_rng(0).random((1000, len(self.space)))
        each = self.space.constraints.shares(self.space.decode_all(X, fixed))
        shares = ", ".join(f"{name}: {share:.1%}" for name, share in each.items())
        return SpaceError(
            f"no configuration{wanted} was found that satisfies the constraints; tried were "
            f"{tried}. Of 1000 at random, each constraint by itself allows {shares}. Widen those "
            f"that allow none: equalities of floats, such as a + b == 1, hold nowhere, so allow a "
            f"tolerance, or compute one parameter from the others in the stage. A configuration "
            f"that you know can be given to Tuner.enqueue."
        )


def _whole(space: Space) -> Array:
    """The corners of the whole cube, `2 x d`."""
    return np.stack([np.zeros(len(space)), np.ones(len(space))])
