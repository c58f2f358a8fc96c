"""The synthetic problems, and the comparison that runs on them."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from eeipu.benchmarks.__main__ import app
from eeipu.benchmarks.comparison import Contender, Outcome, run, summarize
from eeipu.benchmarks.synthetic import FUNCTIONS, PIPELINES, SyntheticPipeline

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


SUMS = [name for name, problem in PIPELINES.items() if isinstance(problem, SyntheticPipeline)]
COUPLED = [name for name in PIPELINES if name not in SUMS]


@pytest.mark.parametrize("name", COUPLED)
def test_the_objective_of_a_coupled_pipeline_is_one_function_of_all_stages(name):
    problem = PIPELINES[name]
    rng = np.random.default_rng(0)
    params = problem.pipeline.cube.decode(rng.random(len(problem.pipeline.cube)))

    value = problem.pipeline.run(params, 0.0).value

    x = np.array([list(params.values())])
    assert value == pytest.approx(-FUNCTIONS[problem.function](x)[0])
    assert value <= problem.optimum


@pytest.mark.parametrize("name", SUMS)
def test_the_objective_is_the_negated_sum_of_the_stages(name):
    problem = PIPELINES[name]
    rng = np.random.default_rng(0)
    params = problem.pipeline.cube.decode(rng.random(len(problem.pipeline.cube)))

    result = problem.pipeline.run(params, 0.0)

    parts = [
        FUNCTIONS[f](np.array([[v for key, v in params.items() if key.startswith(f"{f}-{k}.")]]))
        for k, f in enumerate(problem.functions)
    ]
    assert result.value == pytest.approx(-sum(float(p[0]) for p in parts))
    assert result.value <= problem.optimum


@pytest.mark.parametrize("name", PIPELINES)
def test_every_parameter_changes_the_score_and_the_cost_of_its_stage_alone(name):
    problem = PIPELINES[name]
    base = problem.pipeline.cube.decode(np.full(len(problem.pipeline.cube), 0.4))
    before = problem.pipeline.run(base, 0.0)

    for parameter, distribution in problem.pipeline.space.items():
        moved = base | {parameter: 0.3 * distribution.low + 0.7 * distribution.high}
        after = problem.pipeline.run(moved, 0.0)
        changed = [a != b for a, b in zip(after.stage_costs, before.stage_costs, strict=True)]
        own = problem.pipeline.stage_names.index(parameter.split(".")[0])
        assert after.value != before.value
        assert [k for k, is_other in enumerate(changed) if is_other] == [own]


@pytest.mark.parametrize("name", PIPELINES)
def test_costs_are_positive(name):
    pipeline = PIPELINES[name].pipeline
    rng = np.random.default_rng(0)
    for point in rng.random((20, len(pipeline.cube))):
        costs = pipeline.run(pipeline.cube.decode(point), 0.0).stage_costs
        assert all(cost > 0 for cost in costs)


def test_contenders_read_as_they_are_written():
    assert str(Contender.parse("eeipu+cache")) == "eeipu+cache"
    assert Contender.parse("ei") == Contender("ei", cached=False)
    with pytest.raises(ValueError, match=r"ei\+cash"):
        Contender.parse("ei+cash")


def test_contenders_share_budget_and_warm_up():
    plain, cached = (
        run(SMALL, Contender("random", cached), 0, n_initial=3, budget_factor=2.0)
        for cached in (False, True)
    )

    assert plain.share == cached.share
    assert plain.candidates == cached.candidates > 3


def test_summaries_are_means():
    outcomes = [
        Outcome(SMALL, Contender("ei", False), seed, candidates, share, 1.0)
        for seed, (candidates, share) in enumerate([(10, 0.5), (20, 0.98)])
    ]

    summary = summarize(outcomes)

    assert (summary.runs, summary.candidates, summary.share) == (2, 15.0, 0.74)
    assert summary.missed == pytest.approx(math.sqrt(0.5 * 0.02))


def test_the_command_prints_a_row_for_each_method_and_one_for_all():
    arguments = [SMALL, "--methods", "random,random+cache", "--seeds", "1", "--n-initial", "2"]

    result = CliRunner().invoke(app, ["run", *arguments, "--json"])

    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [(row["problem"], row["method"]) for row in rows] == [
        (SMALL, "random"),
        (SMALL, "random+cache"),
        ("all problems", "random"),
        ("all problems", "random+cache"),
    ]
    assert "share" in CliRunner().invoke(app, ["run", *arguments]).output


def test_the_command_names_what_it_does_not_know():
    assert SMALL in CliRunner().invoke(app, ["list"]).output
    assert "no problem" in CliRunner().invoke(app, ["run", "rastrigin"]).output
    assert "ei+x" in CliRunner().invoke(app, ["run", SMALL, "--methods", "ei+x"]).output
