"""A problem that takes no time, and results made by hand, for tests of the benchmarks."""

from collections import Counter

from toys import Toy

from eeipu.benchmarks.problem import Problem
from eeipu.benchmarks.registry import Entry
from eeipu.benchmarks.runs.options import Options
from eeipu.benchmarks.runs.results import Result

CALLS = Counter()
TOY = {"toy": Entry("toys", "benchmark_toys:problem", "a toy", ("measured", "declared"))}


def problem(preset, *, cost, seed, data=None, on_call=None):
    def note(name, params):
        CALLS[name] += 1
        if on_call is not None:
            on_call(name, params)

    pipeline = Toy(note).pipeline
    return Problem(
        "toy", pipeline, (0.0,), "maximize", 3, 60.0 if cost == "declared" else None, 0.0
    )


def minimized(preset, *, cost, seed):
    made = problem(preset, cost=cost, seed=seed)
    return Problem("toy", made.pipeline, made.inputs, "minimize", 3, 30.0)


def broken(preset, *, cost, seed):
    def fail(name, params):
        raise ValueError("broken on purpose")

    return problem(preset, cost=cost, seed=seed, on_call=fail)


def options(contender="random", seed=0, problem="toy", **others):
    given = {"preset": "smoke", "cost": "declared"} | others
    return Options(problem, contender=contender, seed=seed, **given)


def result(
    values,
    *,
    contender="ei",
    seed=0,
    problem="toy",
    start=0.0,
    optimum=None,
    direction="maximize",
    budget=10.0,
    stage_costs=(1.0, 1.0),
    **others,
):
    """A run whose trials cost 2 each and gave these values, the first two of them as warm-up."""
    trials = tuple(
        {
            "number": i,
            "state": "fail" if value is None else "complete",
            "warm_up": i < 2,
            "value": value,
            "spent": 2.0 * (i + 1),
            "charged": 2.0,
            "stage_costs": list(stage_costs),
            "memoized": [cost is None for cost in stage_costs],
            "saved": 0.0,
            "suggest_s": 0.5,
            "params": {"a.x": 0.5},
        }
        for i, value in enumerate(values)
    )
    return Result(
        options(contender, seed, problem, **others),
        {
            "direction": direction,
            "optimum": optimum,
            "stages": ["a", "b"],
            "parameters": ["a.x"],
            "n_initial": 2,
            "budget": budget,
        },
        start,
        {"eeipu": "0"},
        {"cores": 1},
        1.0,
        trials,
    )
