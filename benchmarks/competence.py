"""How near a search comes to the optimum in a given number of trials, beside other optimisers.

One stage of a declared cost, so that nothing but the choice of configurations counts: ten standard
functions and two mixed spaces, minimised. Each solver begins with ten trials of its own design.
The figure is the median regret (best value so far minus the optimum) over seeds.

The solvers are EEIPU, Optuna's TPE and GP samplers with their defaults, and BoTorch's defaults:
`SingleTaskGP` and `optimize_acqf` of log EI with 10 restarts and 512 raw samples, after scrambled
Sobol points (numeric spaces only).

Cases that may lead a search astray:
    clean: The function as it is.
    tail: A quarter of the space has the value `--bad` (1e4 by default).
    noise: Normal noise with `--noise` times the function's deviation over the space (.1). The
        regret is that of the noise-free values.
    failing: That quarter of the space, a corner, raises an error.
    hole: A disc of an eighth of the space raises an error; the optimum may be at its edge.
    stripes: A third of the space, in three diagonal stripes, raises an error.
    island: All raises an error but an ellipse of a sixth of the space.
    flaky: A fifth of all trials raises an error, wherever they are.

Run `python benchmarks/competence.py [--json] [--functions branin hartmann6] [--seeds 5]
[--solvers eeipu optuna-gp] [--trials 20 40] [--case tail] [--each]`. A seed of one function takes a
quiet processor 3 s for EEIPU, 5 s for Optuna's GP sampler, 9 s for BoTorch and .2 s for TPE: all of
it 35 minutes.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import argparse
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
import torch
from botorch import test_functions
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from figures import Figure, arguments_of, at_most, show
from gpytorch.mlls import ExactMarginalLogLikelihood
from optuna.distributions import BaseDistribution

from eeipu import Categorical, Float, Int, Pipeline, Tuner, stage
from eeipu.methods.climbing.maximisation import quasi_random

WARM_UP = 10
STAGE = "evaluate"
Params = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """A function to minimise.

    Attributes:
        space: Its parameters.
        function: Parameters -> value.
        optimum: Its least value.
    """

    space: dict[str, BaseDistribution]
    function: Callable[[Params], float]
    optimum: float

    @cached_property
    def pipeline(self) -> Pipeline:
        """Its space as that of a pipeline of one stage."""
        return Pipeline.declare({STAGE: self.space})

    @cached_property
    def deviation(self) -> float:
        """The standard deviation of its values over the space."""
        points = quasi_random(len(self.space), 512, seed=0)
        return float(np.std([self.function(self.at(point)) for point in points]))

    def at(self, point: np.ndarray) -> Params:
        """The parameters of a point of the unit cube."""
        params = self.pipeline.cube.decode(point)
        return {name.partition(".")[2]: value for name, value in params.items()}

    def place(self, params: Params) -> np.ndarray:
        """The point of the unit cube of some parameters."""
        named = {f"{STAGE}.{name}": value for name, value in params.items()}
        point: np.ndarray = self.pipeline.cube.encode([named])[0]
        return point


def standard(
    name: str,
    low: float | None = None,
    high: float | None = None,
    optimum: float | None = None,
    **more: Any,
) -> Problem:
    """A test function of BoTorch's.

    Args:
        name: Its class.
        low: With `high`, its domain in each coordinate, instead of its own: the optimum must not
            be the centre, where designs begin.
        high: See `low`.
        optimum: Its least value, if BoTorch has rounded it.
        more: Further arguments.
    """
    bounds = None if low is None else [(low, high)] * more["dim"]
    function = getattr(test_functions, name)(**more, bounds=bounds)
    edges = function.bounds.double().T.tolist()
    names = [f"x{i}" for i in range(len(edges))]

    def value(params: Params) -> float:
        x = torch.tensor([params[name] for name in names], dtype=torch.double)
        return float(function.evaluate_true(x[None]))

    space = {name: Float(*edge) for name, edge in zip(names, edges, strict=True)}
    return Problem(space, value, function.optimal_value if optimum is None else optimum)


def training() -> Problem:
    """Six parameters like those of a training: the right rate depends on two of the others."""
    best_rate = {"adam": 1e-3, "sgd": 5e-2, "lion": 2e-4}
    penalty = {"adam": 0.05, "sgd": 0.0, "lion": 0.12}

    def value(params: Params) -> float:
        kind, layers, width = params["optimiser"], params["layers"], params["width"]
        off = math.log10(params["rate"] / best_rate[kind]) + 0.25 * math.log2(params["batch"] / 64)
        return (
            penalty[kind]
            + 0.3 * off**2
            + 0.02 * (layers - 5) ** 2
            + 0.1 * math.log2(width / 128) ** 2
            + 0.8 * (params["dropout"] - 0.15 - 0.03 * layers) ** 2
        )

    space = {
        "rate": Float(1e-5, 1.0, log=True),
        "dropout": Float(0.0, 0.8),
        "layers": Int(1, 8),
        "width": Int(8, 1024, log=True),
        "batch": Categorical([16, 64, 256]),
        "optimiser": Categorical(list(best_rate)),
    }
    return Problem(space, value, 0.0)


def switched() -> Problem:
    """Four parameters; a choice decides which of three different surfaces the others are on."""

    def value(params: Params) -> float:
        x, y, k = params["x"], params["y"], params["k"]
        surface = {
            "bowl": (x - 0.7) ** 2 + (y - 0.2) ** 2 + 0.15,
            "waves": 0.6 - 0.5 * math.sin(5 * x + 0.6) * math.cos(4 * (y - 0.6)) + 0.1 * x,
            "valley": 2.0 * (y - x**2) ** 2 + 0.3 * (x - 0.35) ** 2,
        }[params["surface"]]
        return surface + 0.01 * (k - 7) ** 2

    space = {
        "x": Float(0.0, 1.0),
        "y": Float(0.0, 1.0, step=0.0025),
        "k": Int(0, 12),
        "surface": Categorical(["bowl", "waves", "valley"]),
    }
    return Problem(space, value, 0.0)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "branin": lambda: standard("Branin"),
    "camel": lambda: standard("SixHumpCamel", optimum=-1.0316284534898774),
    "michalewicz2": lambda: standard("Michalewicz", dim=2),
    "hartmann3": lambda: standard("Hartmann", dim=3),
    "rosenbrock3": lambda: standard("Rosenbrock", dim=3),
    "levy4": lambda: standard("Levy", dim=4),
    "shekel4": lambda: standard("Shekel"),
    "styblinski4": lambda: standard("StyblinskiTang", dim=4),
    "ackley4": lambda: standard("Ackley", low=-5.0, high=10.0, dim=4),
    "hartmann6": lambda: standard("Hartmann", dim=6),
    "training": training,
    "switched": switched,
}
MIXED = ("training", "switched")


def _corner(point: np.ndarray) -> bool:
    return bool(point[0] + point[-1] > 2.0 - math.sqrt(0.5))


def _hole(point: np.ndarray) -> bool:
    return bool(np.hypot(point[0] - 0.65, point[1] - 0.35) < 0.2)


def _stripes(point: np.ndarray) -> bool:
    return math.sin(6.0 * math.pi * (point[0] + point[1])) > 0.5


def _sea(point: np.ndarray) -> bool:
    return bool(np.hypot((point[0] - 0.45) / 0.25, (point[1] - 0.65) / 0.2) > 1.0)


FAILING: dict[str, Callable[[np.ndarray], bool]] = {
    "failing": _corner,
    "hole": _hole,
    "stripes": _stripes,
    "island": _sea,
}
"""Where trials fail in a case, as a function of the point of the unit cube."""


class TrialFailedError(Exception):
    """What a failing configuration raises."""


@dataclass
class Evaluation:
    """A problem as a solver sees it: it may be spoilt, and notes the true values.

    Attributes:
        problem: The problem.
        case: How it is spoilt.
        bad: The value of the bad quarter in the case `tail`.
        noise: The deviation of the noise, as a share of the function's.
        rng: For noise and failures.
    """

    problem: Problem
    case: str
    bad: float
    noise: float
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.values: list[float] = []

    def __call__(self, params: Params) -> float:
        """What a solver is told.

        Raises:
            TrialFailedError: The trial has failed.
        """
        value = self.problem.function(params)
        point = self.problem.place(params)
        fails = self.case in FAILING and FAILING[self.case](point)
        fails = fails or (self.case == "flaky" and self.rng.random() < 0.2)
        spoilt = fails or (self.case == "tail" and _corner(point))
        self.values.append(math.inf if spoilt else value)
        if fails:
            raise TrialFailedError
        if spoilt:
            return self.bad
        if self.case == "noise":
            value += self.noise * self.problem.deviation * self.rng.normal()
        return value

    @property
    def failures(self) -> int:
        """The number of trials that have failed after the first ones."""
        return sum(map(math.isinf, self.values[WARM_UP:]))

    def regrets(self, counts: list[int]) -> list[float]:
        """The regret after these numbers of trials."""
        best = np.minimum.accumulate(self.values) - self.problem.optimum
        return [float(max(best[count - 1], 0.0)) for count in counts]


def eeipu(evaluate: Evaluation, trials: int, seed: int) -> None:
    """This package."""

    def evaluated(**params: Any) -> float:
        return evaluate(params)

    def cost(**_: Any) -> float:
        return 1.0

    only = stage(space=evaluate.problem.space, name=STAGE, version="1", cost=cost, retries=0)
    tuner = Tuner(Pipeline([only(evaluated)]), direction="minimize", cache=None, seed=seed)
    while len(evaluate.values) < trials:  # ten failures in a row end a run
        tuner.run(max_trials=trials - len(evaluate.values), progress=False)


def by_optuna(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> "Solver":
    """A sampler of Optuna's."""

    def solve(evaluate: Evaluation, trials: int, seed: int) -> None:
        def objective(trial: optuna.Trial) -> float:
            space = evaluate.problem.space
            return evaluate({n: trial._suggest(n, each) for n, each in space.items()})

        study = optuna.create_study(sampler=sampler(seed))
        study.optimize(objective, n_trials=trials, catch=TrialFailedError)

    return solve


