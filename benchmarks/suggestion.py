"""The time of a suggestion, the quality of its maximum, and its memory, on chains and graphs.

Everything runs on one thread. Times are ratios within one run: the time of a whole EEIPU suggestion
(GP fits of the objective and all stages, maximisation over kept parts) divided by that of a plain
BoTorch suggestion on the same data (`SingleTaskGP` fitted from scratch, `optimize_acqf` of log EI
with 10 restarts and 512 raw samples; the median of five). As in a search, there is one trial more
for every suggestion, and not every suggestion fits the models again: the time is the mean over as
many suggestions as there are between two fits. `growth.py` has the times for thousands of trials.
A suggestion on a graph is compared with one on a chain of as many stages. Its maximum is compared
with that of a search which lists all combinations of kept parts, on graphs where these are few.
Run `python benchmarks/suggestion.py [--json]`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import math
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import optuna
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from figures import Figure, at_least, at_most, show
from gpytorch.mlls import ExactMarginalLogLikelihood
from numpy.typing import NDArray

from eeipu import EEIPUSampler, Float, Pipeline
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS
from eeipu.methods.climbing.maximisation import maximize
from eeipu.methods.climbing.scores import Score
from eeipu.methods.history import History
from eeipu.methods.learning.fits import REFIT_GROWTH
from eeipu.methods.reuse.kept_parts import FULL_EFFORT, KeptParts
from eeipu.methods.search_state import Search
from eeipu.pipeline import INPUTS

REPEATS = 5
PROBLEMS = 100

# Graphs whose combinations of kept parts can all be listed: what each stage gets (the stage before
# it if it is not named), and how many trials are offered.
GRAPHS: dict[str, tuple[int, dict[int, tuple[int, ...]], int]] = {
    "four branches": (5, {1: (), 2: (), 3: (), 4: (0, 1, 2, 3)}, 3),
    "a diamond": (4, {2: (0,), 3: (1, 2)}, 10),
    "two levels of joins": (7, {1: (), 2: (0, 1), 3: (), 4: (), 5: (3, 4), 6: (2, 5)}, 3),
}
GRAPH_PROBLEMS = 33

# Ten stages: two inputs, from which six branches come, and two levels of joins.
WIDE = {1: (), 2: (0,), 3: (0,), 4: (0, 1), 5: (1,), 6: (1,), 7: (2, 3, 4), 8: (5, 6), 9: (7, 8)}


class AllKept:
    """A cache that holds everything."""

    def __contains__(self, key: object) -> bool:
        return True


def pipeline_of(K: int, d: int, given: Mapping[int, Sequence[int]] | None = None) -> Pipeline:
    """K stages that share d parameters as evenly as can be.

    Args:
        K: The number of stages.
        d: The number of parameters.
        given: For the stages that do not get the output of the one before: what they get.
    """
    parts = np.array_split(np.arange(d), K)
    return Pipeline.declare(
        {f"s{k}": {f"x{i}": Float(0.0, 1.0) for i in part} for k, part in enumerate(parts)},
        inputs={
            f"s{k}": tuple(f"s{j}" for j in stages) or (INPUTS,)
            for k, stages in (given or {}).items()
        },
    )


def history_of(
    pipeline: Pipeline, n: int, seed: int, firsts: int = 0, *, shows: bool = False
) -> History:
    """N random trials of a wavy objective with wavy costs.

    Args:
        pipeline: The pipeline.
        n: The number of trials.
        seed: Fixes everything random.
        firsts: If given, the first stage has so many settings in all trials.
        shows: Whether stages show the part of the objective that is certain after them.
    """
    rng = np.random.default_rng(seed)
    d, names = len(pipeline.space), list(pipeline.space)
    weights, waves = rng.normal(size=d), rng.uniform(1.0, 6.0, size=d)
    study = optuna.create_study(direction="maximize")
    X = rng.random((n, d))
    if firsts:
        first = list(pipeline.columns.of_stages[0])
        X[:, first] = X[np.arange(n) % firsts][:, first]
    for number, x in enumerate(X):
        coupled = np.sin(x.sum()) if d > 1 else 0.0
        parts = weights * np.sin(waves * x)
        value = float(weights @ np.sin(waves * x) + coupled)
        ends = [max(columns) + 1 for columns in pipeline.columns.of_stages[:-1]]
        sums = {f"s{k}": float(parts[:end].sum()) for k, end in enumerate(ends)}
        costs = [
            float(np.exp(np.sin(3 * x[list(columns)]).sum()))
            for columns in pipeline.columns.of_stages
        ]
        study.add_trial(
            optuna.trial.create_trial(
                value=value,
                params=dict(zip(names, x.tolist(), strict=True)),
                distributions=pipeline.space,
                user_attrs={
                    "stage_keys": [f"{number}-{k}" for k in range(len(costs))],
                    "stage_costs": costs,
                    "charged": sum(costs),
                    **({"observations": sums} if shows else {}),
                },
            )
        )
    return History.of(study, pipeline)


def seconds(function: Callable[[], object]) -> float:
    """How long a call keeps the processor busy, which others that use it cannot change."""
    start = time.process_time()
    function()
    return time.process_time() - start


def suggestion_seconds(
    method: str, pipeline: Pipeline, q: int, n: int, *, shows: bool = False
) -> float:
    """The mean time of suggestions up to `n` trials, one trial more for each of them.

    There are as many as there are between two fits, so that one of them fits the models.
    """
    history = history_of(pipeline, n, seed=0, shows=shows)
    sampler = EEIPUSampler(
        pipeline,
        budget=2 * history.spent,
        top_q=q,
        cache=AllKept(),
        method=method,
        seed=0,
        n_initial=1,
    )
    count = max(REPEATS, math.ceil(n * (1.0 - 1.0 / REFIT_GROWTH)))

    def suggest(trials: int) -> None:
        sampler._choose(replace(history, ended=history.ended[:trials]), trials, {})

    suggest(n - count)  # the first fit, from the priors
    return seconds(lambda: [suggest(n - count + i) for i in range(1, count + 1)]) / count


def plain_ei(history: History) -> None:
    """One suggestion by BoTorch's defaults."""
    X, y = torch.from_numpy(history.X), torch.from_numpy(history.values).unsqueeze(-1)
    model = SingleTaskGP(X, y)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    bounds = torch.tensor([[0.0], [1.0]], dtype=torch.double).expand(2, X.shape[-1])
    optimize_acqf(
        LogExpectedImprovement(model, y.max()), bounds, q=1, num_restarts=10, raw_samples=512
    )


