"""The synthetic problems."""

import numpy as np
import pytest

from eeipu.benchmarks.synthetic.composites import CompositePipeline
from eeipu.benchmarks.synthetic.functions import FUNCTIONS
from eeipu.benchmarks.synthetic.inputs import CHOICES, levels, position
from eeipu.benchmarks.synthetic.problem import GRAPHS, NOISE, PIPELINES, VARIANTS, problem
from eeipu.errors import ConfigurationError
from eeipu.space import Categorical, Float

# What a trial of a problem with alternatives has depends on what it chose: they have a test below.
PROBLEMS = (
    PIPELINES | VARIANTS | NOISE | {name: each for name, each in GRAPHS.items() if not each.coarse}
)
SMALL = "michalewicz2-styblinski-tang2-rosenbrock2"


@pytest.mark.parametrize(
    ("name", "minimum"),
    [
        ("branin2", 0.397887),
        ("michalewicz2", -1.8013),
        ("styblinski-tang3", -3 * 39.16617),
        ("rosenbrock2", 0.0),
        ("levy2", 0.0),
        ("holder-table2", -19.2085),
        ("ackley3", 0.0),
        ("hartmann3", -3.86278),
        ("hartmann6", -3.32237),
        ("shekel4", -10.5364),
    ],
)
def test_minima_are_those_of_the_literature(name, minimum):
    assert FUNCTIONS[name].minimum == pytest.approx(minimum, abs=1e-3)


def decoded(pipeline, unit):
    return pipeline.cube.decode(np.full(len(pipeline.cube), unit))


def at_random(pipeline, seed=0):
    return pipeline.cube.decode(np.random.default_rng(seed).random(len(pipeline.cube)))


@pytest.mark.parametrize(
    "name", [name for name, each in PROBLEMS.items() if isinstance(each, CompositePipeline)]
)
def test_the_objective_of_a_composite_is_one_function_of_all_stages(name):
    each = PROBLEMS[name]
    params = at_random(each.pipeline)

    value = each.pipeline.run(params, 0.0).value

    x = np.array([list(params.values())])
    assert value == pytest.approx(-FUNCTIONS[each.function](x)[0])
    assert value <= each.optimum


@pytest.mark.parametrize(
    "name", [name for name, each in GRAPHS.items() if each.graph and not each.coarse]
)
def test_a_graph_gives_the_values_and_costs_of_its_chain(name):
    graph, chain = GRAPHS[name].pipeline, GRAPHS[f"{name}-chain"].pipeline
    params = at_random(graph)

    runs = [pipeline.run(params, 0.0) for pipeline in (graph, chain)]

    assert not graph.graph.is_chain
    assert chain.graph.is_chain
    assert runs[0].value == runs[1].value
    assert runs[0].stage_costs == runs[1].stage_costs


def test_a_coarse_alternative_gives_all_inputs_of_its_stage_one_value_at_half_the_cost():
    fine = GRAPHS["diamond"].pipeline.run(
        {
            f"hartmann6-{k}.x{i}": 0.5
            for k, own in enumerate(((0, 1), (2,), (3,), (4, 5)))
            for i in own
        },
        0.0,
    )
    rest = {"hartmann6-3.x4": 0.5, "hartmann6-3.x5": 0.5}
    places = {f"hartmann6-{k}": f"hartmann6-{k}-coarse" for k in range(3)}
    levels = {f"hartmann6-{k}-coarse.level": 2 for k in range(3)}  # the middle one of five

    coarse = GRAPHS["diamond-alternatives"].pipeline.run(places | levels | rest, 0.0)

    assert coarse.value == pytest.approx(fine.value)
    costs = [cost for cost in coarse.stage_costs if cost]
    assert costs[1:3] == pytest.approx([cost / 2 for cost in fine.stage_costs[1:3]])
    assert costs[3] == pytest.approx(fine.stage_costs[3])


@pytest.mark.parametrize(
    "name", [name for name, each in PROBLEMS.items() if not isinstance(each, CompositePipeline)]
)
def test_the_objective_is_the_negated_sum_of_the_stages(name):
    each = PROBLEMS[name]
    params = at_random(each.pipeline)

    run = each.pipeline.run(params, 0.0)

    total = 0.0
    for k, function in enumerate(each.functions):
        f, kind = FUNCTIONS[function], each.kinds[k] if each.kinds else "float"
        own = [v for name, v in params.items() if name.startswith(f"{function}-{k}.")]
        total -= f(np.array([[position(kind, f, value) for value in own]]))[0]
    assert run.metrics.get("noise_free", run.value) == pytest.approx(total)
    assert total <= each.optimum


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_parameter_changes_the_score(name):
    pipeline = PROBLEMS[name].pipeline
    base = decoded(pipeline, 0.4)
    before = pipeline.run(base, 0.0).value

    for parameter, value in decoded(pipeline, 0.7).items():
        assert pipeline.run(base | {parameter: value}, 0.0).value != before


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "upstream-costs"])
def test_every_parameter_changes_the_cost_of_its_stage_alone(name):
    pipeline = PROBLEMS[name].pipeline
    base = decoded(pipeline, 0.4)
    before = pipeline.run(base, 0.0).stage_costs

    for parameter, value in decoded(pipeline, 0.7).items():
        after = pipeline.run(base | {parameter: value}, 0.0).stage_costs
        own = pipeline.stage_names.index(parameter.split(".")[0])
        assert [k for k, cost in enumerate(after) if cost != before[k]] == [own]