def botorch(evaluate: Evaluation, trials: int, seed: int) -> None:
    """BoTorch's defaults. A failure counts as the worst value."""
    d = len(evaluate.problem.space)
    torch.manual_seed(seed)
    X = torch.empty(0, d, dtype=torch.double)
    told: list[float] = []
    for number in range(trials):
        if number < WARM_UP:
            x = torch.from_numpy(quasi_random(d, 1, seed, skip=number))
        else:
            x = _by_log_ei(X, torch.tensor(told, dtype=torch.double))
        try:
            value = -evaluate(evaluate.problem.at(x[0].numpy()))
        except TrialFailedError:
            value = math.nan
        X = torch.cat([X, x])
        told.append(value)


def _by_log_ei(X: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    y = told.nan_to_num(float(np.nanmin(told.numpy())))[:, None]
    model = SingleTaskGP(X, y)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    bounds = torch.tensor([[0.0], [1.0]], dtype=torch.double).expand(2, X.shape[-1])
    score = LogExpectedImprovement(model, y.max())
    x, _ = optimize_acqf(score, bounds, q=1, num_restarts=10, raw_samples=512)
    return x.detach()


Solver = Callable[[Evaluation, int, int], None]
SOLVERS: dict[str, Solver] = {
    "eeipu": eeipu,
    "optuna-gp": by_optuna(lambda seed: optuna.samplers.GPSampler(seed=seed)),
    "botorch": botorch,
    "tpe": by_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed)),
}