def ratio(K: int, d: int, q: int, n: int) -> tuple[float, float]:
    """Suggestion time over plain EI's, and in seconds."""
    pipeline = pipeline_of(K, d)
    history = history_of(pipeline, n, seed=0)
    plain = median(seconds(lambda: plain_ei(history)) for _ in range(REPEATS))
    ours = suggestion_seconds("eeipu", pipeline, q, n)
    return ours / plain, ours


def maximum_gap(seed: int) -> float:
    """By how much a 20 times larger search finds a larger acquisition value, in its logarithm."""
    rng = np.random.default_rng(seed)
    K, n = int(rng.integers(2, 5)), int(rng.integers(15, 60))
    pipeline = pipeline_of(K, d=int(rng.integers(K, 9)))
    history = history_of(pipeline, n, seed)
    score, parts, incumbents = maximisation_of(history, rng, seed, q=5)
    pool, cube = parts.listed, pipeline.cube
    best = [
        next(maximize(score, cube, pool, seed=s, incumbents=incumbents, effort=e)).score
        for s, e in ((seed, 1), (seed + 1000, 20))
    ]
    return best[1] - best[0]


def maximisation_of(
    history: History, rng: np.random.Generator, seed: int, q: int
) -> tuple[Score, KeptParts, NDArray[np.float64]]:
    """The score of a search, the kept parts that it is offered, and its incumbents."""
    # So much of the budget is spent that a random share of it is left.
    budget = history.spent / (1.0 - float(rng.uniform(0.1, 1.0)))
    search = Search(history, Budget(budget), n_initial=0, number=len(history), seed=seed)
    score = METHODS["eeipu"].score
    assert score is not None
    top = history.top(q)
    parts = KeptParts(history.pipeline, top, AllKept(), history.configurations.is_new)
    incumbents = history.pipeline.cube.encode([trial.params for trial in top])
    return score(search), parts, incumbents


