"""A table in a notebook that is replaced in place: HTML alone, without widgets."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from typing import Any

from eeipu.stages.running.calls import Clock
from eeipu.studies.displays.snapshot import (
    Snapshot,
    account,
    facts,
    outcome,
    result,
    times,
    training,
)
from eeipu.studies.records.amounts import amount

__all__ = ["NotebookTable", "kernel_display"]

REFRESHED_EVERY_S = 0.5
SHOWN_TRIALS = 8

CELL = "text-align: left; padding: 0.1em 1.5em 0.1em 0"


def kernel_display() -> Callable[..., Any] | None:
    """The function `IPython.display.display` of a notebook's kernel; `None` outside of one."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display  # which the kernel has imported

    return display


class NotebookTable:
    """Shows a table below the notebook's cell, with the last trials and what goes on now.

    Args:
        display: `IPython.display.display`, or a function that is called in the same way.
        clock: The clock of the snapshots, which goes on between them.
    """

    shows_updates = shows_ends = True

    def __init__(self, display: Callable[..., Any], clock: Clock = time.monotonic) -> None:
        self._display = display
        self._clock = clock
        self._now: Snapshot | None = None
        self._ended: tuple[Snapshot, ...] = ()  # when the last trials ended, newest first
        self._handle: Any = None  # of the output that is replaced
        self._html = ""
        self._lock = threading.Lock()

    @contextmanager
    def open(self) -> Iterator["NotebookTable"]:
        """Refresh the table twice a second; its last state stays in the notebook."""
        is_over = threading.Event()

        def refresh() -> None:
            while not is_over.wait(REFRESHED_EVERY_S):
                self.refresh()

        thread = threading.Thread(target=refresh, name="eeipu-notebook-table", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            is_over.set()
            thread.join()
            if self._now is not None:
                self._now = replace(self._now, activity="", end_s=None)
            self.refresh()

    def update(self, snapshot: Snapshot) -> None:
        """Show what goes on now, at the next refresh."""
        self._now = snapshot
        if self._handle is None:
            self.refresh()

    def trial_ended(self, snapshot: Snapshot) -> None:
        """Show that a trial has ended."""
        self._ended = (snapshot, *self._ended)[:SHOWN_TRIALS]
        self.update(snapshot)

    def refresh(self) -> None:
        """Show the last snapshot, unless that would change nothing."""
        with self._lock:
            if self._now is None:
                return
            snapshot = self._now.at(self._clock())
            html = _html(snapshot, self._ended)
            if html == self._html:
                return
            self._html = html
            text = f"{snapshot.study_name}: {account(snapshot)}, {facts(snapshot)}"
            bundle = {"text/html": html, "text/plain": text}
            if self._handle is None:
                self._handle = self._display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)


def _html(snapshot: Snapshot, ended: tuple[Snapshot, ...]) -> str:
    """Draw a snapshot, and the trials that have ended last."""
    bar = ""
    if snapshot.budget is not None:
        used = min(1.0, snapshot.spent / snapshot.budget)
        bar = f' <progress value="{used:.4f}" max="1"></progress>'
    lines = [
        f"<b>{escape(snapshot.study_name)}</b>{bar} {escape(_budget(snapshot))}",
        escape(facts(snapshot)),
        *filter(None, [escape(training(snapshot))]),
        escape(times(snapshot)),
    ]
    if snapshot.activity:
        lines.append(f"now: {escape(snapshot.activity)}")
    table = _table(ended) if ended else ""
    return f"<div>{'<br>'.join(lines)}{table}</div>"


def _budget(snapshot: Snapshot) -> str:
    total = snapshot.budget
    return account(snapshot) + ("" if total is None else f" of {amount(total, snapshot.unit)}")


def _table(ended: tuple[Snapshot, ...]) -> str:
    """The table of trials, newest first."""
    heads = "".join(_cell("th", head) for head in ("trial", "value", "charged", "stages"))
    rows = "".join(f"<tr>{_cells(each)}</tr>" for each in ended)
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _cells(snapshot: Snapshot) -> str:
    unit, why = snapshot.unit, snapshot.failure
    stages = ", ".join(f"{run.name} {outcome(run, unit)}" for run in snapshot.stage_runs)
    cells = (
        str(snapshot.number),
        result(snapshot),
        amount(snapshot.charged, unit),
        stages if why is None else f"{stages} ({why})",
    )
    return "".join(_cell("td", text) for text in cells)


def _cell(tag: str, text: str) -> str:
    return f'<{tag} style="{CELL}">{escape(text)}</{tag}>'
