"""The best value over the budget that was spent, and over wall-clock time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

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
from eeipu.report.pictures.running_time import RunningTime
from eeipu.studies.records.study_record import StudyLike, StudyRecord
from eeipu.studies.records.tables import is_paid_here

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["best_figure", "best_rows"]

# The share of the height that values near the best have, however far others reach.
ROOM = 0.1


def best_rows(study: StudyLike) -> list[Row]:
    """A row for each trial that has ended, in the order in which they did.

    Returns:
        `number`; `value`, `None` where it has none; `best`, the best value up to then; `spent`,
        what the trials had cost up to then; `elapsed_s`, the seconds during which trials had been
        running; `chosen_by`: `"models"`, `"warm-up"`, `"random"`, `"enqueued"` or `None`.
    """
    record = StudyRecord.of(study)
    time, spent, best, rows = RunningTime.of(record), 0.0, None, []
    better = min if record.is_minimized else max
    for each in record.ended:
        spent += each.charged if is_paid_here(each, record) else 0.0
        if each.value is not None:
            best = each.value if best is None else better(best, each.value)
        rows.append(
            {
                "number": each.number,
                "value": each.value,
                "best": best,
                "spent": spent,
                "elapsed_s": time.of_end(each),
                "chosen_by": each.chosen_by,
            }
        )
    return rows


def best_figure(study: StudyLike, over: Literal["budget", "time"] = "budget") -> "Figure":
    """The best value so far as a line, and the value of each trial as a point.

    Args:
        study: The study.
        over: What is on the horizontal axis: the `"budget"` that was spent, or the wall-clock
            `"time"`, without the pauses in which no trial ran.

    Raises:
        ConfigurationError: No trial has a value.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = best_rows(record)
    if all(row["best"] is None for row in rows):
        raise nothing_to_draw(record.name, "no trial with a value")
    axis = "spent" if over == "budget" else "elapsed_s"
    unit = " (s)" if over == "time" or record.is_measured else ""
    name = "budget spent" if over == "budget" else "wall-clock time while trials ran"
    known = [row for row in rows if row["value"] is not None]
    best = next(row["best"] for row in reversed(rows))
    bounds = _bounds([row["value"] for row in known], best)
    outside = [row for row in known if bounds and not bounds[0] <= row["value"] <= bounds[1]]
    note = left_out_note(len(outside))
    title = f"Best value over {over}"
    figure = new_figure(title, f"{name}{unit}", record.objective, note=note)
    if bounds is not None:
        figure.update_yaxes(range=bounds)
    for is_model, label, colour in (
        (False, "warm-up and others", CALM),
        (True, "chosen by models", STRONG),
    ):
        points = [row for row in known if (row["chosen_by"] == "models") == is_model]
        if points:
            figure.add_trace(
                trace(
                    "Scatter",
                    x=[row[axis] for row in points],
                    y=[row["value"] for row in points],
                    text=[f"trial {row['number']}" for row in points],
                    mode="markers",
                    name=label,
                    marker={"color": colour, "size": 6, "opacity": 0.7},
                )
            )
    curve = [row for row in rows if row["best"] is not None]
    line = {"shape": "hv", "width": 2.5, "color": "#0072B2"}
    x, y = [row[axis] for row in curve], [row["best"] for row in curve]
    figure.add_trace(trace("Scatter", x=x, y=y, mode="lines", name="best so far", line=line))
    if over == "budget" and record.budget is not None and record.spent > 0.5 * record.budget:
        figure.add_vline(
            record.budget, line={"dash": "dot", "color": CALM}, annotation_text="budget"
        )
    return figure


def _bounds(values: Sequence[float], best: float) -> tuple[float, float] | None:
    """The range of the vertical axis; `None` if everything is to be seen.

    Args:
        values: All values.
        best: The best of them, which stays inside, however bad the others are.
    """
    near = without_outliers([*values, *([best] * len(values))])
    if near is None:
        return None
    wide = without_outliers(values)
    low, high = wide or (min(values), max(values))
    low, high = min(low, near[0]), max(high, near[1])
    if near[1] - near[0] < ROOM * (high - low):
        return near
    return None if wide is None else (low, high)
