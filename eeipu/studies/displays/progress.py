"""What a user sees while a study runs: a live table, or a line for each trial.

A `Reporter` reads the study and makes a `Snapshot` of it. A `Display` shows the snapshot.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from eeipu.methods.budget import Budget, spent
from eeipu.methods.ledger import is_interrupted
from eeipu.pipeline import Pipeline
from eeipu.stages.running.calls import Clock
from eeipu.stages.runs import PipelineRun, StageRun
from eeipu.studies.displays.live_table import LiveTable
from eeipu.studies.displays.notebook_table import NotebookTable, kernel_display
from eeipu.studies.displays.snapshot import Snapshot
from eeipu.studies.displays.trial_lines import TrialLines
from eeipu.studies.trials import Trials

__all__ = ["Display", "Reporter", "cost_unit", "showing"]

# A snapshot reads all trials of the study. Beside many workers, which end a call every few
# milliseconds, one is made only now and then.
MANY_WORKERS = 16
SHOWN_EVERY_S = 0.25


class Display(Protocol):
    """Shows snapshots to the user.

    Making a snapshot takes time, so none is made where it would not be shown.

    Attributes:
        shows_updates: Whether `update` shows anything.
        shows_ends: Whether `trial_ended` shows anything.
    """

    shows_updates: bool
    shows_ends: bool

    def update(self, snapshot: Snapshot) -> None:
        """Show what goes on now."""

    def trial_ended(self, snapshot: Snapshot) -> None:
        """Show that the current trial has succeeded or failed."""


@contextmanager
def showing(progress: bool, console: Console | None = None) -> Iterator[Display]:
    """Open a display: a live table in a notebook or on a terminal, elsewhere a line for each trial.

    Args:
        progress: Whether to show anything.
        console: Where to show it outside of notebooks; by default on the standard error of this
            process.
    """
    console = console if console is not None else Console(stderr=True)
    display = kernel_display()
    if not progress:
        yield _Silent()
    elif display is not None:
        with NotebookTable(display).open() as notebook_table:
            yield notebook_table
    elif console.is_terminal and not console.is_dumb_terminal:
        with LiveTable(console).open() as live_table:
            yield live_table
    else:
        yield TrialLines(console)


class _Silent:
    shows_updates = shows_ends = False

    def update(self, snapshot: Snapshot) -> None: ...

    def trial_ended(self, snapshot: Snapshot) -> None: ...


def cost_unit(pipeline: Pipeline) -> str:
    """The text after an amount of cost: `" s"`, or nothing where stages declare their costs."""
    return "" if any(stage.cost is not None for stage in pipeline.stages) else " s"


class Reporter:
    """Shows how one run of a tuner goes on.

    Args:
        trials: The trials of the study.
        budget: What all of them may cost together, and what else ends the run.
        display: Where to show it.
        workers: How many stage calls run at once.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        trials: Trials,
        budget: Budget,
        display: Display,
        *,
        workers: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self._trials = trials
        self._budget = budget
        self._display = display
        self._pause_s = SHOWN_EVERY_S if workers >= MANY_WORKERS else 0.0
        self._clock = clock
        self._began_s = clock()
        self._shown_s = -math.inf
        self._saved = 0.0
        self._numbers: set[int] = set()  # of the trials of this run
        self._pace = _Pace(trials.spent if display.shows_updates else 0.0)

    def update(
        self,
        activity: Callable[[], str],
        number: int | None = None,
        runs: Sequence[StageRun] = (),
    ) -> None:
        """Show what goes on, unless something was shown a moment ago.

        Args:
            activity: Says what goes on, in a line.
            number: The number of the current trial; `None` is the one that begins next.
            runs: The results of the trial's stages so far.
        """
        if number is not None:
            self._numbers.add(number)
        if self._display.shows_updates and self._clock() - self._shown_s >= self._pause_s:
            self._display.update(self._snapshot(activity(), number, runs, None))
            self._shown_s = self._clock()

    def trial_ended(
        self,
        number: int,
        result: PipelineRun,
        activity: Callable[[], str],
        step: int | None = None,
    ) -> None:
        """Show the result of a trial, or what it has reached at a step of its training.

        Args:
            number: The trial's number.
            result: The results of its stages, and its value.
            activity: Says what else goes on, in a line.
            step: The step, where the trial is trained in steps.
        """
        self._saved += result.saved
        self._numbers.add(number)
        if self._display.shows_ends:
            value = result.values if len(result.values) > 1 else result.value
            snapshot = self._snapshot(activity(), number, result.stage_runs, value)
            self._display.trial_ended(replace(snapshot, step=step))

    def _snapshot(
        self,
        activity: str,
        number: int | None,
        runs: Sequence[StageRun],
        value: float | tuple[float, ...] | None,
    ) -> Snapshot:
        study = self._trials.study
        trials = study.get_trials(deepcopy=False)
        succeeded = [t for t in trials if t.state is TrialState.COMPLETE]
        best_value, front = _best(study, succeeded)
        now_s = self._clock()
        elapsed_s, spent_so_far = now_s - self._began_s, spent(trials, self._trials.study_id)
        own = [t for t in trials if t.number in self._numbers]
        return Snapshot(
            study_name=study.study_name,
            trials=len(succeeded),
            stopped=sum(t.state is TrialState.PRUNED for t in trials),
            failed=sum(t.state is TrialState.FAIL and not is_interrupted(t) for t in trials),
            budget=self._budget.total if self._budget.is_limited else None,
            spent=spent_so_far,
            saved=self._saved,
            unit=cost_unit(self._trials.pipeline),
            best_value=best_value,
            front=front,
            number=len(trials) if number is None else number,
            value=value,
            charged=spent(t for t in own if t.number == number),
            stage_names=self._trials.pipeline.stage_names,
            stage_runs=tuple(runs),
            activity=activity,
            time_s=now_s,
            elapsed_s=elapsed_s,
            choosing_s=math.fsum(t.user_attrs.get("suggest_s") or 0.0 for t in own),
            end_s=self._end_s(spent_so_far, elapsed_s),
        )

    def _end_s(self, spent: float, elapsed_s: float) -> float | None:
        """When the first of all limits will end the run, in seconds since it began."""
        bounds = self._budget.bounds
        end_s = min(
            self._pace.end_s(self._budget.total, spent, elapsed_s),
            math.inf if bounds is None else bounds.end_s,
        )
        return end_s if end_s < math.inf else None


