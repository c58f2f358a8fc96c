"""Tables and facts as HTML. All text is escaped, so that names and values may be anything.

Everything that shows itself in a notebook uses it, and the report.
"""

from collections.abc import Collection, Iterable, Mapping
from html import escape
from typing import Any

__all__ = ["box", "facts", "shown", "table"]

# A longer value is cut.
MAX_SHOWN = 200

PADDING = "padding: 0.1em 1.2em 0.1em 0"


def table(
    heads: Iterable[str],
    rows: Iterable[Iterable[Any]],
    *,
    right: Collection[int] = (),
) -> str:
    """A table.

    Args:
        heads: The columns' titles.
        rows: The cells of each row; see `shown`.
        right: The columns that are aligned to the right, from 0.
    """
    head = _cells("th", heads, right)
    body = "".join(f"<tr>{_cells('td', row, right)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(tag: str, cells: Iterable[Any], right: Collection[int]) -> str:
    sides = {True: "right", False: "left"}
    return "".join(
        f'<{tag} style="text-align: {sides[k in right]}; {PADDING}">{escape(shown(cell))}</{tag}>'
        for k, cell in enumerate(cells)
    )


def facts(known: Mapping[str, Any]) -> str:
    """A line of facts, such as "trials 12 · best 0.93"."""
    return " · ".join(
        f"{escape(name)} <b>{escape(shown(value))}</b>" for name, value in known.items()
    )


def box(title: str, *parts: str) -> str:
    """What an object shows of itself in a notebook: a title, and parts that are HTML already."""
    inner = "".join(f"<div>{part}</div>" for part in parts if part)
    return f"<div><b>{escape(title)}</b>{inner}</div>"


def shown(value: Any) -> str:
    """A value as text, in a table: numbers with six digits, yes or no, nothing for `None`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
