"""Graphs and trees as small drawings in HTML (SVG), which take their colours from the page.

Notebooks show pipelines and stage trees with them; the report places the stages of a graph in the
same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "bars_svg", "graph_svg", "layers"]

# Pixels: of a character, about, of a box and of the room between two boxes.
CHARACTER, HEIGHT, GAP, STEP = 7.4, 28, 14, 42

# More bars of a tree cannot be told apart.
MOST_BARS = 400

WIDTH, ROW = 720, 18

_STYLE = "font: 12px system-ui, sans-serif; max-width: 100%; height: auto"


def layers(upstream: Sequence[Sequence[int]]) -> list[list[int]]:
    """The nodes of a graph in layers, each behind all nodes that lead to it.

    In a layer, a node stands near those that lead to it.

    Args:
        upstream: For each node, the nodes that lead to it, all of which come before it.

    >>> layers([(), (0,), (0,), (1, 2)])
    [[0], [1, 2], [3]]
    """
    depth: list[int] = []
    for given in upstream:
        depth.append(1 + max((depth[j] for j in given), default=-1))
    found: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for node, at in enumerate(depth):
        found[at].append(node)
    place = [0.0] * len(depth)
    for layer in found:
        means = {
            node: sum(place[j] for j in upstream[node]) / len(upstream[node])
            if upstream[node]
            else 0.5
            for node in layer
        }
        layer.sort(key=lambda node: (means[node], node))
        for k, node in enumerate(layer):
            place[node] = (k + 0.5) / len(layer)
    return found


def graph_svg(
    names: Sequence[str],
    upstream: Sequence[Sequence[int]],
    *,
    dashed: frozenset[int] = frozenset(),
) -> str:
    """A graph from left to right, as SVG.

    Args:
        names: The names of the nodes, which are escaped here.
        upstream: For each node, the nodes that lead to it, all of which come before it.
        dashed: The nodes that are not always there.
    """
    columns = layers(upstream)
    tallest = max(map(len, columns), default=0)
    height = tallest * (HEIGHT + GAP)
    boxes: dict[int, tuple[float, float, float]] = {}  # left, middle, width
    left = 1.0
    for column in columns:
        width = max(len(names[node]) for node in column) * CHARACTER + 20
        for k, node in enumerate(column):
            boxes[node] = left, height * (k + 0.5) / len(column), width
        left += width + STEP
    parts = []
    for node, given in enumerate(upstream):
        x, y, _ = boxes[node]
        for j in given:
            from_x, from_y = boxes[j][0] + boxes[j][2], boxes[j][1]
            middle = (from_x + x) / 2
            parts.append(
                f'<path d="M{from_x:.1f} {from_y:.1f} C{middle:.1f} {from_y:.1f} {middle:.1f} '
                f'{y:.1f} {x:.1f} {y:.1f}" fill="none" stroke="currentColor" opacity="0.5"/>'
            )
    for node, (x, y, width) in boxes.items():
        dash = ' stroke-dasharray="5 3"' if node in dashed else ""
        parts.append(
            f'<rect x="{x:.1f}" y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" height="{HEIGHT}" '
            f'rx="6" fill="none" stroke="currentColor"{dash}/>'
            f'<text x="{x + width / 2:.1f}" y="{y + 4:.1f}" text-anchor="middle" '
            f'fill="currentColor">{escape(names[node])}</text>'
        )
    return _svg(left - STEP + 1.0, height, parts)


@dataclass(frozen=True)
class Bar:
    """A node of a tree as a bar, which begins where the one above it ends.

    Attributes:
        label: What it says.
        parent: The index of the node above it, which comes before it; `None` at the root.
        size: Its length.
        is_marked: Whether several share it, so that it is emphasised.
    """

    label: str
    parent: int | None
    size: float
    is_marked: bool = False


def bars_svg(bars: Sequence[Bar]) -> str:
    """A tree from left to right, as SVG: each path is a row, and common beginnings are one bar.

    Args:
        bars: The nodes, each after the one above it. Those beyond `MOST_BARS` are left out.
    """
    bars = bars[:MOST_BARS]
    children: list[list[int]] = [[] for _ in bars]
    starts = [0.0] * len(bars)
    for k, bar in enumerate(bars):
        if bar.parent is not None:
            children[bar.parent].append(k)
            starts[k] = starts[bar.parent] + bars[bar.parent].size
    ends = [start + bar.size for start, bar in zip(starts, bars, strict=True)]
    scale = WIDTH / max(ends, default=1.0) if any(ends) else 1.0
    rows = _rows(bars, children)
    parts = []
    for k, bar in enumerate(bars):
        first, count = rows[k]
        x, width = starts[k] * scale, max(1.0, bar.size * scale - 1)
        y, height = first * ROW, count * ROW - 2
        room = int(width / CHARACTER) - 1
        text = bar.label if len(bar.label) <= room else f"{bar.label[: room - 1]}…"
        parts.append(
            f'<g><title>{escape(bar.label)}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
            f'height="{height}" rx="2" fill="#0072B2" opacity="{0.55 if bar.is_marked else 0.25}"/>'
        )
        if room >= 4:
            parts.append(
                f'<text x="{x + 4:.1f}" y="{y + height / 2 + 4:.1f}" fill="currentColor">'
                f"{escape(text)}</text>"
            )
        parts.append("</g>")
    height = sum(rows[k][1] for k, bar in enumerate(bars) if bar.parent is None) * ROW
    return _svg(WIDTH, height, parts)


def _rows(bars: Sequence[Bar], children: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The first row of each node, and how many rows it takes: one for each path through it."""
    counts = [0] * len(bars)
    for k in reversed(range(len(bars))):
        counts[k] = sum(counts[j] for j in children[k]) or 1
    firsts = [0] * len(bars)
    taken = 0
    for k, bar in enumerate(bars):
        if bar.parent is None:
            firsts[k], taken = taken, taken + counts[k]
        below = firsts[k]
        for j in children[k]:
            firsts[j], below = below, below + counts[j]
    return list(zip(firsts, counts, strict=True))


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{_STYLE}">{"".join(parts)}</svg>'
