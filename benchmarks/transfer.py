"""What an earlier study is worth to a search, and what a wrong one costs.

A problem is a sum of standard functions, one for each of three stages with declared costs. Before
each run, an earlier study of another problem with the same space is made, with `eeipu` and a budget
of its own. Contenders:

- `alone`: the search without it,
- `related`: the earlier study is of the same functions, shifted by a twentieth of the cube, with
  another amplitude, and with costs that are two and a half times as large,
- `wrong`: the earlier study is of other functions with other costs.

Printed are the regret at the end of the budget and its mean over the budget, as a share of the
spread of random values, and the mean differences to `alone` with half the width of their 95 %
intervals (negative: better). Runs are kept in a directory as lines of JSON, so that the same
command goes on where it was stopped. Run `python benchmarks/transfer.py [--problems ...]
[--contenders ...] [--seeds N] [--budget-factor F] [--out DIR] [--json]`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from figures import Figure, arguments_of
from kept_runs import show_kept_runs

from eeipu import Float, Pipeline, Stage, StageCache, Tuner
from eeipu.benchmarks.analysis.tables import half_width
from eeipu.benchmarks.synthetic.costs import stage_cost
from eeipu.benchmarks.synthetic.functions import FUNCTIONS

# Functions of two inputs each, and those of a wrong source.
PROBLEMS = {
    "michalewicz-styblinski-branin": ("michalewicz2", "styblinski-tang2", "branin2"),
    "levy-holder-rosenbrock": ("levy2", "holder-table2", "rosenbrock2"),
}
WRONG = ("beale2", "michalewicz2", "levy2"), ("branin2", "rosenbrock2", "michalewicz2")
COSTS = (3.0, 2.0, 1.0)
CONTENDERS = ("alone", "related", "wrong")
SOURCE_FACTOR, SHIFT, SLOWER = 10.0, 0.05, 2.5
GRID = 201


def pipeline_of(
    functions: tuple[str, ...], *, shift: float = 0.0, scale: float = 1.0, first_cost: int = 0
) -> Pipeline:
    """A sum of functions, whose inputs may be shifted, and whose costs are scaled."""
    return Pipeline(
        [_stage(k, name, shift, scale, first_cost) for k, name in enumerate(functions)], name="sum"
    )


def _stage(k: int, name: str, shift: float, scale: float, first_cost: int) -> Stage:
    function = FUNCTIONS[name]

    def add(before: float, **x: float) -> float:
        unit = np.clip(np.array([x["x0"], x["x1"]]) + shift, 0.0, 1.0)
        point = function.low + (function.high - function.low) * unit
        return before - float(function(point[None])[0]) / function.spread * scale

    def cost(**x: float) -> float:
        return scale * COSTS[k] * stage_cost(np.array([x["x0"], x["x1"]]), first_cost + k)

    space = {"x0": Float(0.0, 1.0), "x1": Float(0.0, 1.0)}
    return Stage(name=f"s{k}", space=space, function=add, version="1", cost=cost)


def source(problem: str, contender: str, seed: int) -> list[optuna.Study]:
    """The earlier study of a run, if it has one."""
    if contender == "alone":
        return []
    if contender == "related":
        pipeline = pipeline_of(PROBLEMS[problem], shift=SHIFT, scale=SLOWER)
    else:
        wrong = WRONG[list(PROBLEMS).index(problem)]
        pipeline = pipeline_of(wrong, scale=SLOWER, first_cost=10)
    budget = SOURCE_FACTOR * SLOWER * sum(COSTS)
    tuner = Tuner(pipeline, budget=budget, cache=StageCache(), seed=1000 + seed)
    return [tuner.run(0.0, progress=False)]


def run(problem: str, contender: str, seed: int, factor: float) -> dict[str, Any]:
    """One run, with the best value after each trial."""
    pipeline, budget = pipeline_of(PROBLEMS[problem]), factor * sum(COSTS)
    earlier = source(problem, contender, seed)
    began = time.perf_counter()
    tuner = Tuner(pipeline, budget=budget, cache=StageCache(), seed=seed, learn_from=earlier)
    study = tuner.run(0.0, progress=False)
    optimum = -sum(FUNCTIONS[name].minimum / FUNCTIONS[name].spread for name in PROBLEMS[problem])
    spent, best, curve = 0.0, -np.inf, []
    for trial in study.get_trials(deepcopy=False):
        spent += trial.user_attrs["charged"]
        best = max(best, trial.values[0])
        curve.append([spent, (optimum - best) / len(COSTS) ** 0.5])
    return {
        "problem": problem,
        "contender": contender,
        "seed": seed,
        "factor": factor,
        "budget": budget,
        "curve": curve,
        "seconds": time.perf_counter() - began,
    }


def over_budget(result: dict[str, Any]) -> np.ndarray:
    """The regret at evenly spaced places on the budget, from a tenth of it on."""
    spent, regrets = np.array(result["curve"]).T
    places = np.linspace(0.1 * result["budget"], result["budget"], GRID)
    last = np.searchsorted(spent, places, side="right") - 1
    return regrets[np.maximum(last, 0)]


def figures(results: list[dict[str, Any]], problem: str, contenders: list[str]) -> list[Figure]:
    """The regrets of a problem's runs, and the differences to the first contender."""
    found = {
        c: {r["seed"]: over_budget(r) for r in results if r["contender"] == c} for c in contenders
    }
    seeds = sorted(set.intersection(*(set(each) for each in found.values())))
    shown: list[Figure] = []
    for c in contenders if seeds else ():
        for place, pick in (("at the end", lambda r: r[-1]), ("on the way", np.mean)):
            own = np.array([pick(found[c][s]) for s in seeds])
            shown.append(Figure(f"{problem}: {c}, {place}", float(own.mean()), "regret"))
            if c != contenders[0]:
                other = np.array([pick(found[contenders[0]][s]) for s in seeds])
                half = half_width(own - other) if len(seeds) > 1 else float("nan")
                text = f"{problem}: {c} less {contenders[0]}, {place}, +- {half:.3f}"
                shown.append(Figure(text, float((own - other).mean()), "regret"))
    return shown


def main() -> None:
    """Run what has not been run, and print the figures."""
    parser = arguments_of(__doc__)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.set_defaults(seeds=8, budget_factor=8.0, out=Path("runs/transfer"))
    show_kept_runs(parser, run, figures)


if __name__ == "__main__":
    main()
