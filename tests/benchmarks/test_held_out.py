"""The held-out problems."""

from collections import Counter

import numpy as np
import pytest

from eeipu.benchmarks.registry import REGISTRY, named
from eeipu.benchmarks.synthetic.composites import CompositePipeline
from eeipu.benchmarks.synthetic.functions import FUNCTIONS
from eeipu.benchmarks.synthetic.held_out import HELD_OUT, drawn
from eeipu.benchmarks.synthetic.sums import SumPipeline

# Every tenth one where a test has to find optima.
SOME = list(HELD_OUT)[::10]


def at_random(pipeline, seed):
    return pipeline.cube.decode(np.random.default_rng(seed).random(len(pipeline.cube)))


def runs(name, count):
    pipeline = HELD_OUT[name].pipeline
    return [pipeline.run(at_random(pipeline, seed), 0.0) for seed in range(count)]


def noise_free(run):
    return run.metrics.get("noise_free", run.value)


def test_there_are_fifty_which_are_always_the_same():
    assert named(["held-out"]) == [f"held-out-{i:02d}" for i in range(50)] == list(HELD_OUT)
    for index, (name, each) in enumerate(HELD_OUT.items()):
        assert each == drawn(index)
        assert each.pipeline.name == name
        assert REGISTRY[name].costs == ("declared",)
    assert len(set(HELD_OUT.values())) == 50


def test_their_structure_is_of_many_kinds():
    each = list(HELD_OUT.values())
    counts = Counter(len(one.cost_scales) for one in each)
    assert set(counts) == {2, 3, 4, 5, 6, 7}
    sums = [one for one in each if isinstance(one, SumPipeline)]
    composites = [one for one in each if isinstance(one, CompositePipeline)]
    assert min(len(sums), len(composites)) >= 15
    for what, those in {
        "graphs of sums": [one for one in sums if one.graph],
        "graphs of composites": [one for one in composites if one.graph],
        "stages that depend on each other in a sum": [one for one in sums if one.twist],
        "costs that depend on the first stage": [one for one in each if one.upstream_costs],
        "rising costs": [one for one in each if one.cost_scales[0] * 2 < one.cost_scales[-1]],
        "falling costs": [one for one in each if one.cost_scales[0] > one.cost_scales[-1] * 2],
        "equal costs": [one for one in each if len(set(one.cost_scales)) == 1],
        "discrete inputs": [one for one in each if set(one.kinds) & {"int", "choice"}],
        "noise": [one for one in sums if one.noise],
        "alternatives": [one for one in composites if one.coarse],
    }.items():
        assert len(those) >= 3, what
    functions = {f for one in sums for f in one.functions} | {one.function for one in composites}
    assert len(functions) >= 25


@pytest.mark.parametrize("name", HELD_OUT)
def test_costs_are_positive_and_a_configuration_has_one_value(name):
    first, again = runs(name, 3), runs(name, 3)
    for run in first:
        assert min(cost for cost in run.stage_costs if cost is not None) > 0.0
    assert [run.value for run in first] == [run.value for run in again]
    assert len({run.value for run in first}) > 1


@pytest.mark.parametrize("name", SOME)
def test_no_random_configuration_is_better_than_the_optimum(name):
    best = max(noise_free(run) for run in runs(name, 50))
    assert best <= HELD_OUT[name].optimum


@pytest.mark.parametrize("twist", [0.0, 1.0])
def test_what_stages_do_to_each_other_leaves_the_optimum_where_it_was(twist):
    """The best input of the second stage moves with that of the first; its best value stays."""
    one = SumPipeline(("branin2", "ackley-1"), (1.0, 1.0), twist=twist, weights=(1.0, 1.0))
    pipeline = one.pipeline
    ends = {}
    for first in (0.0, 10.0):
        fixed = {"branin2-0.x0": first, "branin2-0.x1": 5.0}
        grid = np.linspace(-3.0, 5.0, 161)
        values = [pipeline.run({**fixed, "ackley-1-1.x0": x}, 0.0).value for x in grid]
        alone = -FUNCTIONS["branin2"](np.array([[first, 5.0]]))[0] / FUNCTIONS["branin2"].spread
        ends[first] = grid[np.argmax(values)], max(values) - alone
    (low, low_value), (high, high_value) = ends.values()
    assert low_value == pytest.approx(0.0, abs=0.05)
    assert high_value == pytest.approx(0.0, abs=0.05)
    assert (low == pytest.approx(high)) == (twist == 0.0)


def test_inputs_at_the_ends_of_their_domains_stay_within():
    one = SumPipeline(("branin2", "beale2"), (1.0, 1.0), twist=0.88)
    rng = np.random.default_rng(0)
    for first, second in zip(rng.uniform(0.0, 10.0, 200), [-2.0, 2.0] * 100, strict=True):
        params = {"branin2-0.x0": first, "branin2-0.x1": 5.0, "beale2-1.x0": second}
        assert one.pipeline.run(params | {"beale2-1.x1": 0.0}, 0.0).value is not None


def test_the_optimum_of_a_composite_with_discrete_inputs_is_that_of_all_of_them():
    one = CompositePipeline("branin2", (1, 1), (1.0, 1.0), kinds=("int", "choice"))
    space = one.pipeline.space
    first, second = list(space)
    values = [
        one.pipeline.run({first: x, second: y}, 0.0).value
        for x in range(space[first].low, space[first].high + 1)
        for y in space[second].choices
    ]
    assert one.optimum == pytest.approx(max(values))


def test_a_sum_of_a_graph_adds_every_stage_once():
    one = SumPipeline(("levy-1", "levy-1", "ackley-1"), (1.0,) * 3, graph=((), (), (0, 1)))
    params = at_random(one.pipeline, 0)
    total = 0.0
    for name, value in params.items():
        total -= FUNCTIONS[name.rpartition("-")[0]](np.array([[value]]))[0]
    assert one.pipeline.run(params, 0.0).value == pytest.approx(total)
    assert not one.pipeline.graph.is_chain


def test_the_first_stage_scales_the_costs_of_those_behind_it_in_a_composite():
    one = CompositePipeline("ackley-3", (1, 1, 1), (1.0,) * 3, upstream_costs=True)
    params = at_random(one.pipeline, 0)
    first = next(iter(params))
    cheap, dear = (one.pipeline.run(params | {first: x}, 0.0).stage_costs for x in (-3.0, 5.0))
    assert np.divide(dear[1:2], cheap[1:2]) == pytest.approx([16.0])


def test_stages_that_hand_on_more_than_a_number_show_the_sum_so_far():
    one = SumPipeline(("levy-1", "levy-1"), (1.0,) * 2, twist=1.0, is_shown=True)
    first = one.pipeline.stages[0]
    output = first.function(0.0, x0=0.5)
    assert first.observe(output) == {"total": output.total}
    assert one.pipeline.stages[1].observe is None


def test_stages_with_a_weight_have_it_as_their_spread():
    one = SumPipeline(("levy-2", "rosenbrock-2"), (1.0,) * 2, weights=(2.0, 0.5))
    pipeline = one.pipeline
    totals = [pipeline.run(at_random(pipeline, seed), 0.0).value for seed in range(200)]
    assert np.std(totals) == pytest.approx(np.hypot(2.0, 0.5), rel=0.2)
