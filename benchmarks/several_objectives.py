"""Several objectives, and constraints on outcomes: the hypervolume that a budget buys.

The problems are test functions whose inputs are shared out among stages with declared costs; the
last stage returns all objectives. Every contender has the same budget, and a cache, so that what it
repeats is free:

- `eeipu`: the expected improvement of the hypervolume per unit of the cost that remains,
- `ei`: the same without cost,
- `qlognehvi`: BoTorch's `qLogNoisyExpectedHypervolumeImprovement` on its `SingleTaskGP`s, with its
  inferred reference point (nobody is told the problem's),
- `nsgaii`, `tpe`: Optuna's samplers, which see the constraints.

Printed are, for each problem and contender, the hypervolume above the problem's own reference point
at the end and in the mean over the last two thirds of the budget, as a share of the largest known,
with the mean differences of `eeipu` to the others and half the width of their 95 % intervals.

Runs are kept in a directory as lines of JSON, so that the same command goes on where it was
stopped. Run `python benchmarks/several_objectives.py [--problems ...] [--contenders ...]
[--seeds N] [--budget-factor F] [--out DIR] [--json]`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from botorch import fit_gpytorch_mll
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from botorch.test_functions.multi_objective import (
    C2DTLZ2,
    DTLZ2,
    ZDT1,
    BraninCurrin,
    ConstrainedBraninCurrin,
    VehicleSafety,
)
from botorch.utils.multi_objective.hypervolume import Hypervolume, infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from botorch.utils.sampling import draw_sobol_samples
from figures import Figure, arguments_of
from gpytorch.mlls import ExactMarginalLogLikelihood
from kept_runs import show_kept_runs
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from eeipu import Float, Pipeline, Stage, StageCache, Tuner
from eeipu.benchmarks.analysis.tables import half_width
from eeipu.benchmarks.synthetic.costs import stage_cost

COSTS = (3.0, 2.0, 1.0)
# What the others draw at random before they choose; `eeipu` and `ei` have their usual warm-up.
N_INITIAL = 6
GRID = 301


@dataclass(frozen=True)
class MultiProblem:
    """A test function of BoTorch's, minimised, with its inputs shared out among stages."""

    function: Any
    parts: tuple[int, ...]
    reference: tuple[float, ...] | None = None  # None: the function's own
    largest: float | None = None

    @property
    def count(self) -> int:
        """The number of objectives."""
        return int(self.function.num_objectives)

    @property
    def slacks(self) -> int:
        """The number of constraints."""
        return int(getattr(self.function, "num_constraints", 0))

    def outcomes(self, x: Sequence[float]) -> dict[str, float]:
        """All objectives and constraints at a point of the unit cube."""
        bounds = self.function.bounds
        point = bounds[0] + (bounds[1] - bounds[0]) * torch.tensor(x, dtype=torch.double)
        found = {f"f{m}": v for m, v in enumerate(self.function(point[None])[0].tolist())}
        if self.slacks:
            slack = self.function.evaluate_slack(point[None])[0].tolist()
            found |= {f"slack{j}": v for j, v in enumerate(slack)}
        return found

    def pipeline(self) -> Pipeline:
        """The pipeline, run with the input `()`."""
        return Pipeline(
            [self._stage(k) for k in range(len(self.parts))],
            objective=[f"f{m}" for m in range(self.count)],
            outcome_constraints={f"slack{j}": ">= 0" for j in range(self.slacks)},
            name="-".join(map(str, self.parts)),
        )

    def _stage(self, k: int) -> Stage:
        names = [f"x{i}" for i in range(self.parts[k])]
        is_last = k == len(self.parts) - 1

        def pass_on(upstream: tuple[float, ...], **values: float) -> Any:
            x = (*upstream, *(values[name] for name in names))
            return self.outcomes(x) if is_last else x

        def cost(**values: float) -> float:
            return COSTS[k] * stage_cost(np.array([values[name] for name in names]), stage=k)

        space = {name: Float(0.0, 1.0) for name in names}
        return Stage(name=f"s{k}", space=space, function=pass_on, version="1", cost=cost)

    def volume(self, values: np.ndarray) -> float:
        """The hypervolume of objectives, `n x M`, minimised, as a share of the largest known."""
        own = self.function.ref_point if self.reference is None else self.reference
        reference = torch.as_tensor(own).double()
        points = -torch.from_numpy(values).double()
        points = points[(points > -reference).all(-1)]
        if len(points) == 0:
            return 0.0
        front = points[is_non_dominated(points)]
        largest = self.function.max_hv if self.largest is None else self.largest
        return float(Hypervolume(-reference).compute(front) / largest)


