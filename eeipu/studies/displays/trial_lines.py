"""A line for each trial that ends, for scripts whose output goes to a file or a log."""

import logging
from contextlib import suppress

from rich.console import Console

from eeipu.studies.displays.snapshot import Snapshot, best, result, rungs
from eeipu.studies.records.amounts import amount, duration

__all__ = ["TrialLines", "line_of"]

logger = logging.getLogger("eeipu")


class TrialLines:
    """Writes a line for each trial that ends.

    If the user has set up logging so that lines of level `INFO` come out of it, the line goes to
    the logger `eeipu`, otherwise to the console.

    Args:
        console: Where the lines go.
    """

    shows_updates, shows_ends = False, True

    def __init__(self, console: Console) -> None:
        self._console = console

    def update(self, snapshot: Snapshot) -> None:
        """Show nothing: a trial gets its line when it ends."""

    def trial_ended(self, snapshot: Snapshot) -> None:
        """Show that a trial has ended."""
        if _is_logged(logging.INFO):
            logger.info("%s", line_of(snapshot))
        else:
            # Not through Rich, which ends the process when the reader of a pipe has gone.
            with suppress(OSError, ValueError):  # the latter from a closed file
                print(line_of(snapshot), file=self._console.file, flush=True)


def _is_logged(level: int) -> bool:
    """Whether a handler takes what the logger `eeipu` is given at a level."""
    if not logger.isEnabledFor(level):
        return False
    at: logging.Logger | None = logger
    while at is not None:
        if any(handler.level <= level for handler in at.handlers):
            return True
        at = at.parent if at.propagate else None
    return False


def line_of(snapshot: Snapshot) -> str:
    """Describe in a line the trial that has ended.

    Args:
        snapshot: The state of the study when it ended.
    """
    unit, budget = snapshot.unit, snapshot.budget
    has_best = snapshot.best_value is not None or snapshot.front is not None
    reused = ", ".join(run.name for run in snapshot.stage_runs if run.memoized)
    parts = [
        result(snapshot) if snapshot.value is None else f"value {result(snapshot)}",
        best(snapshot) if has_best else "no best value yet",
        f"reused {reused or 'nothing'}",
        f"charged {amount(snapshot.charged, unit)}",
        f"spent {amount(snapshot.spent, unit)}"
        + ("" if budget is None else f" of {amount(budget, unit)}"),
        f"{duration(snapshot.elapsed_s)} elapsed",
    ]
    now = snapshot.training
    if now is not None:
        parts.append(f"reached {rungs(now) or 'no step yet'}")
        parts.append(f"merge rate {now.merge_rate:.2f}")
    why = "" if snapshot.failure is None else f"; failed in {snapshot.failure}"
    step = "" if snapshot.step is None else f", step {snapshot.step}"
    return f"trial {snapshot.number}{step}: {', '.join(parts)}{why}"
