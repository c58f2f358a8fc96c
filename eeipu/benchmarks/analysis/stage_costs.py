"""The cost of each stage, and the gain of the trials that began at it, in means over seeds.

A trial begins at the first stage that it executes; the outputs of the stages before were reused.

Notation:
    r: number of runs of a contender.
    n: number of trials of a run.
    K: number of stages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eeipu.benchmarks.analysis.tables import by_setting
from eeipu.benchmarks.runs.results import Result

__all__ = ["StageCost", "stage_costs"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StageCost:
    """The cost and the gain of a stage, in means over the runs of a contender.

    Attributes:
        problem: The name of the problem.
        setting: The problem and its options in words.
        method: The contender.
        stage: The name of the stage.
        spent: The cost of all executions of the stage in a run.
        share: `spent` as a share of the cost of all stages.
        executed: The number of executions in a run.
        reused: The number of trials in a run that reused an output of the stage.
        each: The mean cost of one execution; `None` if the stage was never executed.
        begun: The number of trials after the warm-up that began at the stage, in a run.
        paid: The charge for these trials as a share of all charges after the warm-up; `None` if
            there were none. Trials that reused all stages account for the rest.
        gained: The improvement by these trials as a share of the improvement after the warm-up;
            `None` if there was none. It can be negative where the objective has noise, because
            a lucky observation of a worse configuration can replace the best trial.
    """

    problem: str
    setting: str
    method: str
    stage: str
    spent: float
    share: float
    executed: float
    reused: float
    each: float | None
    begun: float
    paid: float | None
    gained: float | None


def stage_costs(results: Iterable[Result]) -> list[StageCost]:
    """The costs and gains of each stage, for each contender on each problem."""
    return [
        row
        for title, contenders in by_setting(results).items()
        for method, runs in contenders.items()
        for row in _stage_costs(title, method, runs)
    ]


def _stage_costs(title: str, method: str, runs: Sequence[Result]) -> list[StageCost]:
    executed, reused, spent = np.mean([_of_stages(run) for run in runs], axis=0)
    # The last column belongs to trials that executed no stage.
    begun, paid, gained = np.mean([_of_beginnings(run) for run in runs], axis=0)
    share, of_paid, of_gained = map(_shares, (spent, paid, gained))
    return [
        StageCost(
            problem=runs[0].options.problem,
            setting=title,
            method=method,
            stage=stage,
            spent=float(spent[k]),
            share=share[k] or 0.0,
            executed=float(executed[k]),
            reused=float(reused[k]),
            each=float(spent[k] / executed[k]) if executed[k] else None,
            begun=float(begun[k]),
            paid=of_paid[k],
            gained=of_gained[k],
        )
        for k, stage in enumerate(runs[0].problem["stages"])
    ]


def _of_stages(run: Result) -> Array:
    """For each stage the number of executions, of reuses, and the total cost: `3 x K`."""
    trials = [trial for trial in run.trials if trial["stage_costs"] is not None]
    costs = np.array([trial["stage_costs"] for trial in trials], dtype=np.float64)
    reused = np.array([trial["memoized"] for trial in trials], dtype=np.float64)
    return np.stack([(~np.isnan(costs)).sum(axis=0), reused.sum(axis=0), np.nansum(costs, axis=0)])


def _of_beginnings(run: Result) -> Array:
    """For trials that began at each stage and at none: count, charge and gain, `3 x (K + 1)`."""
    # Values below the best of the warm-up, and unknown ones, count as no gain.
    gains = np.diff(np.fmax(run.improvements, 0.0), prepend=0.0)
    totals = np.zeros((3, len(run.problem["stages"]) + 1))
    for trial, gain in zip(run.trials, gains, strict=True):
        if not trial["warm_up"]:
            costs = trial["stage_costs"] or ()
            first = next((k for k, cost in enumerate(costs) if cost is not None), -1)
            totals[:, first] += 1.0, trial["charged"], gain
    return totals


def _shares(amounts: Array) -> list[float | None]:
    """Each amount as a share of their sum; `None` if the sum is zero."""
    total = amounts.sum()
    return [float(amount / total) if total > 0.0 else None for amount in amounts]
