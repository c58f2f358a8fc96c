"""Searches under constraints: how good maxima are, what they cost, and what keeping them is worth.

Everything runs on one thread. The maximum of EEIPU's acquisition under constraints is compared with
the best of 30,000 allowed points and of a maximisation with eight times the effort, over three
stages with one parameter each, under all kept prefixes of five trials. Times are CPU times of
whole suggestions, with constraints divided by without. Regrets are those of 25 trials with declared
costs, medians over seeds: of a pipeline with constraints, and of the same one whose last stage
raises a `ValueError` where they do not hold, which is what users do who have none.
Run `python benchmarks/constraints.py [--json]`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import math
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import optuna
import torch
from figures import Figure, at_least, at_most, show

from eeipu import EEIPUSampler, Float, Pipeline, Tuner, stage
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS
from eeipu.methods.climbing.maximisation import maximize
from eeipu.methods.history import History
from eeipu.methods.reuse.candidates import Reuse
from eeipu.methods.reuse.kept_parts import KeptParts
from eeipu.methods.search_state import Search

PROBLEMS, TRIALS, SEEDS = 10, 15, 5

Constraint = Callable[[dict[str, float]], bool]

KINDS: dict[str, list[Constraint]] = {
    "half a cube": [lambda p: p["s0.x"] + p["s1.x"] + p["s2.x"] <= 1.5],
    "a ball": [lambda p: sum((value - 0.5) ** 2 for value in p.values()) <= 0.09],
    "a slab of 0.2 %": [lambda p: abs(p["s0.x"] - p["s2.x"]) <= 0.001],
    "a corner of 0.1 %": [lambda p: p["s0.x"] >= 0.9 and p["s1.x"] <= 0.1 and p["s2.x"] <= 0.1],
}


class AllKept:
    """A cache that holds everything."""

    def __contains__(self, key: object) -> bool:
        return True


def history_of(pipeline: Pipeline, n: int, seed: int) -> History:
    """Allowed trials of a wavy objective with wavy costs."""
    rng = np.random.default_rng(seed)
    d = len(pipeline.cube)
    weights, waves = rng.normal(size=d), rng.uniform(1.0, 6.0, size=d)
    study = optuna.create_study(direction="maximize")
    for number, x in enumerate(pipeline.feasible.draw(rng, n)):
        costs = [float(np.exp(np.sin(3 * x[list(c)]).sum())) for c in pipeline.columns.of_stages]
        study.add_trial(
            optuna.trial.create_trial(
                value=float(weights @ np.sin(waves * x) + np.sin(x.sum())),
                params=pipeline.cube.decode(x),
                distributions=pipeline.space,
                user_attrs={
                    "stage_keys": [f"{number}-{k}" for k in range(len(costs))],
                    "stage_costs": costs,
                    "charged": sum(costs),
                },
            )
        )
    return History.of(study, pipeline)


def gap(constraints: list[Constraint], seed: int) -> float:
    """How far the maximum found is below the best known one, in the logarithm."""
    spaces = {f"s{k}": {"x": Float(0.0, 1.0)} for k in range(3)}
    pipeline = Pipeline.declare(spaces, constraints=constraints)
    history = history_of(pipeline, TRIALS, seed)
    search = Search(history, Budget(2 * history.spent), 10, TRIALS, seed=seed)
    score = METHODS["eeipu"].score
    assert score is not None
    scored, top = score(search), history.top(5)
    pool = KeptParts(pipeline, top, AllKept(), history.configurations.is_new).listed

    def best(seed: int, effort: int) -> float:
        incumbents = pipeline.cube.encode([trial.params for trial in top])
        found = maximize(
            scored, pipeline.cube, pool, seed=seed, incumbents=incumbents, effort=effort,
            feasible=pipeline.feasible,
        )  # fmt: skip
        return max(candidate.score for candidate in found)

    rng = np.random.default_rng(seed)
    exhaustive = max(scores(scored, pipeline, prefix, rng, 30_000 // len(pool)) for prefix in pool)
    return max(exhaustive, best(seed + 1000, 8)) - best(seed, 1)


def scores(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    pipeline: Pipeline,
    prefix: Reuse,
    rng: np.random.Generator,
    count: int,
) -> float:
    """The best score of many allowed points under a prefix."""
    X = pipeline.feasible.draw(rng, count, fixed=prefix.params)
    memoized = torch.tensor([prefix.memoized])
    with torch.no_grad():
        parts = [
            score(torch.from_numpy(part).unsqueeze(1), memoized.expand(len(part), -1)).max().item()
            for part in np.array_split(X, max(1, len(X) // 512))
            if len(part)
        ]
    return max(parts, default=-math.inf)


def suggestion_seconds(n: int, constraints: list[Constraint]) -> float:
    """The CPU time of a suggestion after `n` trials, the median of five."""
    names = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    spaces = {f"s{k}": {f"x{i}": Float(0.0, 1.0) for i in own} for k, own in enumerate(names)}
    pipeline = Pipeline.declare(spaces, constraints=constraints)
    times = []
    for seed in range(5):
        study = optuna.create_study(direction="maximize")
        study.add_trials(history_of(pipeline, n, seed).ended)
        study.sampler = EEIPUSampler(pipeline, budget=1e3, cache=AllKept(), seed=seed)
        start = time.process_time()
        study.sampler.sample_relative(study, study.ask()._cached_frozen_trial, pipeline.space)
        times.append(time.process_time() - start)
    return median(times)


def regret(constraint: Constraint, seed: int, *, raises: bool) -> float:
    """The regret of a search for the best allowed value of Branin's function."""

    @stage(space={"x": Float(-5.0, 10.0)}, version="1", cost=lambda x: 3.0)  # noqa: ARG005
    def prep(*, x):  # type: ignore[no-untyped-def]
        return x

    @stage(space={"y": Float(0.0, 15.0)}, version="1", cost=lambda y: 1.0)  # noqa: ARG005
    def fit(x, *, y):  # type: ignore[no-untyped-def]
        if raises and not constraint({"prep.x": x, "fit.y": y}):
            raise ValueError
        return -branin(x, y)

    pipeline = Pipeline([prep, fit], constraints=() if raises else [constraint])
    tuner = Tuner(pipeline, budget=1e3, seed=seed)
    study = tuner.run(max_trials=25, progress=False)
    grid = [(x, y) for x in np.linspace(-5, 10, 601) for y in np.linspace(0, 15, 601)]
    best = min(branin(x, y) for x, y in grid if constraint({"prep.x": x, "fit.y": y}))
    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return -best - max((trial.value for trial in done), default=-300.0)