def double(function: Any) -> Any:
    """The function in double precision."""
    return function.to(torch.double)


PROBLEMS = {
    "dtlz2": MultiProblem(double(DTLZ2(dim=6, num_objectives=2)), (2, 2, 2)),
    # Its own reference point is so far away that the two ends are worth nearly everything.
    "zdt1": MultiProblem(
        double(ZDT1(dim=5, num_objectives=2)), (2, 2, 1), (1.1, 1.1), 1.21 - 1.0 / 3.0
    ),
    "branin-currin": MultiProblem(double(BraninCurrin()), (1, 1)),
    "vehicle-safety": MultiProblem(double(VehicleSafety()), (2, 2, 1)),
    "c2dtlz2": MultiProblem(double(C2DTLZ2(dim=4, num_objectives=2)), (1, 2, 1)),
    "constrained-branin-currin": MultiProblem(double(ConstrainedBraninCurrin()), (1, 1)),
}


class NehviSampler(BaseSampler):
    """BoTorch's qLogNEHVI on its usual models, without cost."""

    def __init__(self, problem: MultiProblem, pipeline: Pipeline, seed: int) -> None:
        self._problem, self._pipeline, self._seed = problem, pipeline, seed
        cube = torch.tensor([[0.0] * len(pipeline.space), [1.0] * len(pipeline.space)]).double()
        self._cube = cube
        self._design = draw_sobol_samples(cube, N_INITIAL, 1, seed=seed).squeeze(1)

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:  # noqa: ARG002
        """The whole space."""
        return self._pipeline.space

    def sample_independent(self, *_: Any) -> Any:
        """No other parameters are sampled."""
        raise NotImplementedError

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        """A point of the design, or the maximiser."""
        done = [t for t in study.get_trials(deepcopy=False) if t.values is not None]
        if len(done) < N_INITIAL:
            point = self._design[len(done)]
        else:
            torch.manual_seed(self._seed * 1000 + trial.number)
            point = self._choose(done)
        return dict(zip(search_space, point.tolist(), strict=True))

    def _choose(self, done: list[Any]) -> torch.Tensor:
        names = list(self._pipeline.space)
        X = torch.tensor([[t.params[n] for n in names] for t in done]).double()
        slacks = [f"slack{j}" for j in range(self._problem.slacks)]
        Y = torch.tensor(
            [
                [*(-v for v in t.values), *(-t.user_attrs["metrics"][s] for s in slacks)]
                for t in done
            ]
        ).double()
        models = [
            SingleTaskGP(X, Y[:, k : k + 1], outcome_transform=Standardize(1))
            for k in range(Y.shape[1])
        ]
        for model in models:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        M = self._problem.count
        within = Y[(Y[:, M:] <= 0).all(-1), :M] if slacks else Y
        within = within if len(within) else Y[:, :M]
        constraints = [lambda Z, k=k: Z[..., k] for k in range(M, Y.shape[1])]
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            ModelListGP(*models),
            ref_point=infer_reference_point(within[is_non_dominated(within)]).tolist(),
            X_baseline=X,
            prune_baseline=True,
            sampler=SobolQMCNormalSampler(torch.Size([32]), seed=self._seed),
            objective=IdentityMCMultiOutputObjective(outcomes=list(range(M))),
            constraints=constraints or None,
        )
        point, _ = optimize_acqf(
            acquisition,
            self._cube,
            q=1,
            num_restarts=2,
            raw_samples=64,
            options={"maxiter": 30},
        )
        return point[0]