def test_where_costs_depend_on_upstream_the_first_input_scales_all_later_ones():
    pipeline = VARIANTS["upstream-costs"].pipeline
    base = decoded(pipeline, 0.4)
    low, high = pipeline.space["levy2-0.x0"].low, pipeline.space["levy2-0.x0"].high

    cheap, dear = (pipeline.run(base | {"levy2-0.x0": x}, 0.0).stage_costs[1:] for x in (low, high))

    assert np.divide(dear, cheap) == pytest.approx([16.0, 16.0])
    assert base["levy2-0.x1"] is not None
    moved = pipeline.run(base | {"levy2-0.x1": high}, 0.0).stage_costs[1:]
    assert moved == pipeline.run(base, 0.0).stage_costs[1:]


@pytest.mark.parametrize("name", PROBLEMS)
def test_costs_are_positive(name):
    pipeline = PROBLEMS[name].pipeline
    for seed in range(10):
        assert min(pipeline.run(at_random(pipeline, seed), 0.0).stage_costs) > 0


@pytest.mark.parametrize(("name", "order"), [("cheap-early", 1), ("costly-early", -1)])
def test_early_stages_are_cheap_or_costly(name, order):
    pipeline = VARIANTS[name].pipeline
    runs = [pipeline.run(at_random(pipeline, seed), 0.0).stage_costs for seed in range(50)]
    mean = np.mean(runs, axis=0)[::order]
    assert 4 * mean[0] < mean[-1]


def test_stage_counts_go_from_three_to_ten_and_the_longest_has_the_ten_functions():
    counts = {len(each.pipeline.stages) for each in PROBLEMS.values()}
    assert (min(counts), max(counts)) == (3, 10)
    assert len(set(VARIANTS["sum-of-10"].functions)) == 10


def test_noise_depends_on_the_configuration_and_the_seed_alone():
    def noise(seed, unit):
        pipeline = problem("cpu", name="noisy", cost="declared", seed=seed).pipeline
        run = pipeline.run(decoded(pipeline, unit), 0.0)
        return run.value - run.metrics["noise_free"]

    assert noise(0, 0.3) == noise(0, 0.3)
    assert len({noise(0, 0.3), noise(0, 0.31), noise(1, 0.3)}) == 3


def test_noise_that_is_drawn_anew_differs_from_run_to_run_and_can_be_repeated():
    def noises(seed, unit=0.3, runs=3):
        pipeline = problem("cpu", name="noisy-last", cost="declared", seed=seed).pipeline
        found = [pipeline.run(decoded(pipeline, unit), 0.0) for _ in range(runs)]
        assert len({run.metrics["noise_free"] for run in found}) == 1
        return [run.value - run.metrics["noise_free"] for run in found]

    assert len(set(noises(0))) == 3
    assert noises(0) == noises(0)
    assert not set(noises(0)) & set(noises(1))
    assert not set(noises(0)) & set(noises(0, unit=0.31))


def test_what_is_drawn_anew_is_not_kept():
    problems = VARIANTS | NOISE
    memoizes = {name: problems[name].pipeline.memoizes for name in ("noisy", "noisy-last")}

    assert memoizes == {"noisy": (True, True, True), "noisy-last": (True, True, False)}


def test_noise_has_the_standard_deviation_that_it_is_declared_with():
    pipeline = VARIANTS["noisy"].pipeline
    runs = [pipeline.run(at_random(pipeline, seed), 0.0) for seed in range(300)]
    noise = np.array([run.value - run.metrics["noise_free"] for run in runs])
    spread = np.std([run.metrics["noise_free"] for run in runs])
    assert noise.std() / spread == pytest.approx(0.1, rel=0.2)
    assert abs(noise.mean()) < 3 * noise.std() / np.sqrt(300)


def test_discrete_inputs_stand_for_points_of_the_domain():
    function = FUNCTIONS["branin2"]
    assert [position("int", function, i) for i in (0, 10, 20)] == [0.0, 5.0, 10.0]
    assert sorted(position("choice", function, c) for c in CHOICES) == list(
        levels("choice", function)
    )
    assert levels("float", function) is None


def test_the_optimum_of_discrete_inputs_is_the_best_of_them():
    each = VARIANTS["mixed-inputs"]
    space = each.pipeline.space
    assert isinstance(space["branin2-1.x0"], type(Categorical(["a"])))
    assert isinstance(space["ackley3-2.x0"], type(Float(0, 1)))
    function = FUNCTIONS["branin2"]
    best = function.minimum_on(levels("choice", function))
    assert best == min(
        function(np.array([[a, b]]))[0]
        for a in levels("choice", function)
        for b in levels("choice", function)
    )
    assert best > function.minimum


def test_costs_that_would_be_measured_are_refused():
    with pytest.raises(ConfigurationError, match=f"{SMALL!r} take no time.*'measured'"):
        problem("cpu", name=SMALL, cost="measured", seed=0)


def test_a_smoke_run_has_a_small_warm_up():
    made = {p: problem(p, name=SMALL, cost="declared", seed=0) for p in ("smoke", "cpu", "paper")}
    assert made["smoke"].n_initial < made["cpu"].n_initial == made["paper"].n_initial
    assert made["cpu"].optimum == PIPELINES[SMALL].optimum
