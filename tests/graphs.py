"""Graphs of stages for tests."""

from hypothesis import strategies as st

from eeipu import INPUTS, Float, Pipeline, stage
from eeipu.fingerprints.keys import inputs_key
from eeipu.stages.joining.graph import Graph


@st.composite
def graphs(draw, most=6):
    """A graph whose last stage all others lead to."""
    count = draw(st.integers(1, most))
    sources = []
    for k in range(count):
        choices = [None, *range(k)]
        sources.append(
            draw(st.lists(st.sampled_from(choices), min_size=1, max_size=3, unique=True))
        )
    used = {j for given in sources for j in given}
    sources[-1] += [k for k in range(count - 1) if k not in used]
    return Graph(tuple(map(tuple, sources)))


def pipeline_of(graph, ran, **options):
    """A pipeline of the graph; each stage adds up what it gets, and notes its name when it runs."""
    return Pipeline([_adding(k, given, ran, options) for k, given in enumerate(graph.sources)])


def _adding(k, given, ran, options):
    name = f"s{k}"

    def add(*numbers, x):
        ran.append(name)
        return sum((i + 2.0) * number for i, number in enumerate(numbers)) + (k + 1) * x

    inputs = tuple(INPUTS if j is None else f"s{j}" for j in given)
    return stage(
        add, name=name, version=str(k), space={"x": Float(0.0, 1.0)}, inputs=inputs, **options
    )


def call(pipeline, params, *inputs):
    """The calls of a configuration."""
    return pipeline.calls(params, inputs_key(inputs))
