"""The graph of a pipeline, with what each stage cost and how often its output was reused."""

from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from eeipu.errors import ConfigurationError
from eeipu.html_drawings import Layout, layout
from eeipu.report.pictures.canvas import CALM, Row, colours_of, new_figure, nothing_to_draw, trace
from eeipu.studies.records.amounts import amount
from eeipu.studies.records.study_record import StudyLike, StudyRecord
from eeipu.studies.records.tables import stage_facts

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["graph_figure", "graph_rows"]

# Pixels of a layer, the part of a layer that a box takes, and the width of a box among few.
LAYER, BOX, WIDEST = 84, 0.6, 0.42

# Where more stages than this are side by side, a box has room for two short lines.
FEW = 2


def graph_rows(study: StudyLike) -> list[Row]:
    """A row for each stage.

    Returns:
        `stage`; `gets`, the names of the stages whose output it gets, and `"inputs"` for the run's
        inputs (of alternatives all are there); `is_optional`, whether a configuration may leave it
        out; `executed`, `reused`, `failed` and `left_out`, in how many trials; `reuse`, the share
        of those trials that needed it in which it was reused, `None` where none did; `mean_cost`,
        `None` where it was never executed; `total_cost`.

    Raises:
        ConfigurationError: The study does not tell its stages.
    """
    record = StudyRecord.of(study)
    names, gets, optional = _joined(record)
    rows: list[Row] = []
    for k, name in enumerate(names):
        facts = stage_facts(record, name)
        left_out = sum(
            name in each.keys and each.keys[name] is None and any(each.keys.values())
            for each in record.trials
        )
        needed = facts["executed"] + facts["reused"]
        rows.append(
            {
                **facts,
                "gets": gets[k],
                "is_optional": name in optional,
                "left_out": left_out,
                "reuse": facts["reused"] / needed if needed else None,
            }
        )
    return rows


def _joined(record: StudyRecord) -> tuple[list[str], list[list[str]], set[str]]:
    """The stages, what each gets, and which may be left out."""
    try:
        pipeline = record.pipeline
    except ConfigurationError:  # a study of plain Optuna, or with choices of own types
        names = list(record.stage_names)
        if not names:
            raise nothing_to_draw(record.name, "no stages") from None
        return names, [[before] for before in ["inputs", *names[:-1]]], set()
    names = list(pipeline.stage_names)
    gets = [
        list(dict.fromkeys("inputs" if j is None else names[j] for j in given))
        for given in pipeline.graph.sources
    ]
    chosen = zip(names, pipeline.layout.chosen_by, strict=True)
    return names, gets, {name for name, by in chosen if by}


def graph_figure(study: StudyLike) -> "Figure":
    """The stages from top to bottom: a box is filled as far as the stage's output was reused.

    Raises:
        ConfigurationError: The study does not tell its stages.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = graph_rows(record)
    place = {row["stage"]: k for k, row in enumerate(rows)}
    upstream = [[place[name] for name in row["gets"] if name in place] for row in rows]
    placed = layout(upstream)
    found = placed.layers
    figure = new_figure(
        "Stages",
        "",
        "",
        note="Filled: the share of trials in which the output was reused.",
        height=110 + LAYER * len(found),
    )
    at: dict[int, tuple[float, float, float]] = {}  # middle, top, width
    for depth, layer in enumerate(found):
        for k, node in enumerate(layer):
            width = min(WIDEST, 0.9 / len(layer))
            at[node] = (k + 0.5) / len(layer), -float(depth), width
    _add_links(figure, placed, at)
    _add_boxes(figure, rows, at, record)
    _add_texts(figure, rows, at, found, record)
    figure.update_xaxes(visible=False, range=[0, 1], fixedrange=True)
    figure.update_yaxes(
        visible=False, range=[0.9 - len(found) - BOX / 2, BOX / 2 + 0.1], fixedrange=True
    )
    figure.update_layout(showlegend=False)
    return figure


def _add_links(figure: "Figure", placed: Layout, at: dict[int, tuple[float, float, float]]) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    steps = [k / 12 for k in range(13)]
    for edge in placed.edges:
        for before, node in pairwise(edge):
            # An S from the bottom of one box to the top of the other; a waypoint is as high.
            (x0, y0, _), (x1, y1, _) = at[before], at[node]
            top, bottom = y0 - BOX / 2, y1 + BOX / 2
            x += [x0 + (x1 - x0) * t * t * (3 - 2 * t) for t in steps]
            y += [top + (bottom - top) * t for t in steps]
        x.append(None)
        y.append(None)
    if x:
        line = {"color": CALM, "width": 1.5}
        figure.add_trace(trace("Scatter", x=x, y=y, mode="lines", line=line, hoverinfo="skip"))


def _add_boxes(
    figure: "Figure",
    rows: list[Row],
    at: dict[int, tuple[float, float, float]],
    record: StudyRecord,
) -> None:
    colours = colours_of(record.stage_names)
    for node, row in enumerate(rows):
        x, y, width = at[node]
        colour = colours.get(row["stage"], CALM)
        edge = {"x0": x - width / 2, "y0": y - BOX / 2, "y1": y + BOX / 2, "type": "rect"}
        reuse = row["reuse"] or 0.0
        figure.add_shape(
            **edge,
            x1=x - width / 2 + width * reuse,
            fillcolor=colour,
            opacity=0.3,
            line_width=0,
            layer="below",
        )
        dash = "dot" if row["is_optional"] else "solid"
        figure.add_shape(**edge, x1=x + width / 2, line={"color": colour, "dash": dash, "width": 2})


def _add_texts(
    figure: "Figure",
    rows: list[Row],
    at: dict[int, tuple[float, float, float]],
    found: list[list[int]],
    record: StudyRecord,
) -> None:
    crowded = {node for layer in found if len(layer) > FEW for node in layer}
    texts = []
    for node, row in enumerate(rows):
        mean = "" if row["mean_cost"] is None else amount(row["mean_cost"], record.unit)
        short = "" if row["reuse"] is None else f"{row['reuse']:.0%}"
        whole = " · ".join(filter(None, (mean, f"{short} reused" if short else "")))
        second = " ".join(filter(None, (mean, short))) if node in crowded else whole
        texts.append(f"<b>{escape(row['stage'])}</b><br>{second}")
    figure.add_trace(
        trace(
            "Scatter",
            x=[at[node][0] for node in range(len(rows))],
            y=[at[node][1] for node in range(len(rows))],
            mode="text",
            text=texts,
            textfont={"size": 12},
            customdata=[_told(row, record) for row in rows],
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
        )
    )


def _told(row: Row, record: StudyRecord) -> str:
    gets = ", ".join(row["gets"]) or "nothing"
    said = [f"<b>{escape(row['stage'])}</b>", escape(f"gets {gets}")]
    counts = [f"{name} {row[name]}" for name in ("executed", "reused", "failed") if row[name]]
    counts += [f"left out in {row['left_out']}"] if row["left_out"] else []
    said += [", ".join(counts)] if counts else []
    if row["mean_cost"] is not None:
        said.append(f"mean cost {amount(row['mean_cost'], record.unit)}")
        said.append(f"in all {amount(row['total_cost'], record.unit)}")
    return "<br>".join(said)