def gap_on_graph(graph: str, seed: int) -> float:
    """By how much listing all combinations finds a larger acquisition value, in its logarithm."""
    rng = np.random.default_rng(seed)
    K, given, q = GRAPHS[graph]
    pipeline = pipeline_of(K, int(rng.integers(K, 2 * K + 1)), given)
    history = history_of(
        pipeline, int(rng.integers(15, 60)), seed, firsts=2 if graph == "a diamond" else 0
    )
    score, parts, incumbents = maximisation_of(history, rng, seed, q)
    assert not parts.are_all_listed, "the search would list all combinations anyway"
    cube = pipeline.cube
    ours = next(maximize(score, cube, parts.listed, parts=parts, seed=seed, incumbents=incumbents))
    every = parts.reuses(all_combinations(parts))
    best = max(
        next(
            maximize(
                score,
                cube,
                every[start : start + FULL_EFFORT],
                seed=seed + 1000,
                incumbents=incumbents,
                effort=2,
            )
        ).score
        for start in range(0, len(every), FULL_EFFORT)
    )
    return best - ours.score


def all_combinations(parts: KeptParts) -> NDArray[np.int64]:
    """All combinations of kept parts that are offered, however many they are."""
    rows = parts.rows[:1]
    for part in parts.codes:
        joined = np.where(part < 0, rows[parts.agree(rows, part)], part)
        rows = np.unique(np.concatenate([rows, joined]), axis=0)
    return rows[parts.are_offered(rows)]


def peak_gib(n: int) -> float:
    """The peak memory of a process that makes one suggestion after n trials."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_suggest_once, (n,))


def _suggest_once(n: int) -> float:
    warnings.simplefilter("ignore")
    pipeline = pipeline_of(3, 7)
    sampler = EEIPUSampler(pipeline, budget=1e9, cache=AllKept(), seed=0)
    sampler._choose(history_of(pipeline, n, seed=0), n, {})
    # Not getrusage: a process inherits that peak from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def figures() -> Iterator[Figure]:
    """All figures, the ratios first."""
    for n, limit in ((20, None), (50, 0.3), (100, 0.3), (200, None), (400, 0.2)):
        value, suggestion_s = ratio(K=3, d=7, q=5, n=n)
        name = f"suggestion / plain EI, K=3 d=7 Q=5 n={n}"
        yield (
            Figure(name, value, "ratio") if limit is None else at_most(name, value, "ratio", limit)
        )
        yield Figure(f"suggestion, K=3 d=7 Q=5 n={n}", suggestion_s, "s")
    for n in (20, 50, 100, 200):
        times = [
            suggestion_seconds("eeipu", pipeline_of(3, 7), 5, n, shows=shows)
            for shows in (True, False)
        ]
        name = f"suggestion, stages show numbers / show nothing, K=3 d=7 n={n}"
        yield at_most(name, times[0] / times[1], "ratio", 1.5)
    value, suggestion_s = ratio(K=10, d=30, q=10, n=100)
    yield at_most("suggestion / plain EI, K=10 d=30 Q=10 n=100", value, "ratio", 0.5)
    yield Figure("suggestion, K=10 d=30 Q=10 n=100", suggestion_s, "s")
    gaps = [maximum_gap(seed) for seed in range(PROBLEMS)]
    close = 100.0 * np.mean(np.array(gaps) <= 1e-2)
    yield at_least(f"maxima within 1e-2 of a 20x search, {PROBLEMS} problems", close, "%", 97.0)
    yield Figure("largest gap to a 20x search", max(gaps), "log")
    chain = suggestion_seconds("eeipu", pipeline_of(10, 30), 10, 100)
    graph = suggestion_seconds("eeipu", pipeline_of(10, 30, WIDE), 10, 100)
    yield at_most("suggestion, graph / chain of ten stages, n=100", graph / chain, "ratio", 1.5)
    for name in GRAPHS:
        gaps = [gap_on_graph(name, seed) for seed in range(GRAPH_PROBLEMS)]
        close = 100.0 * np.mean(np.array(gaps) <= 1e-2)
        text = f"maxima within 1e-2 of all combinations, {name}"
        yield at_least(text, close, "%", 97.0)
        yield Figure(f"largest gap to all combinations, {name}", max(gaps), "log")
    yield at_most("peak memory at n=2000", peak_gib(2000), "GiB", 1.0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    show(figures())
