"""Tables on the terminal, in Markdown, or as JSON for other programs."""

import json
from collections.abc import Sequence
from typing import Literal

import typer
from rich.console import Console
from rich.table import Table

from eeipu.benchmarks.analysis.reaching import Reaching
from eeipu.benchmarks.analysis.stage_costs import StageCost
from eeipu.benchmarks.analysis.tables import Mean, Summary

__all__ = ["Style", "print_reaching", "print_stages", "print_summaries"]

Style = Literal["terminal", "markdown", "json"]

# Wide enough for all columns; a narrower terminal folds the lines.
WIDTH = 190

SUMMARY = (
    "runs",
    "candidates",
    "more",
    "improvement",
    "larger",
    "lead",
    "won",
    "share of possible",
    "1 - share, geom.",
    "suggestions",
    "each",
)
COMPARED = ("more", "larger", "lead", "won")
STAGE = ("spent", "share", "executed", "reused", "each", "begun", "paid", "gained")

REACHING = ("pairs", "reached", "budget", "larger", "at most", "of the rest")

Row = tuple[str, ...]


def print_summaries(
    rows: Sequence[Summary], style: Style, *, against: str | None, anytime: bool = False
) -> None:
    """Print a table of summaries.

    Args:
        rows: The summaries, one for each row.
        style: The format.
        against: The contender that the others are compared with; `None` omits comparisons.
        anytime: Whether the improvements are averaged over the budget; for the title only.
    """
    if style == "json":
        _print_json(rows)
        return
    headings = [h for h in SUMMARY if against is not None or h not in COMPARED]
    cells = [
        (row.setting, row.method, *(texts[heading] for heading in headings))
        for row, texts in zip(rows, map(_texts, rows), strict=True)
    ]
    title = _title(rows, against, anytime=anytime)
    _print(title, ("problem", "method"), tuple(headings), cells, style)


def _title(rows: Sequence[Summary], against: str | None, *, anytime: bool) -> str:
    title = "means over seeds with 95 % intervals"
    if anytime:
        title += ", improvements in the mean over the budget"
    if against is None:
        return title
    brackets = " (as many runs as in brackets)" if any(map(_is_part, rows)) else ""
    return f"{title}; {', '.join(COMPARED)} against {against} on the same seeds{brackets}"


def _texts(row: Summary) -> dict[str, str]:
    """Heading -> the cell below it."""
    return {
        "runs": f"{row.runs} ({row.pairs})" if _is_part(row) else str(row.runs),
        "candidates": _interval(row.candidates, ".1f"),
        "more": _percent(row.more_candidates, "+.0%"),
        "improvement": _interval(row.improvement, ".4g"),
        "larger": _percent(row.more_improvement, "+.0%"),
        "lead": _interval(row.lead, "+.3g"),
        "won": _percent(row.won, ".0%"),
        "share of possible": _interval(row.share, ".3f"),
        "1 - share, geom.": "" if row.missed is None else f"{row.missed:.3f}",
        "suggestions": f"{row.optimiser_s:.1f} s",
        "each": "" if row.suggestion_s is None else f"{row.suggestion_s:.2f} s",
    }


def _is_part(row: Summary) -> bool:
    """Whether only a part of its runs is compared with the reference."""
    return 0 < row.pairs < row.runs


def print_stages(rows: Sequence[StageCost], style: Style) -> None:
    """Print a table of the costs and gains of stages.

    Args:
        rows: The stages, one for each row.
        style: The format.
    """
    if style == "json":
        _print_json(rows)
        return
    cells = [
        (
            row.setting,
            row.method,
            row.stage,
            f"{row.spent:.4g}",
            f"{row.share:.0%}",
            f"{row.executed:.1f}",
            f"{row.reused:.1f}",
            "" if row.each is None else f"{row.each:.3g}",
            f"{row.begun:.1f}",
            _percent(row.paid, ".0%"),
            _percent(row.gained, ".0%"),
        )
        for row in rows
    ]
    title = "what each stage cost a run, and trials that began there, in means over seeds"
    _print(title, ("problem", "method", "stage"), STAGE, cells, style)


def print_reaching(rows: Sequence[Reaching], style: Style, *, against: str) -> None:
    """Print a table of what contenders need for what the reference has at its end.

    Args:
        rows: The contenders, one for each row.
        style: The format.
        against: The reference.
    """
    if style == "json":
        _print_json(rows)
        return
    cells = [
        (
            row.setting,
            row.method,
            str(row.pairs),
            _percent(row.reached, ".0%"),
            "" if row.budget is None else f"{row.budget:.2f}",
            _percent(row.larger, "+.0%"),
            _percent(row.at_most, "+.0%"),
            _percent(row.of_the_rest, ".0%"),
        )
        for row in rows
    ]
    title = f"the share of the budget, in the median, that reaches what {against} has at its end"
    _print(title, ("problem", "method"), REACHING, cells, style)


def _print_json(rows: Sequence[Summary | StageCost | Reaching]) -> None:
    for row in rows:
        typer.echo(json.dumps(_flat(row), allow_nan=False))


def _flat(row: Summary | StageCost | Reaching) -> dict[str, object]:
    """A row as a flat dict; a mean has two keys, of which the second ends in `_half_width`."""
    flat: dict[str, object] = {}
    for name, value in vars(row).items():
        if isinstance(value, Mean):
            flat |= {name: value.value, f"{name}_half_width": value.half_width}
        else:
            flat[name] = value
    return flat


def _print(title: str, names: Row, figures: Row, cells: Sequence[Row], style: Style) -> None:
    """Print a table; the first column, the problem, is filled only where it changes."""
    above = ["", *(row[0] for row in cells)]
    cells = [
        ("" if row[0] == last else row[0], *row[1:])
        for row, last in zip(cells, above, strict=False)
    ]
    if style == "markdown":
        _print_markdown(title, names, figures, cells)
        return
    shown = Table(title=title)
    for heading in names:
        shown.add_column(heading, overflow="fold")
    for heading in figures:
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in cells:
        if row[0]:
            shown.add_section()
        shown.add_row(*row)
    Console(width=WIDTH).print(shown)


def _print_markdown(title: str, names: Row, figures: Row, cells: Sequence[Row]) -> None:
    rules = ("---",) * len(names) + ("---:",) * len(figures)
    lines = ["| " + " | ".join(row) + " |" for row in ((*names, *figures), rules, *cells)]
    typer.echo(f"{title[0].upper()}{title[1:]}.\n\n" + "\n".join(lines))


def _interval(mean: Mean, spec: str) -> str:
    if mean.value is None:
        return ""
    width = "" if mean.half_width is None else f" ± {mean.half_width:{spec.removeprefix('+')}}"
    return f"{mean.value:{spec}}{width}"


def _percent(share: float | None, spec: str) -> str:
    return "" if share is None else f"{share:{spec}}"
