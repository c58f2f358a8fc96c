"""What a user sees while a study runs: a live display on a terminal, log lines elsewhere."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eeipu.execution import StageRun

__all__ = ["Display", "Snapshot", "showing"]

logger = logging.getLogger("eeipu")


@dataclass(frozen=True)
class Snapshot:
    """The state of a study at one moment.

    Attributes:
        study_name: The study.
        trials: Trials that succeeded; `failed`: those that failed.
        budget: What may be spent; `spent`: what has been, both in the unit of the costs.
        saved: Cost that reused stage outputs have spared, in this run.
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
    best_value: float | None
    number: int
    value: float | None
    stage_names: Sequence[str]
    stage_runs: Sequence[StageRun]
    activity: str


class Display(Protocol):
    """Where snapshots go."""

    def update(self, snapshot: Snapshot) -> None:
        """Something has changed."""

    def trial_ended(self, snapshot: Snapshot) -> None:
        """The current trial has succeeded or failed."""


@contextmanager
def showing(progress: bool, console: Console | None = None) -> Iterator[Display]:
    """The display for the place this runs in: silent, live on a terminal, or log lines."""
    console = console or Console(stderr=True)
    if not progress:
        yield _Silent()
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            yield _LiveTable(live)
    else:
        yield _LogLines()


class _Silent:
    def update(self, snapshot: Snapshot) -> None: ...

    def trial_ended(self, snapshot: Snapshot) -> None: ...


class _LogLines:
    """One line a trial, through the logger `eeipu`."""

    def update(self, snapshot: Snapshot) -> None: ...

    def trial_ended(self, snapshot: Snapshot) -> None:
        logger.info(
            "trial %d: %s, best %s, spent %.4g of %.4g (%s)",
            snapshot.number,
            "failed" if snapshot.value is None else f"value {snapshot.value:.6g}",
            "-" if snapshot.best_value is None else f"{snapshot.best_value:.6g}",
            snapshot.spent,
            snapshot.budget,
            ", ".join(f"{run.name} {_cost_text(run)}" for run in snapshot.stage_runs),
        )


class _LiveTable:
    """A table that is redrawn in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def update(self, snapshot: Snapshot) -> None:
        self._live.update(render(snapshot))

    trial_ended = update


def render(snapshot: Snapshot) -> RenderableType:
    """The snapshot as it looks on a terminal."""
    head = Table.grid(padding=(0, 2))
    share = min(1.0, snapshot.spent / snapshot.budget)
    head.add_row(
        Text(snapshot.study_name, style="bold"),
        ProgressBar(total=1.0, completed=share, width=30),
        f"{snapshot.spent:.4g} of {snapshot.budget:.4g} spent, "
        f"{max(0.0, snapshot.budget - snapshot.spent):.4g} left",
    )
    best = "none yet" if snapshot.best_value is None else f"{snapshot.best_value:.6g}"
    facts = [f"{snapshot.trials} trials", f"best {best}", f"saved by the cache {snapshot.saved:.4g}"]
    if snapshot.failed:
        facts.insert(1, f"{snapshot.failed} failed")
    return Group(head, Text(" · ".join(facts)), _stage_table(snapshot), Text(snapshot.activity))


def _stage_table(snapshot: Snapshot) -> Table:
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(style="dim")
    value = "" if snapshot.value is None else f"value {snapshot.value:.6g}"
    table.add_row(f"trial {snapshot.number}", value)
    runs = {run.name: run for run in snapshot.stage_runs}
    for name in snapshot.stage_names:
        run = runs.get(name)
        table.add_row(f"  {name}", "" if run is None else _cost_text(run))
    return table


def _cost_text(run: StageRun) -> str:
    if run.memoized:
        return "free"
    cost = "cost unknown" if run.cost is None else f"{run.cost:.4g}"
    return f"{cost}, failed" if run.error is not None else cost
