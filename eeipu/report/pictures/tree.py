"""The picture of a stage tree: bars from left to right, as long as what the calls cost."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from eeipu.counts import counted
from eeipu.errors import ConfigurationError
from eeipu.html_tables import shown
from eeipu.report.pictures.call_tree import CacheLike, tree_rows
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

    from eeipu.stage_tree.search_plan import SearchPlan

__all__ = ["tree_figure"]

# More bars cannot be told apart, and make the page slow; those of the best trials are drawn.
MOST_BARS = 2000

# A bar whose cost is nothing, or unknown, is this share of the longest path.
SLIVER = 0.004

# Pixels of a path, and the least and most of all of them together.
ROW, LEAST, MOST = 16, 120, 900

# How a bar looks by its state: a pattern, and what the legend says.
_PATTERNS = {
    "kept": ("", "output kept"),
    "done": ("", "done"),
    "dropped": ("/", "output not in the cache"),
    "running": (".", "running"),
    "waiting": ("-", "waiting"),
    "failed": ("x", "failed"),
    "not needed": ("|", "not needed"),
}


def tree_figure(study: "StudyLike | SearchPlan", cache: CacheLike = None) -> "Figure":
    """The stage tree: a row for each path, a bar for each call, as wide as its cost.

    A bar spans the rows of all paths that share it. Its colour is the best value of the trials
    through it; the best ones are on top. See `tree_rows` for the arguments.

    Raises:
        ConfigurationError: No trial has run a stage.
        MissingExtraError: Plotly is not installed.
    """
    from eeipu.stage_tree.search_plan import SearchPlan

    rows = tree_rows(study, cache)
    if isinstance(study, SearchPlan):
        unit, objective, is_minimized = " (s)", "value", False
        if not rows:
            raise ConfigurationError("the plan has no requests, so there is nothing to draw.")
    else:
        record = StudyRecord.of(study)
        unit = " (s)" if record.is_measured else ""
        objective, is_minimized = record.objective, record.is_minimized
        if not rows:
            raise nothing_to_draw(record.name, "no trial that has run a stage")
    return _drawn(rows, unit, objective, is_minimized=is_minimized)


def _drawn(rows: list[Row], unit: str, objective: str, *, is_minimized: bool) -> "Figure":
    below = _below(rows, is_minimized=is_minimized)
    places, count = _places(rows, below)
    starts, widths = _extents(rows)
    drawn = sorted(places, key=lambda k: places[k][0])[:MOST_BARS]
    shared = sum(len(row["trials"]) > 1 for row in rows)
    serve = counted(shared, "call serves", "calls serve")
    note = f"{counted(len(rows), 'call')} on {counted(count, 'path')}; {serve} several trials"
    if len(drawn) < len(rows):
        note += f"; the {MOST_BARS} of the best trials are drawn"
    height = 150 + min(MOST, max(LEAST, ROW * (1 + round(max(sum(places[k]) for k in drawn)))))
    title = "Stage tree"
    figure = new_figure(title, f"cost on the way to a value{unit}", "", note=note, height=height)
    scale = _Scale(rows, is_reversed=is_minimized)
    for state, (pattern, label) in _PATTERNS.items():
        for has_value in (True, False):
            bars = [
                k
                for k in drawn
                if rows[k]["state"] == state and (rows[k]["best"] is not None) == has_value
            ]
            if bars:
                colour = scale.colours([rows[k]["best"] for k in bars]) if has_value else CALM
                if state == "failed":
                    colour = STRONG
                figure.add_trace(
                    trace(
                        "Bar",
                        orientation="h",
                        base=[starts[k] for k in bars],
                        x=[widths[k] for k in bars],
                        y=[places[k][0] + 0.5 * places[k][1] for k in bars],
                        width=[places[k][1] * 0.999 - 0.1 for k in bars],
                        text=[_label(rows[k]) for k in bars],
                        textposition="inside",
                        insidetextanchor="start",
                        customdata=[_told(rows[k], unit) for k in bars],
                        hovertemplate="%{customdata}<extra></extra>",
                        name=label if has_value or state == "failed" else f"{label}, no value",
                        marker={
                            "color": colour,
                            "line": {"width": 0.5, "color": "rgba(128,128,128,0.8)"},
                            "pattern": {
                                "shape": pattern,
                                "fillmode": "overlay",
                                "fgcolor": "rgba(255,255,255,0.75)",
                                "size": 6,
                                "solidity": 0.25,
                            },
                        },
                    )
                )
    scale.add_bar(figure, objective)
    figure.update_layout(
        barmode="overlay",
        bargap=0,
        showlegend=True,
        uniformtext={"mode": "hide", "minsize": 9},
    )
    figure.update_yaxes(visible=False, autorange="reversed")
    return figure


class _Scale:
    """The colours of values.

    Plotly's own scale is used for its legend alone: it cannot write on bars that it colours.

    Args:
        rows: The calls.
        is_reversed: Whether small values are the good ones, which are bright.
    """

    def __init__(self, rows: Sequence[Row], *, is_reversed: bool) -> None:
        self._values = [float(row["best"]) for row in rows if row["best"] is not None]
        least, most = min(self._values, default=0.0), max(self._values, default=1.0)
        self._low, self._high = without_outliers(self._values) or (least, most)
        self._name = "Viridis_r" if is_reversed else "Viridis"

    def colours(self, values: Sequence[float]) -> list[str]:
        """The colour of each value, as text."""
        from plotly.colors import sample_colorscale

        width = (self._high - self._low) or 1.0
        shares = [min(1.0, max(0.0, (value - self._low) / width)) for value in values]
        return [str(colour) for colour in sample_colorscale(self._name, shares)]

    def add_bar(self, figure: "Figure", objective: str) -> None:
        """Add the legend of the colours, if there are any."""
        if not self._values:
            return
        marker = {
            "color": [self._low],
            "cmin": self._low,
            "cmax": self._high,
            "colorscale": self._name,
            "showscale": True,
            "colorbar": {"title": {"text": escape(objective)}, "thickness": 12, "len": 0.9},
        }
        hidden = {"x": [0.0], "y": [0.0], "opacity": 0.0, "hoverinfo": "skip", "showlegend": False}
        figure.add_trace(trace("Scatter", mode="markers", marker=marker, **hidden))


def _below(rows: list[Row], *, is_minimized: bool) -> dict[int | None, list[int]]:
    """The calls below each call, the best ones first; under `None` those that begin a path."""
    found: dict[int | None, list[int]] = {None: []}
    for row in rows:
        found.setdefault(row["above"], []).append(row["id"])
        found.setdefault(row["id"], [])
    sign = 1.0 if is_minimized else -1.0

    def rank(k: int) -> tuple[bool, float]:
        best = rows[k]["best"]
        return best is None, 0.0 if best is None else sign * best

    return {above: sorted(each, key=rank) for above, each in found.items()}


def _places(
    rows: Sequence[Row], below: dict[int | None, list[int]]
) -> tuple[dict[int, tuple[float, float]], int]:
    """The first row of each call and how many rows it takes; and how many there are."""
    sizes: dict[int, int] = {}
    for row in reversed(rows):
        sizes[row["id"]] = sum(sizes[k] for k in below[row["id"]]) or 1
    places: dict[int, tuple[float, float]] = {}
    stack: list[tuple[int | None, int]] = [(None, 0)]
    while stack:
        above, first = stack.pop()
        for k in below[above]:
            places[k] = float(first), float(sizes[k])
            stack.append((k, first))
            first += sizes[k]
    return places, sum(sizes[k] for k in below[None])


def _extents(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    """Where each bar begins, and how long it is."""
    known: dict[str, list[float]] = {}
    for row in rows:
        if row["cost"] is not None:
            known.setdefault(row["stage"], []).append(row["cost"])
    means = {stage: sum(costs) / len(costs) for stage, costs in known.items()}
    costs = [
        means.get(row["stage"], 0.0) if row["cost"] is None else float(row["cost"]) for row in rows
    ]
    ends: list[float] = []
    for row, cost in zip(rows, costs, strict=True):
        ends.append(cost + (0.0 if row["above"] is None else ends[row["above"]]))
    sliver = SLIVER * max(ends, default=0.0) or 1.0
    starts: list[float] = []
    widths: list[float] = []
    for row, cost in zip(rows, costs, strict=True):
        above = row["above"]
        start = 0.0 if above is None else starts[above] + widths[above]
        starts.append(start)
        widths.append(max(cost, sliver))
    return starts, widths


def _label(row: Row) -> str:
    until = "" if row["step"] is None else f" to {row['step']}"
    return f"{escape(row['stage'])}{until}"


def _told(row: Row, unit: str) -> str:
    params = escape(", ".join(f"{name}={shown(value)}" for name, value in row["params"].items()))
    cost = "unknown" if row["cost"] is None else f"{row['cost']:.4g}{unit.strip(' ()')}"
    trials = [escape(str(each)) for each in row["trials"]]
    listed = ", ".join(trials[:12]) + (f" and {len(trials) - 12} more" if trials[12:] else "")
    said = [f"<b>{_label(row)}</b> ({_PATTERNS[row['state']][1]})", params, f"cost {cost}"]
    said += [] if row["best"] is None else [f"best value {row['best']:.6g}"]
    said += [f"{'trials' if trials[1:] else 'trial'} {listed}"]
    return "<br>".join(each for each in said if each)