def branin(x: float, y: float) -> float:
    """Branin's function."""
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


REGIONS: dict[str, Constraint] = {
    "a half without the optima": lambda p: p["fit.y"] >= p["prep.x"] + 7 or p["prep.x"] > 9.6,
    "a twentieth, a disc": lambda p: (p["prep.x"] - 1) ** 2 + (p["fit.y"] - 4) ** 2 <= 3.6,
    "a slab of 1 %": lambda p: abs(p["prep.x"] + p["fit.y"] - 8.0) <= 0.075,
}


def figures() -> Iterator[Figure]:
    """All figures."""
    for kind, constraints in KINDS.items():
        gaps = [gap(constraints, seed) for seed in range(PROBLEMS)]
        found = sum(each <= 0.01 for each in gaps) / PROBLEMS
        yield at_least(f"maxima within 1 % of the best known, {kind}", found, "share", 0.9)
        yield Figure(f"largest gap, {kind}", max(gaps), "log")
    for n in (20, 100):
        with_them = suggestion_seconds(n, [lambda p: p["s0.x0"] + p["s4.x9"] <= 1])
        yield at_most(
            f"suggestion with constraints, n={n}",
            with_them / suggestion_seconds(n, []),
            "ratio",
            2.5,
        )
    for name, region in REGIONS.items():
        kept, raised = (
            median(regret(region, seed, raises=raises) for seed in range(SEEDS))
            for raises in (False, True)
        )
        yield at_most(f"regret after 25 trials, {name}", kept, "value", max(0.05, raised))
        yield Figure(f"the same with a stage that raises, {name}", raised, "value")


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    show(figures())
