"""Graphs of stages: whose output each gets, and which of them must run."""

import pytest
from graphs import call, graphs, pipeline_of
from hypothesis import given
from hypothesis import strategies as st

from eeipu import INPUTS, Float, OneOf, Optional, Pipeline, PipelineError, StageCache, stage
from eeipu.stages.joining.graph import Graph
from eeipu.stages.running.records import code_up_to

JOIN = Graph(((None,), (None,), (0, 1), (2,)))


def named(name, inputs=None, function=None):
    return stage(function or (lambda *given: 1.0), name=name, version="1", inputs=inputs)


def error_of(*stages):
    with pytest.raises(PipelineError) as caught:
        Pipeline(stages)
    return str(caught.value)


def test_a_list_without_inputs_is_a_chain():
    pipeline = Pipeline([named("a"), named("b"), named("c")])
    assert pipeline.graph.sources == ((None,), (0,), (1,))
    assert pipeline.graph.is_chain


def test_what_a_stage_gets_is_named_in_order():
    a, b = named("a"), named("b", inputs=INPUTS)
    pipeline = Pipeline([a, b, named("c", inputs=("b", INPUTS, a)), named("d", inputs="c")])
    assert pipeline.graph.sources == ((None,), (None,), (1, None, 0), (2,))
    assert not pipeline.graph.is_chain
    assert pipeline.graph.ancestors == ((), (), (0, 1), (0, 1, 2))
    assert pipeline.graph.needed_by == ((2,), (2,), (3,), ())


def test_a_declared_pipeline_names_what_its_stages_get_too():
    spaces = {"a": {"x": Float(0, 1)}, "b": {"x": Float(0, 1)}, "c": {}}
    pipeline = Pipeline.declare(spaces, inputs={"b": INPUTS, "c": ("a", "b")})
    assert pipeline.graph.sources == ((None,), (None,), (0, 1))
    with pytest.raises(PipelineError, match=r"'d', which is no stage; the stages are \['a'"):
        Pipeline.declare(spaces, inputs={"d": "a"})


def test_a_name_that_is_not_there():
    assert "'b' gets the output of 'z', but there is no such stage; the stages are ['a', 'b']" in (
        error_of(named("a"), named("b", inputs="z"))
    )


def test_an_order_that_does_not_work_names_both():
    message = error_of(named("a", inputs="b"), named("b", inputs=INPUTS), named("c", inputs="a"))
    assert "'a' gets the output of 'b', which comes after it" in message
    assert "put 'b' before 'a'" in message


@pytest.mark.parametrize("own", [False, True])
def test_a_circle_names_both(own):
    stages = [named("a", inputs="a" if own else "c"), named("b"), named("c")]
    assert "are in a circle" in error_of(*stages)


def test_a_stage_that_leads_nowhere():
    message = error_of(named("a"), named("b"), named("c", inputs="a"))
    assert "stage 'b' leads nowhere" in message


def test_arguments_that_do_not_fit():
    two = named("two", inputs=("a",), function=lambda left, right: 1.0)
    message = error_of(named("a"), two)
    assert "'two' takes ['left', 'right'], but gets 1 argument from inputs=('a')" in message


def test_what_is_no_source():
    with pytest.raises(PipelineError, match=r"name of a stage, eeipu\.INPUTS, or a tuple of these"):
        named("a", inputs=3)


def test_inputs_are_counted_before_anything_runs():
    join = named("join", inputs=("a", INPUTS), function=lambda a, data: 1.0)
    pipeline = Pipeline([named("a", function=lambda *data: 1.0), join])
    assert pipeline.run({}, 1.0).value == 1.0
    with pytest.raises(PipelineError, match=r"'join' takes .*, but gets 3 arguments"):
        pipeline.run({}, 1.0, 2.0)


def test_inputs_that_no_stage_takes_are_refused():
    pipeline = Pipeline([named("a", inputs=(), function=lambda: 1.0)])
    assert pipeline.run({}).value == 1.0
    with pytest.raises(PipelineError, match="no stage takes the run's inputs"):
        pipeline.run({}, 1.0)


@given(graphs(), st.data())
def test_free_is_what_is_kept_and_what_only_free_stages_need(graph, data):
    kept = data.draw(
        st.lists(st.booleans(), min_size=len(graph.sources), max_size=len(graph.sources))
    )
    free, last = graph.free(kept), len(kept) - 1
    for k in range(len(kept)):
        users = graph.needed_by[k]
        assert free[k] == (kept[k] or (k != last and all(free[j] for j in users)))
    for k in graph.to_load(kept):
        assert kept[k]


@given(graphs(), st.data())
def test_what_runs_is_what_must_and_values_do_not_depend_on_the_cache(graph, data):
    ran = []
    pipeline = pipeline_of(graph, ran)
    params = {name: data.draw(st.sampled_from([0.0, 0.5, 1.0])) for name in pipeline.space}
    plain = pipeline.run(params, 1.0)
    assert len(ran) == len(graph.sources)
    cache = StageCache()
    pipeline.run(params, 1.0, cache=cache)
    kept = data.draw(
        st.lists(st.booleans(), min_size=len(graph.sources), max_size=len(graph.sources))
    )
    calls = call(pipeline, params, 1.0)
    cache.discard([each.key for each, is_kept in zip(calls, kept, strict=True) if not is_kept])
    ran.clear()
    run = pipeline.run(params, 1.0, cache=cache)
    must = graph.must_run(kept)
    assert sorted(ran) == [name for name, m in zip(pipeline.stage_names, must, strict=True) if m]
    assert run.memoized == [not each for each in must]
    assert run.value == plain.value
    assert dict(run.outputs) == dict(plain.outputs)


