"""Small drawings of graphs and trees."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from eeipu.html_drawings import MOST_BARS, Bar, bars_svg, graph_svg, layout

SVG = "{http://www.w3.org/2000/svg}"


@st.composite
def graphs(draw):
    """For each node, some of those before it."""
    count = draw(st.integers(1, 8))
    return [draw(st.lists(st.integers(0, k - 1), unique=True)) if k else [] for k in range(count)]


@given(graphs())
def test_a_node_lies_behind_all_that_lead_to_it(upstream):
    placed = layout(upstream)
    depth = {node: k for k, layer in enumerate(placed.layers) for node in layer}

    assert sorted(depth) == list(range(len(depth)))
    assert all(depth[j] < depth[node] for node, given in enumerate(upstream) for j in given)
    ways = {(way[0], way[-1]): way for way in placed.edges}
    assert ways.keys() == {(j, node) for node, given in enumerate(upstream) for j in given}
    for way in placed.edges:  # in each layer on its way, an edge has a place of its own
        assert [depth[node] for node in way] == list(range(depth[way[0]], depth[way[-1]] + 1))
        assert all(node >= len(upstream) for node in way[1:-1])


def test_nodes_of_a_layer_stand_near_those_that_lead_to_them():
    # Two branches, the stages of which are given in turns.
    assert layout([(), (), (1,), (0,)]).layers == [[0, 1], [3, 2]]


def elements(svg, tag):
    return list(ElementTree.fromstring(svg).iter(f"{SVG}{tag}"))


def test_a_graph_has_a_box_for_each_node_and_a_line_for_each_edge():
    svg = graph_svg(["a", "<b>", "c"], [(), (0,), (0, 1)], dashed=frozenset({1}))

    assert [each.text for each in elements(svg, "text")] == ["a", "<b>", "c"]
    assert len(elements(svg, "path")) == 3
    assert [r.get("stroke-dasharray") for r in elements(svg, "rect")] == [None, "5 3", None]


def test_an_edge_that_passes_a_layer_runs_beside_its_nodes():
    svg = graph_svg(["a", "b", "c"], [(), (0,), (0, 1)])

    [_, box, _] = elements(svg, "rect")
    top, bottom = float(box.get("y")), float(box.get("y")) + float(box.get("height"))
    [passing] = [each.get("d") for each in elements(svg, "path") if "H" in each.get("d")]
    height = float(passing.split(" H")[0].split()[-1])
    assert not top <= height <= bottom


def test_an_empty_graph_and_an_empty_tree_are_drawings():
    assert elements(graph_svg([], []), "rect") == []
    assert elements(bars_svg([]), "rect") == []


def test_a_bar_begins_where_the_one_above_it_ends_and_spans_what_is_below_it():
    bars = [Bar("a", None, 2.0, is_marked=True), Bar("<b>", 0, 2.0), Bar("c", 0, 1.0)]

    svg = bars_svg(bars)

    a, b, c = elements(svg, "rect")
    assert float(b.get("x")) == float(c.get("x")) == 360.0
    assert float(a.get("height")) > float(b.get("height")) + float(c.get("height"))
    assert float(b.get("y")) < float(c.get("y"))
    assert a.get("opacity") > b.get("opacity")
    assert [each.text for each in elements(svg, "title")] == ["a", "<b>", "c"]


def test_a_large_tree_is_cut():
    bars = [Bar("x", None, 1.0) for _ in range(MOST_BARS + 5)]

    assert len(elements(bars_svg(bars), "rect")) == MOST_BARS
