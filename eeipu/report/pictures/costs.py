"""What the stages of each trial cost, what was free, and what the cache has saved."""

from typing import TYPE_CHECKING

from eeipu.report.pictures.canvas import CALM, Row, colours_of, new_figure, nothing_to_draw, trace
from eeipu.report.pictures.running_time import RunningTime
from eeipu.studies.records.study_record import StudyLike, StudyRecord
from eeipu.studies.records.tables import is_paid_here

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["cost_figure", "cost_rows", "savings_figure", "savings_rows"]

# What a trial is charged beside its stages, by the user attribute that has it.
_OTHERS = {"choosing": "overhead", "loading": "load_s", "keeping": "keep_s"}
_GREYS = {"choosing": CALM, "loading": "#B4BAC3", "keeping": "#62676F"}


def cost_rows(study: StudyLike) -> list[Row]:
    """A row for each trial and stage, and for what else a trial was charged.

    Returns:
        `number`; `stage`, the stage's name, or `None`; `part`: `"stage"`, `"choosing"`,
        `"loading"` or `"keeping"`; `cost`, what it cost, `None` where it was not executed;
        `reused`; `saved`, what the reused output had cost when this study made it, `None` if some
        other study did.
    """
    record = StudyRecord.of(study)
    made: dict[str | None, float] = {}  # what the output under a key has cost
    rows: list[Row] = []
    for each in record.trials:
        keys, costs = each.keys, each.costs
        made.update({keys[name]: cost for name, cost in costs.items() if name in keys})
        for name in each.stage_names:
            is_reused = name in each.reused
            rows.append(
                {
                    "number": each.number,
                    "stage": name,
                    "part": "stage",
                    "cost": costs.get(name),
                    "reused": is_reused,
                    "saved": made.get(keys.get(name, "")) if is_reused else None,
                }
            )
        for part, attr in _OTHERS.items():
            cost = each.attr(attr)
            if cost:
                rows.append(
                    {
                        "number": each.number,
                        "stage": None,
                        "part": part,
                        "cost": float(cost),
                        "reused": False,
                        "saved": None,
                    }
                )
    return rows


def cost_figure(study: StudyLike) -> "Figure":
    """A stacked bar for each trial: what each stage cost, and, hatched, what was free.

    Raises:
        ConfigurationError: No trial has recorded a cost.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = cost_rows(record)
    if all(row["cost"] is None for row in rows):
        raise nothing_to_draw(record.name, "no trial with costs")
    unit = " (s)" if record.is_measured else ""
    figure = new_figure("Cost of each trial", "trial", f"cost{unit}", height=400)
    for name, colour in colours_of(record.stage_names).items():
        of_stage = [row for row in rows if row["stage"] == name]
        _add_bars(figure, of_stage, "cost", name, colour)
        _add_bars(figure, of_stage, "saved", f"{name}, reused", colour)
    for part in _OTHERS:
        others = [row for row in rows if row["part"] == part]
        _add_bars(figure, others, "cost", part, _GREYS[part])
    figure.update_layout(barmode="stack", bargap=0.15, legend_traceorder="normal")
    return figure


def _add_bars(figure: "Figure", rows: list[Row], column: str, name: str, colour: str) -> None:
    known = [row for row in rows if row[column] is not None]
    if not known:
        return
    is_free = column == "saved"
    pattern = {"shape": "/", "fillmode": "replace", "solidity": 0.35, "size": 6}
    marker = {"color": colour, "line": {"width": 0}, **({"pattern": pattern} if is_free else {})}
    figure.add_trace(
        trace(
            "Bar",
            x=[row["number"] for row in known],
            y=[row[column] for row in known],
            name=name,
            marker=marker,
            hovertemplate=f"trial %{{x}}<br>%{{y:.4g}}{' not paid' if is_free else ''}",
        )
    )


def savings_rows(study: StudyLike) -> list[Row]:
    """A row for each trial that has ended, in the order in which they did.

    Returns:
        `number`; `elapsed_s`, the seconds during which trials had been running; `saved`, what its
        reused stages would have cost; `total_saved` and `total_spent` up to then.
    """
    record = StudyRecord.of(study)
    time, saved, spent, rows = RunningTime.of(record), 0.0, 0.0, []
    for each in record.ended:
        own = float(each.attr("saved") or 0.0)
        saved += own
        spent += each.charged if is_paid_here(each, record) else 0.0
        rows.append(
            {
                "number": each.number,
                "elapsed_s": time.of_end(each),
                "saved": own,
                "total_saved": saved,
                "total_spent": spent,
            }
        )
    return rows


def savings_figure(study: StudyLike) -> "Figure":
    """What was paid over time, and what the same trials would have cost without the cache.

    Raises:
        ConfigurationError: No trial has ended.
        MissingExtraError: Plotly is not installed.
    """
    record = StudyRecord.of(study)
    rows = savings_rows(record)
    if not rows:
        raise nothing_to_draw(record.name, "no trial that has ended")
    unit = " (s)" if record.is_measured else ""
    title = "What the cache saved"
    figure = new_figure(title, "wall-clock time while trials ran (s)", f"cost{unit}")
    x = [row["elapsed_s"] for row in rows]
    paid = [row["total_spent"] for row in rows]
    whole = [row["total_spent"] + row["total_saved"] for row in rows]
    text = [f"trial {row['number']}" for row in rows]
    line = {"shape": "hv", "width": 2}
    figure.add_trace(
        trace(
            "Scatter",
            x=x,
            y=paid,
            text=text,
            mode="lines",
            name="paid",
            line={**line, "color": "#0072B2"},
        )
    )
    figure.add_trace(
        trace(
            "Scatter",
            x=x,
            y=whole,
            text=text,
            mode="lines",
            name="without the cache",
            line={**line, "color": "#009E73", "dash": "dash"},
            fill="tonexty",
            fillcolor="rgba(0,158,115,0.18)",
        )
    )
    return figure