@given(graphs(), st.data())
def test_a_key_covers_all_that_leads_to_it_and_nothing_else(graph, data):
    pipeline = pipeline_of(graph, [])
    params = dict.fromkeys(pipeline.space, 0.5)
    k = data.draw(st.integers(0, len(graph.sources) - 1))
    name = pipeline.stage_names[k]
    before = call(pipeline, params, 1.0)
    after = call(pipeline, params | {f"{name}.x": 0.25}, 1.0)
    changed = [old.key != new.key for old, new in zip(before, after, strict=True)]
    assert changed == [k in graph.up_to(j) for j in range(len(changed))]


def test_a_chain_by_names_is_the_chain():
    chain = Pipeline([named("a"), named("b"), named("c")])
    by_names = Pipeline([named("a", INPUTS), named("b", "a"), named("c", ("b",))])
    assert by_names.graph == chain.graph
    assert [c.key for c in call(by_names, {}, 1.0)] == [c.key for c in call(chain, {}, 1.0)]


def test_branches_get_outputs_of_their_own():
    """A branch that changes what it gets in place changes nothing for the others."""

    def spoil(numbers):
        numbers.append(1)
        return len(numbers)

    for memoize in (True, False):
        source = stage(lambda: [0], name="source", version="1", memoize=memoize)
        left, right = named("left", source, spoil), named("right", source, spoil)
        both = named(
            "both", ("left", "right", "source"), lambda a, b, s: 100.0 * a + 10 * b + len(s)
        )
        pipeline = Pipeline([source, left, right, both])
        for cache in (None, StageCache()):
            assert pipeline.run({}, cache=cache).value == 221.0


def test_branches_get_the_inputs_that_their_keys_stand_for():
    """A branch that changes the run's inputs in place changes nothing for the others."""

    def spoil(numbers):
        numbers.append(1)
        return len(numbers)

    left, right = named("left", INPUTS, spoil), named("right", INPUTS, spoil)
    both = named("both", ("left", "right", INPUTS), lambda a, b, s: 100.0 * a + 10 * b + len(s))
    pipeline = Pipeline([left, right, both, named("last", function=lambda number: number)])
    for cache in (None, StageCache()):
        with pytest.warns(RuntimeWarning, match="changed the run's inputs in place"):
            assert pipeline.run({}, [0], cache=cache).value == 221.0
    run = pipeline.run({}, [0], cache=cache)
    cache.clear()
    with pytest.warns(RuntimeWarning, match="changed the run's inputs in place"):
        assert run.outputs["both"] == 221.0


def test_a_stage_that_gets_its_own_output_is_named_once():
    assert error_of(named("a", inputs="a")).startswith("stage 'a' gets its own output")


@pytest.mark.parametrize("inputs", [5, {"x": "a"}, ("a", print)], ids=str)
def test_what_is_no_source_is_refused_with_the_stage_name(inputs):
    with pytest.raises(PipelineError, match=r"^stage 'join': inputs must be the name of a stage"):

        @stage(inputs=inputs)
        def join(x):
            return x


def test_places_and_methods_can_be_sources():
    class Model:
        @staticmethod
        @stage(inputs=INPUTS)
        def left(data):
            return data

        @stage(inputs=(left, INPUTS))
        def last(self, left, data):
            return 10.0 * left + data

    assert Pipeline([Model.left, Model().last]).run({}, 3.0).value == 33.0
    place = OneOf("place", [named("a"), named("b")])
    maybe = Optional(named("c", "place"))
    last = named("last", (place, maybe), lambda x, y: x + y)
    assert Pipeline([place, maybe, last]).run({"place": "a", "c": "nothing"}, 1.0).value == 2.0


def test_a_run_without_inputs_says_where_they_come_from():
    with pytest.raises(PipelineError, match=r"inputs=\(INPUTS\).*those of a run are what pipeline"):
        Pipeline([named("a", INPUTS, lambda data: data)]).run({})


def test_code_counts_up_to_a_stage_along_the_graph():
    pipeline = Pipeline([named("a"), named("b", INPUTS), named("c", ("a", "b"))])
    other = Pipeline(
        [
            named("a"),
            stage(lambda x: x, name="b", version="2", inputs=INPUTS),
            named("c", ("a", "b")),
        ]
    )
    same = [code_up_to(pipeline.layout, name) == code_up_to(other.layout, name) for name in "abc"]
    assert same == [True, False, False]


def test_branches_get_all_of_an_iterator():
    source = stage(lambda: (number for number in (1.0, 2.0, 3.0)), name="source", version="1")
    left, right = named("left", source, lambda n: sum(n)), named("right", source, lambda n: sum(n))
    both = named("both", ("left", "right"), lambda a, b: 10.0 * a + b)
    assert Pipeline([source, left, right, both]).run({}).value == 66.0
