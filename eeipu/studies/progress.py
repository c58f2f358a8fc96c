"""What a user sees while a study runs: a live display on a terminal, log lines elsewhere.

A `Reporter` reads the study and makes a `Snapshot` of it. A `Display` shows the snapshot.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eeipu.methods.budget import Budget, spent
from eeipu.methods.history import is_interrupted
from eeipu.pipeline import Pipeline
from eeipu.stages.calls import Clock
from eeipu.stages.runs import PipelineRun, StageRun
from eeipu.studies.trials import Trials

__all__ = ["Display", "Reporter", "Snapshot", "cost_unit", "showing"]

logger = logging.getLogger("eeipu")

# A snapshot reads all trials of the study. Beside many workers, which end a call every few
# milliseconds, one is made only now and then.
MANY_WORKERS = 16
SHOWN_EVERY_S = 0.25


@dataclass(frozen=True)
class Snapshot:
    """The state of a study at one moment.

    Attributes:
        study_name: The name of the study.
        trials: How many trials have succeeded.
        failed: How many trials have failed.
        budget: What all trials may cost together.
        spent: What they have cost so far.
        saved: What reused stage outputs would have cost, in this run of the tuner.
        unit: The text after an amount of cost: `" s"`, or nothing where stages declare their costs.
        best_value: The best objective so far; `None` before the first success.
        number: The number of the current trial, or of the last one.
        value: The objective of that trial; `None` while it runs, and where it failed.
        stage_names: The names of all stages of the pipeline.
        stage_runs: The results of the stages that the trial has run or reused so far.
        activity: What goes on now, in a line.
    """

    study_name: str
    trials: int
    failed: int
    budget: float
    spent: float
    saved: float
    unit: str
    best_value: float | None
    number: int
    value: float | None
    stage_names: tuple[str, ...]
    stage_runs: tuple[StageRun, ...]
    activity: str


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
    """Open a display: a live table on a terminal, log lines elsewhere, or nothing.

    Args:
        progress: Whether to show anything.
        console: Where to show it; by default on the standard error of this process.
    """
    console = console if console is not None else Console(stderr=True)
    if not progress:
        yield _Silent()
    elif console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield _LiveTable(live)
    else:
        yield _LogLines()


class _Silent:
    shows_updates = shows_ends = False

    def update(self, snapshot: Snapshot) -> None: ...

    def trial_ended(self, snapshot: Snapshot) -> None: ...


class _LogLines:
    """Writes a line for each trial that ends to the logger `eeipu`."""

    shows_updates, shows_ends = False, True

    def update(self, snapshot: Snapshot) -> None: ...

    def trial_ended(self, snapshot: Snapshot) -> None:
        logger.info(
            "trial %d: %s, best %s, spent %s of %s (%s)",
            snapshot.number,
            "failed" if snapshot.value is None else f"value {snapshot.value:.6g}",
            "-" if snapshot.best_value is None else f"{snapshot.best_value:.6g}",
            _amount(snapshot.spent, snapshot.unit),
            _amount(snapshot.budget, snapshot.unit),
            ", ".join(f"{run.name} {_outcome(run, snapshot.unit)}" for run in snapshot.stage_runs),
        )


class _LiveTable:
    """Shows a table that is redrawn in place, with the last trial beside the current one."""

    shows_updates = shows_ends = True

    def __init__(self, live: Live) -> None:
        self._live = live
        self._last: Snapshot | None = None

    def update(self, snapshot: Snapshot) -> None:
        self._live.update(render(snapshot, self._last))

    def trial_ended(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        self._live.update(render(snapshot, None))


def render(snapshot: Snapshot, last: Snapshot | None) -> RenderableType:
    """Draw a snapshot for a terminal.

    Args:
        snapshot: The state of the study now.
        last: Its state when the last trial ended, to show that trial beside the current one; `None`
            shows the current trial alone.
    """
    head = Table.grid(padding=(0, 2))
    used, left = snapshot.spent, max(0.0, snapshot.budget - snapshot.spent)
    head.add_row(
        Text(snapshot.study_name, style="bold"),
        ProgressBar(total=1.0, completed=min(1.0, used / snapshot.budget), width=30),
        Text(f"{_amount(used, snapshot.unit)} spent, {_amount(left, snapshot.unit)} left"),
    )
    best = "none yet" if snapshot.best_value is None else f"{snapshot.best_value:.6g}"
    facts = [
        f"{snapshot.trials} trials",
        *([f"{snapshot.failed} failed"] if snapshot.failed else []),
        f"best {best}",
        f"saved by the cache {_amount(snapshot.saved, snapshot.unit)}",
    ]
    shown = [snapshot] if last is None else [last, snapshot]
    return Group(head, Text(" · ".join(facts)), _stage_table(shown), Text(snapshot.activity))


def _stage_table(shown: list[Snapshot]) -> Table:
    """A table with a column for each trial: the costs of its stages, and its value."""
    table = Table(box=None, padding=(0, 2), show_header=True, header_style="")
    table.add_column("", style="dim")
    for snapshot in shown:
        table.add_column(f"trial {snapshot.number}")
    runs = [{run.name: run for run in snapshot.stage_runs} for snapshot in shown]
    for name in shown[-1].stage_names:
        cells = [
            Text(_outcome(by_name[name], snapshot.unit)) if name in by_name else Text("")
            for by_name, snapshot in zip(runs, shown, strict=True)
        ]
        table.add_row(Text(name), *cells)  # `Text`, since brackets in a plain string are markup
    values = ["" if each.value is None else f"{each.value:.6g}" for each in shown]
    table.add_row("value", *values)
    return table


def _outcome(run: StageRun, unit: str) -> str:
    if run.memoized:
        return "free"
    cost = "cost unknown" if run.cost is None else _amount(run.cost, unit)
    return f"{cost}, failed" if run.error is not None else cost


def _amount(cost: float, unit: str) -> str:
    """A cost with its unit, without an exponent where that is readable."""
    return f"{cost:,.0f}{unit}" if 1e4 <= cost < 1e9 else f"{cost:.4g}{unit}"


def cost_unit(pipeline: Pipeline) -> str:
    """The text after an amount of cost: `" s"`, or nothing where stages declare their costs."""
    return "" if any(stage.cost is not None for stage in pipeline.stages) else " s"


class Reporter:
    """Shows how one run of a tuner goes on.

    Args:
        trials: The trials of the study.
        budget: What all of them may cost together.
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
        self._shown_s = -math.inf
        self._saved = 0.0

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
        if self._display.shows_updates and self._clock() - self._shown_s >= self._pause_s:
            self._display.update(self._snapshot(activity(), number, runs, None))
            self._shown_s = self._clock()

    def trial_ended(self, number: int, result: PipelineRun) -> None:
        """Show the result of a trial.

        Args:
            number: The trial's number.
            result: The results of its stages, and its value.
        """
        self._saved += result.saved
        if self._display.shows_ends:
            snapshot = self._snapshot("", number, result.stage_runs, result.value)
            self._display.trial_ended(snapshot)

    def _snapshot(
        self, activity: str, number: int | None, runs: Sequence[StageRun], value: float | None
    ) -> Snapshot:
        study = self._trials.study
        trials = study.get_trials(deepcopy=False)
        values = [t.values[0] for t in trials if t.state is TrialState.COMPLETE]
        better = max if study.direction is StudyDirection.MAXIMIZE else min
        return Snapshot(
            study_name=study.study_name,
            trials=len(values),
            failed=sum(t.state is TrialState.FAIL and not is_interrupted(t) for t in trials),
            budget=self._budget.total,
            spent=spent(trials),
            saved=self._saved,
            unit=cost_unit(self._trials.pipeline),
            best_value=better(values, default=None),
            number=len(trials) if number is None else number,
            value=value,
            stage_names=self._trials.pipeline.stage_names,
            stage_runs=tuple(runs),
            activity=activity,
        )
