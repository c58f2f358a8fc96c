"""What the search knew when it chose each trial, and what came of it."""

import math
from typing import TYPE_CHECKING

from eeipu.report.pictures.canvas import (
    CALM,
    STRONG,
    Row,
    left_out_note,
    new_figure,
    nothing_to_draw,
    trace,
    without_outliers,
)
from eeipu.studies.records.study_record import StudyLike, StudyRecord, TrialRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["choice_figure", "choice_rows", "why_figure", "why_rows"]

_NUMBERS = ("improvement", "cost", "mean", "std", "success")


def choice_rows(study: StudyLike) -> list[Row]:
    """A row for each candidate that was considered for a trial, for trials that models chose.

    Returns:
        `number`, the trial's; `is_chosen`; `reuses`, the names of the stages that were expected to
        be free; `improvement`, the expected improvement; `cost`, the expected cost; `mean` and
        `std` of the predicted objective; `success`, the probability that no stage fails; `score`,
        how much lower the logarithm of the score was than that of the chosen candidate; and of the
        chosen one `value` and `charged`, what came of it. What is not known is `None`.
    """
    return [row for each in StudyRecord.of(study).trials for row in _rows_of(each)]


def _rows_of(each: TrialRecord) -> list[Row]:
    chosen = each.attr("chosen") or {}
    if chosen.get("by") != "models":
        return []
    return [
        {
            "number": each.number,
            "is_chosen": k == 0,
            "reuses": list(known.get("reuses", ())),
            **{name: known.get(name) for name in _NUMBERS},
            "score": 0.0 if k == 0 else known.get("score"),
            "value": each.value if k == 0 else None,
            "charged": each.charged if k == 0 else None,
        }
        for k, known in enumerate([chosen, *chosen.get("instead", ())])
    ]


def choice_figure(study: StudyLike) -> "Figure":
    """The value that was predicted for each trial when it was chosen, and the value that it had.

    Raises:
        ConfigurationError: No trial has noted why it was chosen.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = [row for row in choice_rows(record) if row["is_chosen"] and row["mean"] is not None]
    if not rows:
        raise nothing_to_draw(record.name, "no trial that models have chosen")
    known = [row for row in rows if row["value"] is not None]
    shown = [row[name] for row in known for name in ("mean", "value")] or [0.0]
    bounds = without_outliers(shown)
    outside = [row for row in known if bounds and not bounds[0] <= row["value"] <= bounds[1]]
    title = "Predicted when chosen, and what came of it"
    figure = new_figure(title, "trial", record.objective, note=left_out_note(len(outside)))
    spread = {"type": "data", "array": [2.0 * (row["std"] or 0.0) for row in rows]}
    figure.add_trace(
        trace(
            "Scatter",
            x=[row["number"] for row in rows],
            y=[row["mean"] for row in rows],
            error_y={**spread, "thickness": 1, "width": 0, "color": CALM},
            mode="markers",
            name="predicted, with two standard deviations",
            marker={"color": CALM, "size": 5},
            text=[_told(row) for row in rows],
            hovertemplate="trial %{x}<br>predicted %{y:.4g}<br>%{text}<extra></extra>",
        )
    )
    figure.add_trace(
        trace(
            "Scatter",
            x=[row["number"] for row in known],
            y=[row["value"] for row in known],
            mode="markers",
            name="value",
            marker={"color": STRONG, "size": 7, "symbol": "diamond"},
            hovertemplate="trial %{x}<br>value %{y:.4g}<extra></extra>",
        )
    )
    if bounds is not None:
        figure.update_yaxes(range=bounds)
    return figure


def _told(row: Row) -> str:
    said = [f"reuses {', '.join(row['reuses']) or 'nothing'}"]
    names = {
        "improvement": "expected improvement",
        "cost": "expected cost",
        "success": "chance of success",
    }
    said += [f"{label} {row[name]:.3g}" for name, label in names.items() if row[name] is not None]
    return "<br>".join(said)


def why_rows(study: StudyLike, number: int) -> list[Row]:
    """Why a trial was chosen: the rows of `choice_rows` about it, best score first.

    Args:
        study: The study.
        number: The trial's number.

    Raises:
        ConfigurationError: There is no such trial, or models did not choose it.
    """
    record = StudyRecord.of(study)
    trials = [each for each in record.trials if each.number == number]
    rows = [row for each in trials for row in _rows_of(each)]
    if not rows:
        raise nothing_to_draw(record.name, f"not noted why trial {number} was chosen")
    return sorted(rows, key=lambda row: -float(row["score"] or 0.0))


def why_figure(study: StudyLike, number: int) -> "Figure":
    """Why a trial was chosen: the best candidates with other stages for free, beside it.

    Their bars are ratios of their scores to that of the chosen one, which is 1; the numbers beside
    them are what the score is made of.

    Args:
        study: The study.
        number: The trial's number.

    Raises:
        ConfigurationError: There is no such trial, or models did not choose it.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = list(reversed(why_rows(record, number)))
    labels = [f"reuse {', '.join(row['reuses']) or 'nothing'}" for row in rows]
    title, height = f"Why trial {number}", 110 + 76 * len(rows)
    figure = new_figure(title, "score, relative to that of the choice", "", height=height)
    figure.add_trace(
        trace(
            "Bar",
            orientation="h",
            x=[math.exp(min(0.0, row["score"] or 0.0)) for row in rows],
            y=labels,
            width=0.3,
            marker={"color": [STRONG if row["is_chosen"] else CALM for row in rows]},
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    for label, row in zip(labels, rows, strict=True):
        figure.add_annotation(
            x=0.0,
            y=label,
            text=f"<b>{label}</b><br>{_in_short(row, record.unit)}",
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            yshift=9,
            align="left",
        )
    figure.update_yaxes(showticklabels=False, range=[-0.4, len(rows) - 0.2])
    figure.update_xaxes(range=[0.0, 1.05])
    return figure


def _in_short(row: Row, unit: str) -> str:
    said = []
    if row["improvement"] is not None:
        said.append(f"EI {row['improvement']:.3g}")
    if row["cost"] is not None:
        said.append(f"cost {row['cost']:.3g}{unit}")
    if row["success"] is not None:
        said.append(f"success {row['success']:.0%}")
    return " · ".join(said)