def _best(study: optuna.Study, succeeded: list[FrozenTrial]) -> tuple[float | None, int | None]:
    """The best value within all limits; or, with several objectives, the size of the front."""
    if len(study.directions) > 1:
        return None, len(study.best_trials)
    better = max if study.direction is StudyDirection.MAXIMIZE else min
    within = [t.values[0] for t in succeeded if all(v <= 0 for v in t.constraints.values())]
    return better(within, default=None), None


class _Pace:
    """How fast the budget is spent, for an estimate of the end.

    Args:
        spent: What had been spent when the run began.
    """

    def __init__(self, spent: float) -> None:
        self._first = self._last = spent
        self._changed_s = 0.0

    def end_s(self, budget: float, spent: float, elapsed_s: float) -> float:
        """When the budget will be spent, in seconds since the run began; `inf` if unknown.

        Costs are known when a call has ended. So the estimate changes then, and stays in between.

        Args:
            budget: What all trials may cost together.
            spent: What has been spent so far.
            elapsed_s: The time now, in seconds since the run began.
        """
        if spent != self._last:
            self._last, self._changed_s = spent, elapsed_s
        gained = self._last - self._first
        if gained <= 0 or spent >= budget:
            return math.inf
        return self._changed_s * (1 + (budget - spent) / gained)
