"""The parts of a report that are text and tables, as HTML."""

from html import escape
from typing import Any

from eeipu.html_tables import table
from eeipu.stages.runs import error_line
from eeipu.studies.records import tables
from eeipu.studies.records.amounts import amount, value_text
from eeipu.studies.records.study_record import StudyRecord, TrialRecord

__all__ = ["account", "best_trials", "failures", "section", "stages", "tiles"]

BEST, FAILURES = 10, 20


def section(title: str, body: str, *, note: str = "", is_wide: bool = False) -> str:
    """A part of the page.

    Args:
        title: Its title.
        body: HTML.
        note: A sentence below it.
        is_wide: Whether it takes the whole width.
    """
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    kind = ' class="wide"' if is_wide else ""
    head = f"<h2>{escape(title)}</h2>" if title else ""
    return f"<section{kind}>{head}{body}{below}</section>"


def tiles(record: StudyRecord) -> str:
    """The most important facts, in large type."""
    counts, unit = tables.counts(record), record.unit
    of = "" if record.budget is None else f" of {amount(record.budget, unit)}"
    known = {
        f"best {record.objective}": _best(record),
        "trials": f"{counts.get('complete', 0)}",
        "pruned, failed, running": " · ".join(
            str(counts.get(state, 0)) for state in ("pruned", "failed", "running")
        ),
        f"spent{of}": amount(record.spent, unit),
        "saved by the cache": amount(record.saved, unit),
    }
    each = (
        f'<div class="tile"><span>{escape(name)}</span><b>{escape(value)}</b></div>'
        for name, value in known.items()
    )
    return f'<div class="tiles">{"".join(each)}</div>'


def _best(record: StudyRecord) -> str:
    if record.has_several_objectives and record.front:
        return f"front of {len(record.front)}"
    return "none yet" if record.best is None else value_text(record.best.values)


def best_trials(record: StudyRecord) -> str:
    """The best trials with their parameters."""
    found = record.ranked[:BEST]
    params = list(dict.fromkeys(name for each in found for name in each.trial.params))
    heads = ["trial", record.objective, *params, "charged", "reused"]
    rows = [
        [
            each.number,
            value_text(each.values),
            *(each.trial.params.get(name) for name in params),
            amount(each.charged, record.unit),
            ", ".join(each.reused),
        ]
        for each in found
    ]
    right = {0, 1, len(heads) - 2}
    return f'<div class="scroll sortable">{table(heads, rows, right=right)}</div>'


def account(record: StudyRecord) -> str:
    """What was paid, by what it was for."""
    parts = {name: cost for name, cost in tables.account(record).items() if cost > 0}
    whole = sum(parts.values()) or 1.0
    rows: list[list[Any]] = [
        [name, amount(cost, record.unit), f"{cost / whole:.1%}"] for name, cost in parts.items()
    ]
    rows.append(["in all", amount(record.spent, record.unit), ""])
    return f'<div class="scroll">{table(["for", "paid", "share"], rows, right={1, 2})}</div>'


def stages(record: StudyRecord) -> str:
    """What each stage has done."""
    heads = ["stage", "executed", "reused", "failed", "mean cost", "in all"]
    rows = []
    for name in record.stage_names:
        found = tables.stage_facts(record, name)
        mean = found["mean_cost"]
        rows.append(
            [
                name,
                *(found[column] for column in ("executed", "reused", "failed")),
                "" if mean is None else amount(mean, record.unit),
                amount(found["total_cost"], record.unit),
            ]
        )
    return f'<div class="scroll sortable">{table(heads, rows, right=range(1, 6))}</div>'


def failures(record: StudyRecord) -> str:
    """The last failures with their tracebacks, which open on demand."""
    found = tables.failures(record)
    parts = [_failure(each) for each in found[:FAILURES]]
    if len(found) > FAILURES:
        parts.append(f'<p class="note">and {len(found) - FAILURES} earlier ones</p>')
    return "".join(parts)


def _failure(each: TrialRecord) -> str:
    error = each.error or "unknown"
    where = each.attr("failed_stage")
    head = f"trial {each.number}{'' if where is None else f' in {where}'}: {error_line(error)}"
    params = ", ".join(f"{name}={value}" for name, value in each.trial.params.items())
    return (
        f"<details><summary>{escape(head)}</summary><p class='note'>{escape(params)}</p>"
        f"<pre>{escape(error)}</pre></details>"
    )
