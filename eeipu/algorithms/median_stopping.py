"""Median stopping: a trial stops when it is worse than the median of the finished trials.

Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization", section 3.2.2. Values
are maximised. A trial at step `s` is stopped if its best value so far is below the median, over
the finished trials with a value at `s`, of the mean of their values up to `s`.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean

from eeipu.algorithms.configurations import Config, check_steps
from eeipu.algorithms.moves import Ask, Move, Stop

__all__ = ["MedianStopping"]


class MedianStopping:
    """Stops a trial whose best value is below the median of the finished trials' running means.

    A trial counts as finished when it has been trained to the end, has been stopped, or has
    failed. It takes part in the comparison at the steps at which it has a value.

    Args:
        configs: The configurations, one for each trial.
        max_steps: The number of steps to train a trial that is never stopped.
        every: The number of steps between two evaluations of a trial.
        min_steps: No trial is stopped before this step.
        concurrency: The number of trials that wait or run at the same time.

    Raises:
        ConfigurationError: `every` is less than 1, or larger than `max_steps`.
    """

    def __init__(
        self,
        configs: Iterable[Config],
        max_steps: int,
        every: int,
        min_steps: int = 0,
        concurrency: int = 1,
    ) -> None:
        check_steps(every, max_steps)
        self._source = enumerate(configs)
        self._max_steps, self._every, self._min_steps = max_steps, every, min_steps
        self._concurrency = concurrency
        self._configs: dict[int, Config] = {}
        self._curves: dict[int, dict[int, float]] = {}
        self._means: defaultdict[int, list[float]] = defaultdict(list)  # of the ended, ascending

    def start(self) -> list[Move]:
        """Ask for `concurrency` trials, each up to its first evaluation."""
        return [move for _ in range(self._concurrency) for move in self._new()]

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Train the trial further, or stop it and begin a new one."""
        if value is not None:
            self._curves[trial][step] = value
        if value is None or step >= self._max_steps or self._is_poor(trial, step):
            self._take_in(self._curves[trial])
            return [Stop(trial), *self._new()]
        return [Ask(trial, self._configs[trial], min(step + self._every, self._max_steps))]

    def _new(self) -> list[Move]:
        for trial, config in self._source:
            self._configs[trial], self._curves[trial] = config, {}
            return [Ask(trial, config, self._every)]
        return []

    def _take_in(self, curve: Mapping[int, float]) -> None:
        """Take the running means of a trial that has ended into the comparison."""
        values = []
        for step in sorted(curve):
            values.append(curve[step])
            insort(self._means[step], fmean(values))

    def _is_poor(self, trial: int, step: int) -> bool:
        means = self._means[step]
        if step < self._min_steps or not means:
            return False
        middle = (means[(len(means) - 1) // 2] + means[len(means) // 2]) / 2.0
        return max(self._curves[trial].values()) < middle
