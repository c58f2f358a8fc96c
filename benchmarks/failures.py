"""How many trials fail, and what is found, where configurations beside the optimum fail.

Every seed draws a problem of its own: a wavy bowl to minimise, whose optimum is known, and a
hidden region that raises an error. Stages declare their costs, and what a failing stage costs is
paid. A run has 40 trials; where there are several stages it has a budget of 30 whole trials
instead, and most trials of `eeipu` and `ei` reuse outputs.

Problems:
    half-space: A parameter above a limit fails; the optimum is just below it.
    edge: A parameter above a limit fails, and the larger it is below, the better.
    corner: Two parameters that are both above a limit fail; the optimum is beside the corner.
    choice: One of four choices fails always. Without failing it would be the best one.
    memory: A product of two sizes above a limit fails, the larger the better: the optimum is on
        the edge. The other parameters are a rate and a share.
    flaky: A tenth of all trials fails wherever they are.
    flaky-half-space: Both.
    early: The half-space in the first of three stages, which costs a tenth of a trial.
    late: In the last of three stages, a sum of a parameter of its own and one of the first stage's
        that is above a limit fails, after nine tenths of the cost; the optimum is beside it.

Solvers: `eeipu` and `ei` of this package; `worst`, which is `ei` with failures that count as the
worst value so far and no probability of success; Optuna's TPE sampler (`tpe`), which learns nothing
from failures. All of them have ten trials of warm-up and the same cache.

Figures, as means over seeds: failures after the warm-up in percent of the trials after it, the
share of all cost that went to trials that failed, and the regret of the best value, of which the
logarithm to base 10 is averaged (below 1e-6 it counts as that).

Run `python benchmarks/failures.py [--json] [--problems half-space late] [--seeds 10] [--first 0]
[--solvers eeipu tpe] [--each]`. A run takes a quiet processor 4 s for the solvers of this package
and .5 s for TPE.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import argparse
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import torch
from figures import Figure, arguments_of, show
from optuna.distributions import BaseDistribution

from eeipu import Categorical, Float, Int, Pipeline, Tuner, stage
from eeipu.methods.learning.chances import SuccessChances
from eeipu.methods.learning.standard_values import StandardValues

WARM_UP = 10
TRIALS = 40
WHOLE_TRIALS = 30
LEAST_REGRET = 1e-6
Space = dict[str, BaseDistribution]
Params = Mapping[str, Any]


class HiddenError(Exception):
    """What a configuration that does not work raises."""


@dataclass(frozen=True)
class Problem:
    """A pipeline to tune, as one seed draws it.

    Attributes:
        spaces: The hyper-parameters of each stage.
        costs: What each stage costs.
        value: All hyper-parameters -> the value, which is minimised.
        optimum: The least value.
        failing: For each stage that may fail, its number and whether it does.
        flaky: The probability that a trial fails for no reason, in its last stage.
    """

    spaces: Sequence[Space]
    costs: Sequence[float]
    value: Callable[[Params], float]
    optimum: float = 0.0
    failing: Mapping[int, Callable[[Params], bool]] | None = None
    flaky: float = 0.0

    def pipeline(self, rng: np.random.Generator) -> Pipeline:
        """Its pipeline, whose stages hand on the hyper-parameters of those before."""
        last = len(self.spaces) - 1

        def run(k: int, given: Params, **own: Any) -> Params | float:
            params = {**given, **own}
            if k == last and rng.random() < self.flaky:
                raise HiddenError
            if self.failing is not None and k in self.failing and self.failing[k](params):
                raise HiddenError
            return self.value(params) if k == last else params

        def made(k: int) -> Any:
            def call(given: Params, **own: Any) -> Params | float:
                return run(k, given, **own)

            def cost(**_: Any) -> float:
                return self.costs[k]

            return stage(space=self.spaces[k], name=f"s{k}", version="1", cost=cost, retries=0)(
                call
            )

        return Pipeline([made(k) for k in range(last + 1)])


class Bowl:
    """A wavy bowl over the unit cube, 0 at its optimum.

    Args:
        rng: Draws it.
        names: Its coordinates.

    Attributes:
        at: Where the optimum is: each coordinate is between .4 and .7.
    """

    def __init__(self, rng: np.random.Generator, names: Sequence[str]) -> None:
        d = len(names)
        self.at = dict(zip(names, rng.uniform(0.4, 0.7, d).tolist(), strict=True))
        self._steepness = rng.uniform(1.0, 4.0, d)
        self._mixing = rng.normal(size=d)
        self._waves = rng.uniform(0.0, 0.1, d)

    def __call__(self, params: Params) -> float:
        """Its value."""
        away = np.array([params[name] - at for name, at in self.at.items()])
        waves = self._waves @ (1.0 - np.cos(4.0 * np.pi * away))
        return float(self._steepness @ away**2 + (self._mixing @ away) ** 2 + waves)


def unit(names: Sequence[str]) -> Space:
    """Numbers between 0 and 1."""
    return {name: Float(0.0, 1.0) for name in names}


# How far from the region that fails the optimum is.
MARGIN = 0.03
FLAT = ("x", "y", "z")


def half_space(rng: np.random.Generator, flaky: float = 0.0) -> Problem:
    """One parameter above a limit fails."""
    bowl = Bowl(rng, FLAT)

    def fails(params: Params) -> bool:
        return bool(params["x"] > bowl.at["x"] + MARGIN)

    return Problem([unit(FLAT)], [1.0], bowl, failing={0: fails}, flaky=flaky)


def edge(rng: np.random.Generator) -> Problem:
    """The larger a parameter, the better, and above a limit it fails."""
    bowl, limit, slope = Bowl(rng, ("y", "z")), rng.uniform(0.3, 0.8), rng.uniform(0.5, 3.0)

    def value(params: Params) -> float:
        return bowl(params) + slope * (limit - params["x"])

    return Problem([unit(FLAT)], [1.0], value, failing={0: lambda p: p["x"] > limit})


def corner(rng: np.random.Generator) -> Problem:
    """Two parameters above a limit each fail."""
    bowl = Bowl(rng, FLAT)

    def fails(params: Params) -> bool:
        return bool(params["x"] > bowl.at["x"] + MARGIN and params["y"] > bowl.at["y"] - 0.1)

    return Problem([unit(FLAT)], [1.0], bowl, failing={0: fails})


def choice(rng: np.random.Generator) -> Problem:
    """One choice of four fails, and would be the best one."""
    bowl = Bowl(rng, FLAT)
    offsets = dict(zip("abcd", rng.permutation([-0.3, 0.0, 0.1, 0.3]).tolist(), strict=True))
    space = {**unit(FLAT), "kind": Categorical(list(offsets))}

    def value(params: Params) -> float:
        return bowl(params) + offsets[params["kind"]]

    return Problem([space], [1.0], value, failing={0: lambda p: offsets[p["kind"]] < 0})


def memory(rng: np.random.Generator) -> Problem:
    """A product of two sizes has a limit, and the larger it is, the better."""
    bowl, limit, lean = Bowl(rng, ("rate", "share")), rng.uniform(0.9, 1.3), rng.uniform(-0.2, 0.2)
    space = {
        "batch": Int(8, 1024, log=True),
        "width": Int(16, 2048, log=True),
        "rate": Float(1e-5, 1e-1, log=True),
        "share": Float(0.0, 1.0),
    }

    def sizes(params: Params) -> tuple[float, float]:
        return math.log2(params["batch"] / 8) / 7, math.log2(params["width"] / 16) / 7

    def value(params: Params) -> float:
        batch, width = sizes(params)
        lacks = limit + 0.4 - batch - width
        others = {"rate": 1.25 + math.log10(params["rate"]) / 4, "share": params["share"]}
        return lacks**2 + 0.5 * (batch - width - lean) ** 2 + bowl(others)

    def fails(params: Params) -> bool:
        return sum(sizes(params)) > limit

    return Problem([space], [1.0], value, 0.16, failing={0: fails})


def flaky(rng: np.random.Generator) -> Problem:
    """A tenth of all trials fails."""
    return Problem([unit(FLAT)], [1.0], Bowl(rng, FLAT), flaky=0.1)


STAGES = (("a", "b"), ("c", "d"), ("e", "f"))


def staged(rng: np.random.Generator, number: int) -> Problem:
    """Three stages, of which one fails.

    Args:
        rng: Draws the problem.
        number: Which one.
    """
    bowl = Bowl(rng, [name for each in STAGES for name in each])
    names = ("a",) if number == 0 else ("a", STAGES[number][0])
    limit = sum(bowl.at[name] for name in names) + MARGIN

    def fails(params: Params) -> bool:
        return sum(params[name] for name in names) > limit

    costs = [1.0, 3.0, 6.0] if number == 0 else [4.0, 5.0, 1.0]
    return Problem([unit(each) for each in STAGES], costs, bowl, failing={number: fails})


PROBLEMS: dict[str, Callable[[np.random.Generator], Problem]] = {
    "half-space": half_space,
    "edge": edge,
    "corner": corner,
    "choice": choice,
    "memory": memory,
    "flaky": flaky,
    "flaky-half-space": partial(half_space, flaky=0.1),
    "early": partial(staged, number=0),
    "late": partial(staged, number=2),
}


def tuner_of(solver: str, pipeline: Pipeline, budget: float | None, seed: int) -> Tuner:
    """The tuner of a solver."""
    method = {
        "tpe": optuna.samplers.TPESampler(seed=seed, n_startup_trials=WARM_UP),
        "worst": "ei",
    }.get(solver, solver)
    return Tuner(
        pipeline,
        budget=budget,
        direction="minimize",
        method=method,
        n_initial=WARM_UP,
        seed=seed,
        max_failures=TRIALS,
    )


def worst_valued(standard: StandardValues) -> np.ndarray:
    """The values in which a failure counts as the worst value so far."""
    values = (standard.history.values - standard.middle) / standard.unit
    return np.nan_to_num(values, nan=float(np.nanmin(values)))


def study_of(solver: str, problem: Problem, seed: int) -> optuna.Study:
    """One run."""
    pipeline = problem.pipeline(np.random.default_rng([seed, 1]))
    several = len(problem.spaces) > 1
    budget = WHOLE_TRIALS * sum(problem.costs) if several else None
    with ExitStack() as changed:
        if solver == "worst":
            changed.enter_context(patch.object(StandardValues, "values", property(worst_valued)))
            changed.enter_context(patch.object(SuccessChances, "feasibility", None))
        tuner = tuner_of(solver, pipeline, budget, seed)
        return tuner.run({}, max_trials=None if several else TRIALS, progress=False)


def outcome(problem: Problem, study: optuna.Study) -> list[float]:
    """Failures in percent, their share of the cost, and the logarithm of the regret."""
    trials = study.trials
    failed = [trial.state is optuna.trial.TrialState.FAIL for trial in trials]
    costs = np.array([trial.user_attrs["charged"] for trial in trials])
    values = [trial.values[0] for trial in trials if trial.values]
    regret = max(min(values, default=math.inf) - problem.optimum, LEAST_REGRET)
    return [
        100.0 * float(np.mean(failed[WARM_UP:])),
        100.0 * float(costs[failed].sum() / costs.sum()),
        math.log10(regret),
    ]


def figures(options: argparse.Namespace) -> Iterator[Figure]:
    """The means over seeds."""
    for name in options.problems:
        for solver in options.solvers:
            rows = []
            for seed in range(options.first, options.first + options.seeds):
                problem = PROBLEMS[name](np.random.default_rng([seed, 0]))
                rows.append(outcome(problem, study_of(solver, problem, seed)))
            if options.each:
                each = {"problem": name, "solver": solver, "first": options.first, "rows": rows}
                print(json.dumps(each), flush=True)
            means = np.mean(rows, axis=0)
            of = f"{name}, {solver}"
            yield Figure(f"{of}, trials that fail", float(means[0]), "%")
            yield Figure(f"{of}, cost of trials that fail", float(means[1]), "%")
            yield Figure(f"{of}, log10 of the regret", float(means[2]), "")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = arguments_of(__doc__)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    solvers = ("eeipu", "ei", "worst", "tpe")
    parser.add_argument("--solvers", nargs="+", choices=solvers, default=list(solvers))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--each", action="store_true", help="print the rows of all seeds too")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    show(figures(arguments()))
