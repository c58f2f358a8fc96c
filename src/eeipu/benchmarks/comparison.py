"""Running methods side by side on problems whose costs are declared, and summing up.

Every method gets the same budget for a seed, a multiple of what independent warm-up points cost
when nothing is reused, and those points as its warm-up, unless it is asked to choose its own.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import joblib
import numpy as np
import optuna

from eeipu.benchmarks.synthetic import PIPELINES
from eeipu.cache import StageCache
from eeipu.pipeline import Pipeline
from eeipu.tuner import Tuner

__all__ = ["Contender", "Outcome", "Summary", "compare", "summarize"]


@dataclass(frozen=True)
class Contender:
    """A method, with or without a cache."""

    method: str
    cached: bool

    @classmethod
    def parse(cls, text: str) -> "Contender":
        """From `"eeipu+cache"` or `"ei"`."""
        method, plus, cache = text.partition("+")
        if plus and cache != "cache":
            raise ValueError(f"{text!r} is neither a method nor a method with '+cache' behind it.")
        return cls(method, bool(plus))

    def __str__(self) -> str:
        return f"{self.method}+cache" if self.cached else self.method


@dataclass(frozen=True)
class Outcome:
    """What one contender reached on one problem with one seed.

    Attributes:
        problem: The problem's name; `contender`: who ran; `seed`: of warm-up and search.
        candidates: Trials within the budget.
        share: The share of the possible gain: (best - start) / (optimum - start), where the start
            is the best of the independent warm-up points.
        optimiser_s: Seconds that suggestions took.
    """

    problem: str
    contender: Contender
    seed: int
    candidates: int
    share: float
    optimiser_s: float


@dataclass(frozen=True)
class Summary:
    """Means over seeds (and problems), with 95 % intervals' half widths.

    Attributes:
        candidates: Mean number of trials; `share`: mean share of the possible gain.
        missed: Geometric mean of `1 - share`, which tells apart those that come close.
        optimiser_s: Mean seconds of all suggestions of a run.
    """

    runs: int
    candidates: float
    share: float
    share_half_width: float
    missed: float
    optimiser_s: float


def run(
    problem: str,
    contender: Contender,
    seed: int,
    *,
    n_initial: int,
    budget_factor: float,
    own_warm_up: bool = False,
) -> Outcome:
    """One run of one contender."""
    # Here, since workers start with the default.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    synthetic = PIPELINES[problem]
    warm_up = _warm_up(synthetic.pipeline, seed, n_initial)
    tuner = Tuner(
        synthetic.pipeline,
        budget=budget_factor * warm_up.spent,
        method=contender.method,
        n_initial=n_initial,
        cache=StageCache() if contender.cached else None,
        seed=seed,
    )
    if not own_warm_up:
        for trial in warm_up.study.trials:
            tuner.enqueue(trial.params)
    study = tuner.run(0.0, progress=False)
    values = [trial.value for trial in study.trials if trial.value is not None]
    start = warm_up.study.best_value
    return Outcome(
        problem,
        contender,
        seed,
        candidates=len(values),
        share=(max(values) - start) / (synthetic.optimum - start),
        optimiser_s=math.fsum(trial.user_attrs["suggest_s"] for trial in study.trials),
    )


def _warm_up(pipeline: Pipeline, seed: int, n_initial: int) -> Tuner:
    """Independent points, evaluated one by one without a cache."""
    tuner = Tuner(
        pipeline, budget=1e12, method="random", n_initial=n_initial, cache=None, seed=seed
    )
    tuner.run(0.0, max_trials=n_initial, progress=False)
    return tuner


def compare(
    problems: Sequence[str],
    contenders: Sequence[Contender],
    seeds: Iterable[int],
    *,
    n_initial: int = 11,
    budget_factor: float = 3.0,
    own_warm_up: bool = False,
    jobs: int = 1,
) -> list[Outcome]:
    """All contenders on all problems with all seeds, `jobs` processes at a time."""
    tasks = [
        joblib.delayed(run)(
            problem,
            contender,
            seed,
            n_initial=n_initial,
            budget_factor=budget_factor,
            own_warm_up=own_warm_up,
        )
        for seed in seeds
        for problem in problems
        for contender in contenders
    ]
    outcomes: list[Outcome] = joblib.Parallel(n_jobs=jobs)(tasks)
    return outcomes


def summarize(outcomes: Sequence[Outcome]) -> Summary:
    """Means over some outcomes of one contender."""
    shares = np.array([outcome.share for outcome in outcomes])
    spread = shares.std(ddof=1) if len(shares) > 1 else math.nan
    return Summary(
        runs=len(outcomes),
        candidates=float(np.mean([outcome.candidates for outcome in outcomes])),
        share=float(shares.mean()),
        share_half_width=float(1.96 * spread / math.sqrt(len(shares))),
        # A run that ends at the optimum would make the mean zero.
        missed=float(np.exp(np.log(np.maximum(1.0 - shares, 1e-6)).mean())),
        optimiser_s=float(np.mean([outcome.optimiser_s for outcome in outcomes])),
    )
