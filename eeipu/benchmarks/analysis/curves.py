"""The course of runs: improvement over what was spent, and over iterations, averaged over seeds.

Runs of several problems are averaged over these first, for each seed. Every seed has as many runs.

Notation:
    r: runs; s: seeds; g: points of a grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eeipu.benchmarks.analysis.tables import half_width
from eeipu.benchmarks.runs.results import Result

__all__ = ["Curve", "over_budget", "over_iterations", "shares", "suggestion_seconds"]

Array = NDArray[np.float64]

Course = Callable[[Result], Sequence[float]]
"""What a run had reached after each trial."""

# Fine enough for a figure.
GRID = 200


@dataclass(frozen=True)
class Curve:
    """A mean over seeds.

    Attributes:
        x: Where, `g`.
        mean: The mean there, `g`.
        half_width: Of its 95 % interval, `g`; zero for a single seed.
    """

    x: Array
    mean: Array
    half_width: Array

    @property
    def ends_within(self) -> tuple[float, float]:
        """The interval at its end."""
        return self.mean[-1] - self.half_width[-1], self.mean[-1] + self.half_width[-1]

    def begins_with(self, other: "Curve") -> bool:
        """Whether the other lies on it from the first point to the other's last."""
        n = len(other.x)
        return all(
            np.array_equal(own[:n], others)
            for own, others in (
                (self.x, other.x),
                (self.mean, other.mean),
                (self.half_width, other.half_width),
            )
        )


def improvements(run: Result) -> Sequence[float]:
    """A run's course in the unit of its objective."""
    return run.improvements


def shares(run: Result) -> Sequence[float]:
    """A run's course in shares of the possible improvement, which must be known."""
    assert run.shares is not None
    return run.shares


def over_budget(runs: Sequence[Result], course: Course = improvements) -> Curve:
    """Improvement over the share of the budget that was spent, from the first trial's end on.

    A trial's value counts from when it was paid for; the last one, which is finished even where
    that exceeds the budget, at 1.
    """
    grid = np.linspace(0.0, 1.0, GRID)
    values = []
    for run in runs:
        spent = np.array([trial["spent"] for trial in run.trials]) / run.problem["budget"]
        place = np.searchsorted(np.minimum(spent, 1.0), grid, side="right") - 1
        reached = np.array(course(run))
        values.append(np.where(place >= 0, reached[np.maximum(place, 0)], np.nan))
    return _curve(grid, np.array(values), runs)


def over_iterations(runs: Sequence[Result], course: Course = improvements) -> Curve:
    """Improvement over the number of trials, as far as all runs have come."""
    length = min(len(run.trials) for run in runs)
    values = np.array([course(run)[:length] for run in runs])
    return _curve(np.arange(1.0, length + 1.0), values, runs)


def suggestion_seconds(runs: Sequence[Result]) -> Curve:
    """Seconds that a suggestion took over the number of trials, as far as all runs have come."""
    length = min(len(run.trials) for run in runs)
    values = np.array([[t["suggest_s"] for t in run.trials[:length]] for run in runs])
    return _curve(np.arange(1.0, length + 1.0), values, runs)


def _curve(x: Array, values: Array, runs: Sequence[Result]) -> Curve:
    """The mean over seeds of the runs' `r x g` values where all are known."""
    seeds = np.array([run.options.seed for run in runs])
    values = np.array([values[seeds == seed].mean(axis=0) for seed in np.unique(seeds)])
    known = ~np.isnan(values).any(axis=0)
    values = values[:, known]
    widths = [half_width(column.tolist()) or 0.0 for column in values.T]
    return Curve(x[known], values.mean(axis=0), np.array(widths))