def regrets(options: argparse.Namespace, problem: Problem, solver: str) -> np.ndarray:
    """The regret of each seed after each number of trials, and its failures: `seeds x counts + 1`.

    Failures are those after the first ten trials.
    """
    rows = []
    for seed in range(options.first, options.first + options.seeds):
        rng = np.random.default_rng([seed, 1])
        evaluate = Evaluation(problem, options.case, options.bad, options.noise, rng)
        SOLVERS[solver](evaluate, max(options.trials), seed)
        rows.append([*evaluate.regrets(options.trials), float(evaluate.failures)])
    return np.array(rows)


def figures(options: argparse.Namespace) -> Iterator[Figure]:
    """The median regrets of all solvers on all functions, EEIPU's last."""
    solvers = sorted(options.solvers, key=lambda name: name == "eeipu")
    for function in options.functions:
        problem = PROBLEMS[function]()
        best = [math.inf] * len(options.trials)
        for solver in solvers:
            if solver == "botorch" and function in MIXED:
                continue
            table = regrets(options, problem, solver)
            if options.case in FAILING:
                name = f"{function} {options.case}, failures after the first ten trials, {solver}"
                yield Figure(name, float(table[:, -1].mean()), "trials")
            for i, count in enumerate(options.trials):
                value = float(np.median(table[:, i]))
                name = f"{function} {options.case}, {count} trials, {solver}"
                is_ours = solver == "eeipu" and math.isfinite(best[i])
                yield (
                    at_most(name, value, "regret", best[i])
                    if is_ours
                    else Figure(name, value, "regret")
                )
                yield Figure(f"{name}, worst seed", float(table[:, i].max()), "regret")
                if options.each:
                    print(json.dumps({"run": name, "regrets": table[:, i].tolist()}), flush=True)
                if solver in ("optuna-gp", "botorch"):
                    best[i] = min(best[i], value)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = arguments_of(__doc__)
    parser.add_argument("--functions", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trials", nargs="+", type=int, default=[20, 40])
    cases = ("clean", "tail", "noise", "flaky", *FAILING)
    parser.add_argument("--case", choices=cases, default="clean")
    parser.add_argument("--bad", type=float, default=1e4)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--each", action="store_true", help="print each seed's regret too")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    show(figures(arguments()))
