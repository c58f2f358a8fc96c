"""What a user sees while a study runs: a live table, or a line for each trial.

A `Reporter` reads the study and makes a `Snapshot` of it. A `Display` shows the snapshot.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from optuna.study import StudyDirection
from rich.console import Console

from eeipu.methods.budget import Budget
from eeipu.pipeline import Pipeline
from eeipu.stages.running.calls import Clock
from eeipu.stages.runs import PipelineRun, StageRun
from eeipu.studies.displays.live_table import LiveTable
from eeipu.studies.displays.notebook_table import NotebookTable, kernel_display
from eeipu.studies.displays.snapshot import Snapshot, TrainingProgress
from eeipu.studies.displays.tally import Tally
from eeipu.studies.displays.trial_lines import TrialLines
from eeipu.studies.trials import Trials

__all__ = ["Display", "Reporter", "cost_unit", "showing"]

# A snapshot reads the study. Beside many workers, which end a call every few milliseconds, one is
# made only now and then.
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

    Attributes:
        training: Says how the trainings of the run go on, where they may stop early.
    """

    training: Callable[[], TrainingProgress] | None = None

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
        better = max if trials.study.directions[0] is StudyDirection.MAXIMIZE else min
        self._tally = Tally(trials.study_id, better)
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
            self._tally.add_own(number)
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
        self._tally.add_own(number)
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
        tally = self._tally
        tally.look(trials)
        now_s = self._clock()
        elapsed_s = now_s - self._began_s
        return Snapshot(
            study_name=study.study_name,
            trials=tally.succeeded,
            stopped=tally.stopped,
            failed=tally.failed,
            budget=self._budget.total if self._budget.is_limited else None,
            spent=tally.spent,
            saved=self._saved,
            unit=cost_unit(self._trials.pipeline),
            best_value=tally.best_value if len(study.directions) == 1 else None,
            front=len(study.best_trials) if len(study.directions) > 1 else None,
            number=len(trials) if number is None else number,
            value=value,
            charged=0.0 if number is None else tally.charged(number),
            stage_names=self._trials.pipeline.stage_names,
            stage_runs=tuple(runs),
            activity=activity,
            time_s=now_s,
            elapsed_s=elapsed_s,
            choosing_s=tally.choosing_s,
            end_s=self._end_s(tally.spent, elapsed_s),
            training=None if self.training is None else self.training(),
        )

    def _end_s(self, spent: float, elapsed_s: float) -> float | None:
        """When the first of all limits will end the run, in seconds since it began."""
        bounds = self._budget.bounds
        end_s = min(
            self._pace.end_s(self._budget.total, spent, elapsed_s),
            math.inf if bounds is None else bounds.end_s,
        )
        return end_s if end_s < math.inf else None


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
