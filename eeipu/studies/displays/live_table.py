"""A table on a terminal that is redrawn in place."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eeipu.stages.running.calls import Clock
from eeipu.studies.displays.snapshot import (
    Snapshot,
    account,
    facts,
    outcome,
    times,
    training,
)
from eeipu.studies.records.amounts import value_text

__all__ = ["LiveTable", "render"]


class LiveTable:
    """Shows a table that is redrawn in place, with the last trial beside the current one.

    Args:
        console: The terminal.
        clock: The clock of the snapshots, which goes on between them.
    """

    shows_updates = shows_ends = True

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._last: Snapshot | None = None  # of the last trial that has ended
        # What to draw, for Rich's thread: the arguments of `render`, which change together.
        self._shown: tuple[Snapshot, Snapshot | None] | None = None

    @contextmanager
    def open(self) -> Iterator["LiveTable"]:
        """Draw the table four times a second; its last state stays on the terminal."""
        with Live(console=self._console, refresh_per_second=4, get_renderable=self._draw):
            try:
                yield self
            finally:
                if self._shown is not None:
                    now, last = self._shown
                    self._shown = replace(now, end_s=None), last

    def update(self, snapshot: Snapshot) -> None:
        """Show what goes on now, at the next refresh."""
        self._shown = snapshot, self._last

    def trial_ended(self, snapshot: Snapshot) -> None:
        """Show that a trial has ended."""
        if snapshot.failure is not None:  # a line above the table, which stays
            self._console.print(Text(f"trial {snapshot.number} failed in {snapshot.failure}"))
        self._last = snapshot
        self._shown = snapshot, None

    def _draw(self) -> RenderableType:
        if self._shown is None:
            return ""
        now, last = self._shown
        return render(now.at(self._clock()), last)


def render(snapshot: Snapshot, last: Snapshot | None) -> RenderableType:
    """Draw a snapshot for a terminal.

    Args:
        snapshot: The state of the study now.
        last: Its state when the last trial ended, to show that trial beside the current one; `None`
            shows the current trial alone.
    """
    head = Table.grid(padding=(0, 2))
    cells: list[RenderableType] = [Text(snapshot.study_name, style="bold")]
    if snapshot.budget is not None:
        used = min(1.0, snapshot.spent / snapshot.budget)
        cells.append(ProgressBar(total=1.0, completed=used, width=30))
    head.add_row(*cells, Text(account(snapshot)))
    shown = [snapshot] if last is None else [last, snapshot]
    activity = Text(snapshot.activity)
    lines = [facts(snapshot), *filter(None, [training(snapshot)]), times(snapshot)]
    return Group(head, *map(Text, lines), _stage_table(shown), activity)


def _stage_table(shown: list[Snapshot]) -> Table:
    """A table with a column for each trial: the costs of its stages, and its value."""
    table = Table(box=None, padding=(0, 2), show_header=True, header_style="")
    table.add_column("", style="dim")
    for snapshot in shown:
        step = "" if snapshot.step is None else f", step {snapshot.step}"
        table.add_column(f"trial {snapshot.number}{step}")
    runs = [{run.name: run for run in snapshot.stage_runs} for snapshot in shown]
    for name in shown[-1].stage_names:
        cells = [
            Text(outcome(by_name[name], snapshot.unit)) if name in by_name else Text("")
            for by_name, snapshot in zip(runs, shown, strict=True)
        ]
        table.add_row(Text(name), *cells)  # `Text`, since brackets in a plain string are markup
    values = ["" if each.value is None else value_text(each.value) for each in shown]
    table.add_row("value", *values)
    return table
