"""Curves: the improvement of runs over the spent budget and over trials, averaged over seeds.

Where there are runs of several problems, they are averaged over the problems first, separately for
each seed. Every seed must have the same number of runs.

Notation:
    r: number of runs.
    s: number of seeds.
    g: number of grid points.
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
"""A function from a run to a number for each of its trials, such as the improvement so far."""

# The number of grid points over the budget; fine enough for a figure.
GRID = 200


@dataclass(frozen=True)
class Curve:
    """A curve of means over seeds.

    Attributes:
        x: The grid, `g`.
        mean: The mean at each grid point, `g`.
        half_width: Half the width of the 95 % interval of each mean, `g`; zero for one seed.
    """

    x: Array
    mean: Array
    half_width: Array

    @property
    def ends_within(self) -> tuple[float, float]:
        """The 95 % interval at the last grid point."""
        return self.mean[-1] - self.half_width[-1], self.mean[-1] + self.half_width[-1]

    def begins_with(self, other: "Curve") -> bool:
        """Whether the other curve is a part of this one, from the first point on."""
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
    """The improvement after each trial, in the unit of the objective."""
    return run.improvements


def shares(run: Result) -> Sequence[float]:
    """The share of the possible improvement after each trial; the optimum must be known."""
    assert run.shares is not None
    return run.shares


def over_budget(runs: Sequence[Result], course: Course = improvements) -> Curve:
    """The improvement over the spent share of the budget, from the end of the first trial on.

    The value of a trial counts as soon as the trial is paid for. The value of a last trial that
    exceeds the budget counts at 1.
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
    """The improvement over the number of trials, up to the length of the shortest run."""
    length = min(len(run.trials) for run in runs)
    values = np.array([course(run)[:length] for run in runs])
    return _curve(np.arange(1.0, length + 1.0), values, runs)


def suggestion_seconds(runs: Sequence[Result]) -> Curve:
    """The seconds of each suggestion over the number of trials, up to the shortest run."""
    length = min(len(run.trials) for run in runs)
    values = np.array([[t["suggest_s"] for t in run.trials[:length]] for run in runs])
    return _curve(np.arange(1.0, length + 1.0), values, runs)


def _curve(x: Array, values: Array, runs: Sequence[Result]) -> Curve:
    """The mean over seeds of values `r x g`, at the grid points where all values are known."""
    seeds = np.array([run.options.seed for run in runs])
    values = np.array([values[seeds == seed].mean(axis=0) for seed in np.unique(seeds)])
    known = ~np.isnan(values).any(axis=0)
    values = values[:, known]
    widths = [half_width(column.tolist()) or 0.0 for column in values.T]
    return Curve(x[known], values.mean(axis=0), np.array(widths))
