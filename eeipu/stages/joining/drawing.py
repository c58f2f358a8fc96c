"""The graph of a layout as a drawing for notebooks."""

from eeipu.html_drawings import graph_svg
from eeipu.stages.joining.layout import Layout

__all__ = ["graph_html"]


def graph_html(layout: Layout) -> str:
    """The stages from left to right, as SVG; those that may be left out are dashed."""
    sources = layout.graph.sources
    gets_inputs = any(None in given for given in sources)
    first = 1 if gets_inputs else 0  # the run's inputs are a node before the stages
    names = ["inputs"] * first + [stage.name for stage in layout.stages]
    upstream: list[list[int]] = [[] for _ in range(first)]
    upstream += [
        list(dict.fromkeys(0 if j is None else j + first for j in given)) for given in sources
    ]
    dashed = frozenset(k + first for k, chosen in enumerate(layout.chosen_by) if chosen)
    return graph_svg(names, upstream, dashed=dashed)
