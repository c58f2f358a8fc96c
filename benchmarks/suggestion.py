"""The time of a suggestion, the quality of its maximum, and its memory.

Everything runs on one thread. Times are ratios within one run: the time of a whole EEIPU suggestion
(GP fits of the objective and all stages, maximisation over all prefixes) divided by that of a plain
BoTorch suggestion on the same data (`SingleTaskGP` fitted from scratch, `optimize_acqf` of log EI
with 10 restarts and 512 raw samples; the median of five). As in a search, there is one trial more
for every suggestion, and not every suggestion fits the models again: the time is the mean over as
many suggestions as there are between two fits. `growth.py` has the times for thousands of trials.
Run `python benchmarks/suggestion.py [--json]`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import math
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
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

from eeipu import EEIPUSampler, Float, Pipeline
from eeipu.methods.budget import Budget
from eeipu.methods.catalogue import METHODS
from eeipu.methods.history import History
from eeipu.methods.maximisation import maximize
from eeipu.methods.reuse.kept_parts import KeptParts
from eeipu.methods.search_models import REFIT_GROWTH
from eeipu.methods.search_state import Search

REPEATS = 5
PROBLEMS = 100


class AllKept:
    """A cache that holds everything."""

    def __contains__(self, key: object) -> bool:
        return True


def pipeline_of(K: int, d: int) -> Pipeline:
    """K stages that share d parameters as evenly as can be."""
    parts = np.array_split(np.arange(d), K)
    return Pipeline.declare(
        {f"s{k}": {f"x{i}": Float(0.0, 1.0) for i in part} for k, part in enumerate(parts)}
    )


def history_of(pipeline: Pipeline, n: int, seed: int) -> History:
    """N random trials of a wavy objective with wavy costs."""
    rng = np.random.default_rng(seed)
    d, names = len(pipeline.space), list(pipeline.space)
    weights, waves = rng.normal(size=d), rng.uniform(1.0, 6.0, size=d)
    study = optuna.create_study(direction="maximize")
    for number, x in enumerate(rng.random((n, d))):
        coupled = np.sin(x.sum()) if d > 1 else 0.0
        value = float(weights @ np.sin(waves * x) + coupled)
        costs = [
            float(np.exp(np.sin(3 * x[list(columns)]).sum())) for columns in pipeline.stage_columns
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
                },
            )
        )
    return History.of(study, pipeline)


def seconds(function: Callable[[], object]) -> float:
    """How long a call keeps the processor busy, which others that use it cannot change."""
    start = time.process_time()
    function()
    return time.process_time() - start


def suggestion_seconds(method: str, K: int, d: int, q: int, n: int) -> float:
    """The mean time of suggestions up to `n` trials, one trial more for each of them.

    There are as many as there are between two fits, so that one of them fits the models.
    """
    pipeline = pipeline_of(K, d)
    history = history_of(pipeline, n, seed=0)
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
        sampler._choose(replace(history, ended=history.ended[:trials]), trials)

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
    history = history_of(pipeline_of(K, d), n, seed=0)
    plain = median(seconds(lambda: plain_ei(history)) for _ in range(REPEATS))
    ours = suggestion_seconds("eeipu", K, d, q, n)
    return ours / plain, ours


def maximum_gap(seed: int) -> float:
    """By how much a 20 times larger search finds a larger acquisition value, in its logarithm."""
    rng = np.random.default_rng(seed)
    K, n = int(rng.integers(2, 5)), int(rng.integers(15, 60))
    pipeline = pipeline_of(K, d=int(rng.integers(K, 9)))
    history = history_of(pipeline, n, seed)
    # So much of the budget is spent that a random share of it is left.
    budget = history.spent / (1.0 - float(rng.uniform(0.1, 1.0)))
    search = Search(history, Budget(budget), n_initial=0, number=n, seed=seed)
    score = METHODS["eeipu"].score
    assert score is not None
    top = history.top(5)
    pool = KeptParts(pipeline, top, AllKept(), history.is_new).listed
    incumbents = pipeline.cube.encode([trial.params for trial in top])
    best = [
        next(
            maximize(score(search), pipeline.cube, pool, seed=s, incumbents=incumbents, effort=e)
        ).score
        for s, e in ((seed, 1), (seed + 1000, 20))
    ]
    return best[1] - best[0]


def peak_gib(n: int) -> float:
    """The peak memory of a process that makes one suggestion after n trials."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_suggest_once, (n,))


def _suggest_once(n: int) -> float:
    warnings.simplefilter("ignore")
    pipeline = pipeline_of(3, 7)
    sampler = EEIPUSampler(pipeline, budget=1e9, cache=AllKept(), seed=0)
    sampler._choose(history_of(pipeline, n, seed=0), n)
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
    value, suggestion_s = ratio(K=10, d=30, q=10, n=100)
    yield at_most("suggestion / plain EI, K=10 d=30 Q=10 n=100", value, "ratio", 0.5)
    yield Figure("suggestion, K=10 d=30 Q=10 n=100", suggestion_s, "s")
    gaps = [maximum_gap(seed) for seed in range(PROBLEMS)]
    close = 100.0 * np.mean(np.array(gaps) <= 1e-2)
    yield at_least(f"maxima within 1e-2 of a 20x search, {PROBLEMS} problems", close, "%", 97.0)
    yield Figure("largest gap to a 20x search", max(gaps), "log")
    yield at_most("peak memory at n=2000", peak_gib(2000), "GiB", 1.0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    show(figures())
