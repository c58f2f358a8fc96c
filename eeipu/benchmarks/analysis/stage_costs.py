"""What each stage cost, and what came of the trials that began there, in means over seeds.

A trial begins at the first stage that it executes: the outputs of those before were reused.

Notation:
    r: the runs of a contender; n: the trials of a run; K: stages.
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
    """What a stage cost a contender and brought it, in means over its runs.

    Attributes:
        problem: The problem's name.
        setting: The problem with its options in words.
        method: The contender.
        stage: The stage's name.
        spent: What executing it cost in a run.
        share: Of what all stages cost.
        executed: How often it was executed in a run.
        reused: How often its output was reused.
        each: The cost of executing it once; `None` where it never was.
        begun: Trials after the warm-up that began at it, in a run.
        paid: What these were charged, of all that was charged after the warm-up; `None` where
            nothing was. What reused all stages is the rest.
        gained: The improvement that came with them, of all that came after the warm-up; `None`
            where there is none. Where the objective has noise, one may be negative: a better
            observation of a worse configuration takes the place of the best.
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
    """What each stage cost each contender on each problem, and brought it."""
    return [
        row
        for title, contenders in by_setting(results).items()
        for method, runs in contenders.items()
        for row in _stage_costs(title, method, runs)
    ]


def _stage_costs(title: str, method: str, runs: Sequence[Result]) -> list[StageCost]:
    executed, reused, spent = np.mean([_of_stages(run) for run in runs], axis=0)
    # The last column is of trials that began nowhere.
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
    """How often each stage was executed and reused, and what it cost: `3 x K`."""
    trials = [trial for trial in run.trials if trial["stage_costs"] is not None]
    costs = np.array([trial["stage_costs"] for trial in trials], dtype=np.float64)
    reused = np.array([trial["memoized"] for trial in trials], dtype=np.float64)
    return np.stack([(~np.isnan(costs)).sum(axis=0), reused.sum(axis=0), np.nansum(costs, axis=0)])


def _of_beginnings(run: Result) -> Array:
    """Trials that began at each stage and at none: how many, charged, and gained: `3 x (K + 1)`."""
    # What is worse than the warm-up's best, or not known, has gained nothing.
    gains = np.diff(np.fmax(run.improvements, 0.0), prepend=0.0)
    totals = np.zeros((3, len(run.problem["stages"]) + 1))
    for trial, gain in zip(run.trials, gains, strict=True):
        if not trial["warm_up"]:
            costs = trial["stage_costs"] or ()
            first = next((k for k, cost in enumerate(costs) if cost is not None), -1)
            totals[:, first] += 1.0, trial["charged"], gain
    return totals


def _shares(amounts: Array) -> list[float | None]:
    """Each amount as a share of their sum; `None` where that is nothing."""
    total = amounts.sum()
    return [float(amount / total) if total > 0.0 else None for amount in amounts]
