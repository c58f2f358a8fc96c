"""When the workers ran which stage of which trial, and when configurations were being chosen."""

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from eeipu.report.pictures.canvas import CALM, Row, colours_of, new_figure, nothing_to_draw, trace
from eeipu.report.pictures.running_time import RunningTime
from eeipu.studies.records.study_record import StudyLike, StudyRecord, TrialRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["timeline_figure", "timeline_rows"]

# More bars cannot be told apart, and make the page slow; the last ones are drawn.
MOST_BARS = 3000

SEARCH = "search"

# So many lanes are of a comfortable height; the others are narrower.
FEW = 10


def timeline_rows(study: StudyLike) -> list[Row]:
    """A row for each call that a worker ran, and for each choice of a configuration.

    Returns:
        `number`, the trial's; `stage`, `None` for a choice, and for the whole of a trial that has
        not recorded when its calls ran; `lane`: `"search"`, or the number of a worker, from 1
        (which worker it was is not recorded: calls take the first lane that is free); `began_s` and
        `ended_s`, in seconds during which trials had been running.
    """
    record = StudyRecord.of(study)
    time = RunningTime.of(record)
    calls, choices = [], []
    for each in record.trials:
        for stage, began, ended in _ran(each):
            calls.append((time.at(began), time.at(ended), each.number, stage))
        asked_s, choosing_s = each.asked_s, each.attr("suggest_s")
        if asked_s is not None and choosing_s is not None:
            span = time.at(asked_s), time.at(asked_s + choosing_s)
            choices.append(_row(each.number, None, SEARCH, *span))
    lanes: list[float] = []  # when each is free again
    rows = []
    for began_s, ended_s, number, stage in sorted(calls, key=lambda call: call[:3]):
        lane = next((k for k, free_s in enumerate(lanes) if free_s <= began_s + 1e-3), len(lanes))
        lanes[lane : lane + 1] = [ended_s]
        rows.append(_row(number, stage, lane + 1, began_s, ended_s))
    return rows + choices


def _ran(each: TrialRecord) -> Iterable[tuple[str | None, float, float]]:
    """The calls of a trial; the trial itself if it has not recorded any and was no choice alone."""
    ran = each.attr("ran")
    if ran is not None:
        return [(str(stage), float(began), float(ended)) for stage, began, ended in ran]
    began, ended = each.trial.datetime_start, each.trial.datetime_complete
    if began is None or ended is None:
        return []
    return [(None, began.timestamp(), ended.timestamp())]


def _row(number: int, stage: str | None, lane: int | str, began_s: float, ended_s: float) -> Row:
    return {"number": number, "stage": stage, "lane": lane, "began_s": began_s, "ended_s": ended_s}


def timeline_figure(study: StudyLike) -> "Figure":
    """A bar for each call, one lane for each worker and one for the search.

    Raises:
        ConfigurationError: No trial has ended.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = sorted(timeline_rows(record), key=lambda row: float(row["began_s"]))[-MOST_BARS:]
    if not rows:
        raise nothing_to_draw(record.name, "no trial that has ended")
    lanes = sorted({row["lane"] for row in rows} - {SEARCH})
    names = {lane: f"worker {lane}" for lane in lanes} | {SEARCH: SEARCH}
    height = 150 + 34 * min(len(names), FEW) + 12 * max(0, len(names) - FEW)
    figure = new_figure("Timeline", "wall-clock time while trials ran (s)", "", height=height)
    colours = colours_of(record.stage_names)
    order_of = {name: k for k, name in enumerate(record.stage_names)}
    for name in sorted(dict.fromkeys(map(_name, rows)), key=lambda n: order_of.get(n, -1)):
        bars = [row for row in rows if _name(row) == name]
        figure.add_trace(
            trace(
                "Bar",
                orientation="h",
                y=[names[row["lane"]] for row in bars],
                base=[row["began_s"] for row in bars],
                x=[max(row["ended_s"] - row["began_s"], 0.0) for row in bars],
                text=[_said(row) for row in bars],
                textposition="none",
                hovertemplate="%{text}<br>%{base:.2f} s, for %{x:.3g} s",
                name=name,
                marker={"color": colours.get(name, CALM), "line": {"width": 0}},
            )
        )
    order = [names[lane] for lane in (SEARCH, *reversed(lanes))]
    figure.update_layout(barmode="overlay", bargap=0.25)
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    return figure


def _name(row: Row) -> str:
    """What a bar shows: the name of a stage, whose training has one for each stretch of it."""
    if row["lane"] == SEARCH:
        return "choosing"
    return "whole trial" if row["stage"] is None else str(row["stage"]).partition("@")[0]


def _said(row: Row) -> str:
    stage, _, step = str(row["stage"] or "").partition("@")
    return f"trial {row['number']}{f', {escape(stage)} to {escape(step)}' if step else ''}"
