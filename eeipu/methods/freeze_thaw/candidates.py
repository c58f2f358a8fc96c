"""Configurations that might be begun: anywhere, near the best trials, or on outputs that are kept.

Notation:
    n: trials; m: candidates; d: hyper-parameters; p: the stage that is trained in steps.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eeipu.spaces.feasible import FeasiblePoints
from eeipu.spaces.space import Space

__all__ = ["Candidates"]

Array = NDArray[np.float64]

# Points anywhere, and as many moved ones; half of both on the settings of a trial's early stages.
# More gain little: the best ones move on for some rounds.
COUNT = 192


class Candidates:
    """Makes candidates.

    Args:
        space: The space of all hyper-parameters.
        columns: For each stage in front of the trained one, the columns of its hyper-parameters.
        rng: Random numbers.
    """

    def __init__(
        self, space: Space, columns: Sequence[Sequence[int]], rng: np.random.Generator
    ) -> None:
        self._space, self._rng = space, rng
        self._feasible = FeasiblePoints(space)
        before: list[int] = []
        # The columns that say what the first k stages give; stages without any add nothing.
        self._prefixes = [before := sorted({*before, *own}) for own in columns]

    def anywhere(self, count: int = COUNT) -> Array:
        """Points of the space that constraints allow, `m x d`."""
        return self._space.snap(self._feasible.draw(self._rng, count))

    def first(self, trials: Array, best: Array) -> Array:
        """Candidates of all kinds, `m x d`.

        Args:
            trials: `n x d`, the configurations of all trials.
            best: `b x d`, those of the best ones.
        """
        X = np.concatenate([self.anywhere(), self.moved(best, COUNT)])
        if self._prefixes:
            rows = self._rng.random(len(X)) < 0.5
            kept = trials[self._rng.integers(len(trials), size=len(X))]
            depths = self._rng.integers(len(self._prefixes), size=len(X))
            for depth, columns in enumerate(self._prefixes):
                chosen = np.flatnonzero(rows & (depths == depth))
                X[chosen[:, None], columns] = kept[chosen[:, None], columns]
        return self._allowed(X)

    def moved(self, X: Array, count: int) -> Array:
        """Points near given ones, `m x d`; fewer where constraints forbid some."""
        chosen = X[self._rng.integers(len(X), size=count)]
        return self._allowed(self._feasible.moved(chosen, X, self._rng))

    def made(self, X: Array, trials: Array) -> NDArray[np.int64]:
        """How many stages from the front have run with the same settings in a trial, `m`."""
        made = np.zeros(len(X), dtype=np.int64)
        for k, columns in enumerate(self._prefixes):
            same = (X[:, None, columns] == trials[None, :, columns]).all(-1).any(-1)
            made[same] = k + 1
        return made

    def _allowed(self, X: Array) -> Array:
        X = self._space.snap(X)
        return X[self._space.allows(X)]
