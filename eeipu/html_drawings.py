"""Graphs and trees as small drawings in HTML (SVG), which take their colours from the page.

Notebooks show pipelines and stage trees with them; the report places the stages of a graph in the
same way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

__all__ = ["Bar", "Layout", "bars_svg", "graph_svg", "layout"]

# Pixels: of a character, about, of a box and of the room between two boxes.
CHARACTER, HEIGHT, GAP, STEP = 7.4, 28, 14, 42

# More bars of a tree cannot be told apart.
MOST_BARS = 400

WIDTH, ROW = 720, 18

_STYLE = "font: 12px system-ui, sans-serif; max-width: 100%; height: auto"


@dataclass(frozen=True)
class Layout:
    """Where the nodes of a graph are, and the ways of its edges between them.

    Attributes:
        layers: The nodes in layers, each behind all nodes that lead to it. Numbers from that of
            the nodes on are waypoints, at which an edge passes a layer.
        edges: Each edge as the nodes on its way: where it begins, waypoints, and where it ends.
    """

    layers: list[list[int]]
    edges: list[list[int]]


def layout(upstream: Sequence[Sequence[int]]) -> Layout:
    """Place the nodes of a graph so that no edge runs through a node.

    In a layer, a node stands near those that lead to it.

    Args:
        upstream: For each node, the nodes that lead to it, all of which come before it.

    >>> layout([(), (0,), (0, 1)])
    Layout(layers=[[0], [1, 3], [2]], edges=[[0, 1], [0, 3, 2], [1, 2]])
    """
    depth: list[int] = []
    for given in upstream:
        depth.append(1 + max((depth[j] for j in given), default=-1))
    found: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for node, at in enumerate(depth):
        found[at].append(node)
    before = {node: list(given) for node, given in enumerate(upstream)}
    waypoints: dict[tuple[int, int], int] = {}  # by where an edge begins, and the layer
    edges = []
    for node, given in enumerate(upstream):
        for j in given:
            way = [j]
            for at in range(depth[j] + 1, depth[node]):
                if (j, at) not in waypoints:
                    waypoints[j, at] = len(before)
                    before[len(before)] = [way[-1]]
                    found[at].append(waypoints[j, at])
                way.append(waypoints[j, at])
            before[node][before[node].index(j)] = way[-1]
            edges.append([*way, node])
    _order(found, before)
    return Layout(found, edges)


def _order(found: list[list[int]], before: Mapping[int, Sequence[int]]) -> None:
    """Sort each layer by the mean place of the nodes that lead to each."""
    place: dict[int, float] = {}
    for layer in found:
        means = {
            node: sum(place[j] for j in before[node]) / len(before[node]) if before[node] else 0.5
            for node in layer
        }
        layer.sort(key=lambda node: (means[node], node))
        for k, node in enumerate(layer):
            place[node] = (k + 0.5) / len(layer)


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
    placed = layout(upstream)
    columns = placed.layers
    tallest = max(map(len, columns), default=0)
    height = tallest * (HEIGHT + GAP)
    boxes: dict[int, tuple[float, float, float]] = {}  # left, middle, width
    left = 1.0
    for column in columns:
        longest = max(len(names[node]) for node in column if node < len(names))
        width = longest * CHARACTER + 20
        for k, node in enumerate(column):
            boxes[node] = left, height * (k + 0.5) / len(column), width
        left += width + STEP
    parts = []
    for edge in placed.edges:
        x, y, width = boxes[edge[0]]
        way = [f"M{x + width:.1f} {y:.1f}"]
        for before, node in pairwise(edge):
            from_x, from_y = boxes[before][0] + boxes[before][2], boxes[before][1]
            x, y, width = boxes[node]
            middle = (from_x + x) / 2
            way.append(f"C{middle:.1f} {from_y:.1f} {middle:.1f} {y:.1f} {x:.1f} {y:.1f}")
            if node != edge[-1]:
                way.append(f"H{x + width:.1f}")
        parts.append(f'<path d="{" ".join(way)}" fill="none" stroke="currentColor" opacity="0.5"/>')
    for node, name in enumerate(names):
        x, y, width = boxes[node]
        dash = ' stroke-dasharray="5 3"' if node in dashed else ""
        parts.append(
            f'<rect x="{x:.1f}" y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" height="{HEIGHT}" '
            f'rx="6" fill="none" stroke="currentColor"{dash}/>'
            f'<text x="{x + width / 2:.1f}" y="{y + 4:.1f}" text-anchor="middle" '
            f'fill="currentColor">{escape(name)}</text>'
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
