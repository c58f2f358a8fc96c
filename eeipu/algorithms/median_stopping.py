"""Median stopping: a trial stops when it is worse than the median of the finished trials.

Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization", section 3.2.2. Values
are maximised. A trial at step `s` is stopped if its best value so far is below the median, over
the finished trials with a value at `s`, of the mean of their values up to `s`.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean

from eeipu.algorithms.configurations import Config
from eeipu.algorithms.full_training import StepByStep
from eeipu.algorithms.moves import Move, News, Stop, no_news

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
        news: What has changed of the trials of other processes, which take part in the comparison
            like those of this one.

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
        news: News = no_news,
    ) -> None:
        self._trials = StepByStep(configs, max_steps, every, self._is_poor, concurrency)
        self._min_steps = min_steps
        self._news = news
        self._curves: dict[int, dict[int, float]] = {}
        self._means: defaultdict[int, list[float]] = defaultdict(list)  # of the ended, ascending

    def start(self) -> list[Move]:
        """Ask for `concurrency` trials, each up to its first evaluation."""
        return self._trials.start()

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """Train the trial further, or stop it and begin a new one."""
        curve = self._curves.setdefault(trial, {})
        if value is not None:
            curve[step] = value
        moves = self._trials.tell(trial, step, value)
        if Stop(trial) in moves:
            self._take_in(curve)
        return moves

    def _take_in(self, curve: Mapping[int, float]) -> None:
        """Take the running means of a trial that has ended into the comparison."""
        for step, mean in _running_means(curve):
            insort(self._means[step], mean)

    def _hear(self) -> None:
        """Bring the trials of other processes that have ended up to date."""
        for before, now in self._news():
            if before is not None and before.has_ended:
                for step, mean in _running_means(before.curve):
                    del self._means[step][bisect_left(self._means[step], mean)]
            if now is not None and now.has_ended:
                self._take_in(now.curve)

    def _is_poor(self, trial: int) -> bool:
        step = max(self._curves[trial])
        if step < self._min_steps:
            return False
        self._hear()
        means = self._means[step]
        if not means:
            return False
        middle = (means[(len(means) - 1) // 2] + means[len(means) // 2]) / 2.0
        return max(self._curves[trial].values()) < middle


def _running_means(curve: Mapping[int, float]) -> Iterator[tuple[int, float]]:
    """Yield the mean of a trial's values up to each of its steps."""
    values = []
    for step in sorted(curve):
        values.append(curve[step])
        yield step, fmean(values)
