"""Better combinations of kept parts for good candidates, where there are too many to list them all.

Notation:
    P, d, R, codes: as in `eeipu.methods.reuse.kept_parts`.
    X: `R x d`, points of the unit cube at which the combinations are fixed.

A good candidate is changed in two ways. One part after another is *taken*: all are tried, those
that contradict it are given up, and the best of them stays. And each part is *given up*: its
columns are free again, and get the values of the best of some other points. The best of what comes
out climbs in its free columns, and is changed again.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from eeipu.methods.reuse.kept_parts import KeptParts
from eeipu.methods.reuse.value_codes import FREE, Codes

__all__ = ["PartExchange"]

Array = NDArray[np.float64]
Score = Callable[[Codes, Array], Array]
"""Combinations, `R x d`, and points, `R x d` -> acquisition values, `R`."""

# So many candidates, with different combinations, are changed in a round; so many of what comes
# out are returned.
MOST_CHANGED = 6
MOST_RETURNED = 10

# Parts beyond this number are not tried: those of the best trials come first.
MOST_PARTS = 128

# One part after another is taken at most so many times: a combination of as many branches is
# changed in all of them.
SWEEPS = 4

# The number of points that complete a candidate that gives up a part.
COMPLETIONS = 16

# In the end the free columns of so many of the best combinations are tried anew, from so many of
# the points of this number, at least so far apart in some column: there may be a higher hill.
MOST_ANEW = 2
STARTS_ANEW = 16
POINTS_ANEW = 128
LEAST_SPREAD = 0.15


class PartExchange:
    """The changes of good candidates in a maximisation.

    Args:
        parts: The kept parts.
        score: The acquisition.
        raw: `m x d`, points that complete candidates which give up a part, at least one.
    """

    def __init__(self, parts: KeptParts, score: Score, raw: Array) -> None:
        self._parts = parts
        self._score = score
        self._raw = raw
        self._tried = parts.codes[:MOST_PARTS]
        self._go_together = np.stack([parts.agree(parts.codes, part) for part in self._tried])
        self._changed: set[bytes] = set()

    def better(self, rows: Codes, X: Array, values: Array) -> tuple[Codes, Array]:
        """Change the best candidates that have not been changed yet.

        Args:
            rows: `R x d`, their combinations.
            X: `R x d`.
            values: `R`, their scores.

        Returns:
            The combinations and points of new candidates, whose free columns may be improved;
            none if the best candidates have all been changed before.
        """
        best = self._to_change(rows, values)
        if len(best) == 0:
            return rows[:0], X[:0]
        found = [*self._taking(rows[best], X[best], values[best])]
        found += [*self._giving_up(rows[best], X[best])]
        new_rows, new_X, new_values = (np.concatenate(part) for part in zip(*found, strict=True))
        chosen: dict[bytes, int] = {}
        for i in np.argsort(-new_values, kind="stable"):
            row = new_rows[i]
            if row.tobytes() not in chosen and self._parts.are_offered(row[None])[0]:
                chosen[row.tobytes()] = int(i)
            if len(chosen) == MOST_RETURNED:
                break
        which = [*chosen.values()]
        return new_rows[which], new_X[which]

    def elsewhere(self, rows: Codes, X: Array, values: Array) -> tuple[Codes, Array]:
        """The best combinations again, with other values in their free columns.

        Args:
            rows: `R x d`, the combinations of candidates.
            X: `R x d`.
            values: `R`, their scores.

        Returns:
            Combinations and points of new candidates, whose free columns may be improved.
        """
        found_rows, found_X = [rows[:0]], [X[:0]]
        for i in self._best(rows, values, MOST_ANEW).values():
            row = np.repeat(rows[i][None], len(self._raw[:POINTS_ANEW]), axis=0)
            points = self._parts.values.completed(row, self._raw[:POINTS_ANEW])
            taken = X[i][None]
            for point in points[np.argsort(-self._score(row, points), kind="stable")]:
                if np.abs(taken - point).max(axis=1).min() > LEAST_SPREAD:
                    taken = np.concatenate([taken, point[None]])
                if len(taken) > STARTS_ANEW:
                    break
            found_X.append(taken[1:])
            found_rows.append(row[: len(taken) - 1])
        return np.concatenate(found_rows), np.concatenate(found_X)

    def _to_change(self, rows: Codes, values: Array) -> list[int]:
        """The best candidate of each of the best combinations, unless it was changed before."""
        best = self._best(rows, values, MOST_CHANGED)
        new = [i for row, i in best.items() if row not in self._changed]
        self._changed.update(best)
        return new

    @staticmethod
    def _best(rows: Codes, values: Array, count: int) -> dict[bytes, int]:
        """The best combinations, and which candidate of each is the best."""
        best: dict[bytes, int] = {}
        for i in np.argsort(-values, kind="stable"):
            best.setdefault(rows[i].tobytes(), int(i))
            if len(best) == count:
                break
        return best

    def _taking(self, rows: Codes, X: Array, values: Array) -> list[tuple[Codes, Array, Array]]:
        """Take one part after another, as long as that makes a candidate better."""
        found = []
        for sweep in range(SWEEPS):
            with_each = self._with_each(rows)
            shape = with_each.shape[:2]
            flat = with_each.reshape(-1, rows.shape[1])
            points = self._parts.values.completed(flat, np.repeat(X, shape[1], axis=0))
            is_change = (with_each != rows[:, None]).any(axis=-1)
            scores = np.full(shape, -np.inf)
            scores[is_change] = self._score(flat[is_change.ravel()], points[is_change.ravel()])
            best = scores.argmax(axis=1)
            at = np.arange(len(rows)), best
            better = scores[at] > values
            # The first change is worth a climb even if it is none for the better by itself.
            kept = np.isfinite(scores[at]) & (better | (sweep == 0))
            new = with_each[at], points.reshape(*shape, -1)[at], scores[at]
            found.append((new[0][kept], new[1][kept], new[2][kept]))
            if not better.any():
                break
            rows, X, values = (part[better] for part in new)
        return found

    def _with_each(self, rows: Codes) -> Codes:
        """What comes of taking each part: it, and the parts that go with it, `R x P x d`."""
        stay = self._parts.held(rows)[:, None] & self._go_together
        is_kept = (stay.astype(np.float32) @ (self._parts.codes != FREE).astype(np.float32)) > 0
        return np.where(self._tried == FREE, np.where(is_kept, rows[:, None], FREE), self._tried)

    def _giving_up(self, rows: Codes, X: Array) -> list[tuple[Codes, Array, Array]]:
        """Give up each part, with all that contain it."""
        fewer, points = [], []
        for row, x, held in zip(rows, X, self._parts.held(rows), strict=True):
            own = self._parts.codes[held]
            left = [self._parts.without(own, i).max(axis=0, initial=FREE) for i in range(len(own))]
            for smaller in {each.tobytes(): each for each in left}.values():
                is_freed = (smaller == FREE) & (row != FREE)
                if is_freed.any():
                    fewer.append(smaller)
                    points.append(np.where(is_freed, [x, *self._raw[:COMPLETIONS]], x))
        if not fewer:
            return []
        found, tried = np.stack(fewer), np.stack(points)
        count = tried.shape[1]
        scores = self._score(np.repeat(found, count, axis=0), tried.reshape(-1, tried.shape[2]))
        scores = scores.reshape(-1, count)
        at = np.arange(len(found)), scores.argmax(axis=1)
        return [(found, tried[at], scores[at])]
