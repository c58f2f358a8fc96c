"""The trials of a study with several objectives, and those that no other one is better than."""

from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from eeipu.report.pictures.canvas import (
    CALM,
    STRONG,
    Row,
    new_figure,
    nothing_to_draw,
    trace,
    without_outliers,
)
from eeipu.studies.records.study_record import StudyLike, StudyRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["front_figure", "front_rows"]


def front_rows(study: StudyLike) -> list[Row]:
    """A row for each trial that has succeeded.

    Returns:
        `number`; `values`, objective -> value; `is_front`, whether no other trial is as good in all
        objectives and better in one; `chosen_by`, as in `best_rows`.
    """
    record = StudyRecord.of(study)
    names = record.objectives
    known = [each for each in record.trials if each.trial.state is TrialState.COMPLETE]
    front = {each.number for each in record.front}
    return [
        {
            "number": each.number,
            "values": dict(zip(names, each.trial.values, strict=True)),
            "is_front": each.number in front,
            "chosen_by": each.chosen_by,
        }
        for each in known
    ]


def front_figure(study: StudyLike, x: int = 0, y: int = 1) -> "Figure":
    """The trials in the plane of two objectives, with the front as a line.

    Args:
        study: The study.
        x: The objective on the horizontal axis, by its place.
        y: The objective on the vertical axis.

    Raises:
        ConfigurationError: No trial has values, or there are not so many objectives.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    names, rows = record.objectives, front_rows(record)
    if not rows or max(x, y) >= len(names):
        raise nothing_to_draw(record.name, "no trial with several objectives")
    aims = [
        f"{name} ({'less' if direction is StudyDirection.MINIMIZE else 'more'} is better)"
        for name, direction in zip(names, record.study.directions, strict=True)
    ]
    figure = new_figure("The front", aims[x], aims[y])
    for is_front, label, colour in ((False, "other trials", CALM), (True, "the front", STRONG)):
        of_kind = [row for row in rows if row["is_front"] == is_front]
        points = sorted(of_kind, key=lambda row: float(row["values"][names[x]]))
        if points:
            figure.add_trace(
                trace(
                    "Scatter",
                    x=[row["values"][names[x]] for row in points],
                    y=[row["values"][names[y]] for row in points],
                    text=[f"trial {row['number']}" for row in points],
                    # With more objectives, the front is no line in this plane.
                    mode="lines+markers" if is_front and len(names) == 2 else "markers",
                    name=label,
                    line={"width": 1, "color": colour},
                    marker={"color": colour, "size": 8 if is_front else 6},
                )
            )
    for k, update in ((x, figure.update_xaxes), (y, figure.update_yaxes)):
        front = [row["values"][names[k]] for row in rows if row["is_front"]]
        bounds = without_outliers([*(row["values"][names[k]] for row in rows), *front * len(rows)])
        if bounds is not None:
            update(range=bounds)
    return figure
