"""What a user sees while a study runs: a live display on a terminal, log lines elsewhere."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eeipu.stages.runs import StageRun

__all__ = ["Display", "Snapshot", "showing"]

logger = logging.getLogger("eeipu")


@dataclass(frozen=True)
class Snapshot:
    """The state of a study at one moment.

    Attributes:
        study_name: The study.
        trials: Trials that succeeded; `failed`: those that failed.
        budget: What may be spent; `spent`: what has been.
        saved: Cost that reused stage outputs have spared, in this run.
        unit: What follows an amount of cost: `" s"`, or nothing where costs are declared.
        best_value: The best objective so far.
        number: The current or last trial; `value`: its objective, once it has one.
        stage_names: The pipeline's stages; `stage_runs`: those the trial has been through.
        activity: What is going on now.
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
    """Where snapshots go.

    Attributes:
        shows_updates: Whether updates are looked at, which take time to make.
        shows_ends: Likewise, the ends of trials.
    """

    shows_updates: bool
    shows_ends: bool

    def update(self, snapshot: Snapshot) -> None:
        """Something has changed."""

    def trial_ended(self, snapshot: Snapshot) -> None:
        """The current trial has succeeded or failed."""


@contextmanager
def showing(progress: bool, console: Console | None = None) -> Iterator[Display]:
    """The display for the place this runs in: silent, live on a terminal, or log lines.

    Args:
        progress: Whether to show anything.
        console: Where to; by default the process's standard error.
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
    """One line a trial, through the logger `eeipu`."""

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
    """A table that is redrawn in place, with the last trial beside the current one."""

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
    """A snapshot as it looks on a terminal.

    Args:
        snapshot: The state now.
        last: The state when the last trial ended, to be shown beside the current trial.
    """
    head = Table.grid(padding=(0, 2))
    spent, left = snapshot.spent, max(0.0, snapshot.budget - snapshot.spent)
    head.add_row(
        Text(snapshot.study_name, style="bold"),
        ProgressBar(total=1.0, completed=min(1.0, spent / snapshot.budget), width=30),
        Text(f"{_amount(spent, snapshot.unit)} spent, {_amount(left, snapshot.unit)} left"),
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
    """A column for each trial: what its stages cost, and its value."""
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
        table.add_row(Text(name), *cells)  # as Text, in which brackets are only brackets
    values = ["" if each.value is None else f"{each.value:.6g}" for each in shown]
    table.add_row("value", *values)
    return table


def _outcome(run: StageRun, unit: str) -> str:
    if run.memoized:
        return "free"
    cost = "cost unknown" if run.cost is None else _amount(run.cost, unit)
    return f"{cost}, failed" if run.error is not None else cost


def _amount(cost: float, unit: str) -> str:
    """A cost with its unit; exponents only where nothing else is readable."""
    return f"{cost:,.0f}{unit}" if 1e4 <= cost < 1e9 else f"{cost:.4g}{unit}"
