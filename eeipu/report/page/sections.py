"""The parts of a report that are text and tables, as HTML."""

from html import escape
from typing import Any

from eeipu.errors import ConfigurationError
from eeipu.html_tables import table
from eeipu.stages.runs import error_line
from eeipu.studies.records import tables
from eeipu.studies.records.amounts import amount
from eeipu.studies.records.recommended import recommendation_html, recommended_by
from eeipu.studies.records.study_record import StudyRecord, TrialRecord

__all__ = ["account", "best_trials", "failures", "recommended", "section", "stages", "tiles"]

BEST, FRONT, FAILURES = 10, 50, 20


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
        **_best(record),
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


def _best(record: StudyRecord) -> dict[str, str]:
    if record.has_several_objectives:
        count = len(record.front)
        return {"trials on the front": str(count) if count else "none yet"}
    best = record.best
    return {f"best {record.objective}": "none yet" if best is None else f"{best.value:.6g}"}


def best_trials(record: StudyRecord) -> str:
    """The best trials with their parameters; of several objectives, those on the front."""
    found = record.front[:FRONT] if record.has_several_objectives else record.ranked[:BEST]
    objectives = record.objectives
    params = list(dict.fromkeys(name for each in found for name in each.trial.params))
    heads = ["trial", *objectives, *params, "charged", "reused"]
    rows = [
        [
            each.number,
            *each.trial.values,
            *(each.trial.params.get(name) for name in params),
            amount(each.charged, record.unit),
            ", ".join(each.reused),
        ]
        for each in found
    ]
    right = {*range(1 + len(objectives)), len(heads) - 2}
    return f'<div class="scroll sortable">{table(heads, rows, right=right)}</div>'


def recommended(record: StudyRecord) -> str:
    """The configuration that the models believe to be best; nothing where models cannot tell."""
    try:
        found = recommended_by(record)
    except ConfigurationError:
        return ""
    note = "The best value of many may be a lucky one. Models learn from all of them."
    body = recommendation_html(record, found)
    return f'<h2>Recommended</h2><p class="note">{note}</p><div class="scroll">{body}</div>'


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
