"""The trials of a study that have ended, each turned into numbers once."""

import math
from collections.abc import Sequence
from itertools import takewhile
from operator import is_
from threading import RLock

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from eeipu.pipeline import Pipeline
from eeipu.space import Params

__all__ = ["EndedArrays", "identity"]

Array = NDArray[np.float64]


def identity(params: Params, pipeline: Pipeline) -> tuple[float, ...]:
    """A configuration as a hashable value: choices, which may be any objects, by their index."""
    whole = pipeline.cube.settled(params)
    return tuple(
        distribution.to_internal_repr(whole[name]) for name, distribution in pipeline.space.items()
    )


def _values_of(trials: Sequence[FrozenTrial], objectives: int) -> Array:
    unknown = [math.nan] * objectives
    rows = [
        trial.values
        if trial.state is TrialState.COMPLETE and len(trial.values) == objectives
        else unknown
        for trial in trials
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), objectives)


class EndedArrays:
    """What the trials that have ended are as numbers, remembered from one reading to the next.

    A caller asks with the trials that it knows, which may be fewer than those that have ended by
    now. What is remembered serves as far as they are the same from the first one on.

    Args:
        pipeline: The pipeline whose configurations they are.
        trials: The trials that have ended, by number. Whoever changes this list calls `forget`.
        lock: To hold while the list is read or changed.
    """

    def __init__(self, pipeline: Pipeline, trials: list[FrozenTrial], lock: RLock) -> None:
        self._pipeline = pipeline
        self._trials = trials
        self._lock = lock
        self._X = np.empty((0, len(pipeline.cube)))
        self._values = np.empty((0, 0))
        self._identities: list[tuple[float, ...]] = []

    def forget(self, at: int) -> None:
        """Forget the trials from a place on."""
        if at < len(self._X):
            self._X = self._X[:at]
        self.forget_values(at)
        del self._identities[at:]

    def forget_values(self, at: int) -> None:
        """Forget the values of the trials from a place on, whose configurations are the same."""
        self._values = self._values[:at]

    def X(self, trials: Sequence[FrozenTrial]) -> Array:  # noqa: N802
        """The configurations of trials as points of the unit cube, `n x d`."""
        encode = self._pipeline.cube.encode
        with self._lock:
            count = self._count_same(trials)
            new = [trial.params for trial in trials[len(self._X) : count]]
            if new:
                self._X = np.concatenate([self._X, encode(new)])
            known = self._X[:count]
        others = [trial.params for trial in trials[count:]]
        return np.concatenate([known, encode(others)])

    def values(self, trials: Sequence[FrozenTrial], objectives: int) -> Array:
        """The values of trials as the study has them, `n x objectives`.

        They are NaN for failed and pruned trials, and where there are more or fewer of them.
        """
        with self._lock:
            count = self._count_same(trials)
            new = trials[len(self._values) : count]
            if new or self._values.shape[1] != objectives:
                known = self._values.reshape(-1, objectives)
                self._values = np.concatenate([known, _values_of(new, objectives)])
            known = self._values[:count]
        return np.concatenate([known, _values_of(trials[count:], objectives)])

    def identities(self, trials: Sequence[FrozenTrial]) -> list[tuple[float, ...]]:
        """The configurations of trials as hashable values."""
        with self._lock:
            count = self._count_same(trials)
            new = trials[len(self._identities) : count]
            self._identities += [identity(trial.params, self._pipeline) for trial in new]
            known = self._identities[:count]
        return [*known, *(identity(trial.params, self._pipeline) for trial in trials[count:])]

    def _count_same(self, trials: Sequence[FrozenTrial]) -> int:
        """How many of the first of these trials are those of the list."""
        if all(map(is_, trials, self._trials)):  # as nearly always, and quickly seen
            return min(len(trials), len(self._trials))
        return sum(takewhile(bool, map(is_, trials, self._trials)))