def method_of(contender: str, problem: MultiProblem, pipeline: Pipeline, seed: int) -> Any:
    """What the tuner is given as its method."""
    match contender:
        case "nsgaii":
            return NSGAIISampler(population_size=12, seed=seed)
        case "tpe":
            return TPESampler(n_startup_trials=N_INITIAL, multivariate=True, seed=seed)
        case "qlognehvi":
            return NehviSampler(problem, pipeline, seed)
        case _:
            return contender


def run(name: str, contender: str, seed: int, factor: float) -> dict[str, Any]:
    """One run, with the hypervolume after each trial."""
    problem = PROBLEMS[name]
    pipeline = problem.pipeline()
    budget = factor * sum(COSTS[: len(problem.parts)])
    began = time.perf_counter()
    tuner = Tuner(
        pipeline,
        budget=budget,
        directions=["minimize"] * problem.count,
        method=method_of(contender, problem, pipeline, seed),
        cache=StageCache(),
        seed=seed,
    )
    study = tuner.run((), progress=False)
    spent, values, curve = 0.0, [], []
    for trial in study.get_trials(deepcopy=False):
        spent += trial.user_attrs["charged"]
        if trial.values is not None and all(v <= 0 for v in trial.constraints.values()):
            values.append(trial.values)
        curve.append([spent, problem.volume(np.array(values)) if values else 0.0])
    seconds = time.perf_counter() - began
    return {
        "problem": name,
        "contender": contender,
        "seed": seed,
        "factor": factor,
        "budget": budget,
        "curve": curve,
        "trials": len(curve),
        "seconds": seconds,
    }


def over_budget(result: dict[str, Any]) -> np.ndarray:
    """The hypervolume at evenly spaced places on the budget."""
    spent, volumes = np.array(result["curve"]).T
    places = np.linspace(0.0, result["budget"], GRID)
    last = np.searchsorted(spent, places, side="right") - 1
    return np.where(last >= 0, volumes[np.maximum(last, 0)], 0.0)


def figures(results: list[dict[str, Any]], problem: str, contenders: list[str]) -> list[Figure]:
    """The hypervolumes of a problem's runs, and the differences of the first contender."""
    found: dict[str, dict[int, np.ndarray]] = {
        c: {r["seed"]: over_budget(r) for r in results if r["contender"] == c} for c in contenders
    }
    seeds = sorted(set.intersection(*(set(each) for each in found.values())))
    if not seeds:
        return []
    measured = {
        c: np.array([[each[s][-1], each[s][GRID // 3 :].mean()] for s in seeds])
        for c, each in found.items()
    }
    shown = []
    for c in contenders:
        for place, column in (("at the end", 0), ("on the way", 1)):
            own = measured[c][:, column]
            shown.append(Figure(f"{problem}: {c}, {place}", float(own.mean()), "share"))
            if c != contenders[0]:
                lead = measured[contenders[0]][:, column] - own
                half = half_width(lead) if len(lead) > 1 else float("nan")
                text = f"{problem}: {contenders[0]} over {c}, {place}, +- {half:.3f}"
                shown.append(Figure(text, float(lead.mean()), "share"))
    return shown


def main() -> None:
    """Run what has not been run, and print the figures."""
    parser = arguments_of(__doc__)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument(
        "--contenders", nargs="+", default=["eeipu", "ei", "qlognehvi", "nsgaii", "tpe"]
    )
    parser.set_defaults(seeds=5, budget_factor=20.0, out=Path("runs/several_objectives"))
    show_kept_runs(parser, run, figures)


if __name__ == "__main__":
    main()
