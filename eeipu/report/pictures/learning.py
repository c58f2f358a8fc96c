"""Learning curves: what trials reported at the steps of their training."""

from typing import TYPE_CHECKING

from eeipu.report.pictures.canvas import CALM, STRONG, Row, new_figure, nothing_to_draw, trace
from eeipu.studies.records.study_record import StudyLike, StudyRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["learning_figure", "learning_rows"]


def learning_rows(study: StudyLike) -> list[Row]:
    """A row for each report of each trial.

    Returns:
        `number`, the trial's; `state`, what became of it; `step`; `value`.
    """
    return [
        {"number": each.number, "state": each.state, "step": step, "value": value}
        for each in StudyRecord.of(study).trials
        for step, value in sorted(each.trial.intermediate_values.items())
    ]


def learning_figure(study: StudyLike) -> "Figure":
    """A line for each trial; the best one is emphasised, and those that were stopped are dotted.

    Raises:
        ConfigurationError: No trial has reported at two steps.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = learning_rows(record)
    curves: dict[int, list[Row]] = {}
    for row in rows:
        curves.setdefault(row["number"], []).append(row)
    if all(len(curve) < 2 for curve in curves.values()):
        raise nothing_to_draw(record.name, "no trial that reported at two steps")
    best = record.best
    figure = new_figure("Learning curves", "step", record.objective)
    number = None if best is None else best.number
    for each in sorted(curves, key=lambda n: n == number):  # the best one is drawn last
        curve, is_best = curves[each], each == number
        line = {
            "color": STRONG if is_best else CALM,
            "width": 3 if is_best else 1,
            "dash": "dot" if curve[0]["state"] == "pruned" else "solid",
        }
        figure.add_trace(
            trace(
                "Scatter",
                x=[row["step"] for row in curve],
                y=[row["value"] for row in curve],
                mode="lines+markers" if len(curve) < 30 else "lines",
                marker={"size": 4},
                opacity=1.0 if is_best else 0.6,
                line=line,
                name=f"trial {each}, the best" if is_best else f"trial {each}",
                showlegend=is_best,
            )
        )
    return figure
