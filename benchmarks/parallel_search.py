"""The quality of a search with many workers, and the number of workers that one driver can serve.

Quality: EEIPU with a cache on synthetic pipelines, with 1, 2, 4 and 8 workers and the same budget,
in virtual time, in which suggestions take no time. The figure is the share of the possible gain
over independent warm-up points. It counts only trials that the budget has paid for, not those that
are still running when it is spent.

Scale: the processor seconds on one thread of a suggestion after n trials and beside 1,000 running
ones, and of the driver for each trial. From both follows the shortest duration of trials for which
1,000 workers are idle at most 10 % of the time, with batches of suggestions and without.

Run `python benchmarks/parallel_search.py [--json] [--seeds 10] [--problems 2] [--no-scale]`; it
takes about a quarter of an hour of one idle core.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import argparse
import logging
import math
import time
import warnings
from collections.abc import Iterator

import joblib
import numpy as np
import optuna
import torch
from figures import Figure, arguments_of, at_least, show
from suggestion import history_of, pipeline_of

import eeipu.sampler
from eeipu import EEIPUSampler, Float, Pipeline, StageCache, Tuner, stage
from eeipu.benchmarks.problem import Problem
from eeipu.benchmarks.registry import load
from eeipu.executors.simulated_pool import SimulatedPool

WIDTHS = (1, 2, 4, 8)
WARM_UP = 10

# Two of additive stages and two of coupled ones; a short run takes the first of them.
PROBLEMS = (
    "hartmann6-in-3",
    "beale2-hartmann3-beale2",
    "shekel4-in-3",
    "branin2-ackley3-levy2",
)

WORKERS = 1_000
MOST_IDLE = 0.1


def none(measured_s: float) -> float:  # noqa: ARG001
    """What thinking and driving take where only the search counts."""
    return 0.0


# --- quality ----------------------------------------------------------------------------------


def independent(pipeline: Pipeline, seed: int) -> Tuner:
    """Independent points, evaluated one by one without a cache."""
    tuner = Tuner(pipeline, budget=1e12, method="random", n_initial=WARM_UP, cache=None, seed=seed)
    tuner.run(0.0, max_trials=WARM_UP, progress=False)
    return tuner


def gain(
    problem: Problem,
    warm_up: Tuner,
    seed: int,
    workers: int,
    budget_factor: float,
    own: bool,
) -> float:
    """The share of the possible gain that a search makes."""
    cache = StageCache()
    tuner = Tuner(
        problem.pipeline,
        budget=budget_factor * warm_up.spent,
        n_initial=WARM_UP,
        cache=cache,
        seed=seed,
        executor=SimulatedPool(workers, cache, thinking_s=none, driving_s=none),
    )
    if not own:
        for trial in warm_up.study.trials:
            tuner.enqueue(trial.params)
    study = tuner.run(0.0, progress=False)
    start = warm_up.study.best_value
    return (best_within(study, tuner.budget) - start) / (problem.optimum - start)


def best_within(study: optuna.Study, budget: float) -> float:
    """The best value of the trials that a budget pays for, in the order of their ends."""
    spent, best = 0.0, -math.inf
    for trial in sorted(study.trials, key=lambda each: each.datetime_complete):
        best = max(best, trial.value)
        spent += trial.user_attrs["charged"]
        if spent >= budget:
            break
    return best


def gains_of(name: str, seed: int, budget_factor: float, own: bool) -> list[float]:
    """The gain of each width."""
    logging.getLogger("eeipu").setLevel(logging.ERROR)  # processes start with the default
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    problem = load(name, "cpu", cost="declared", seed=seed)
    warm_up = independent(problem.pipeline, seed)
    return [gain(problem, warm_up, seed, width, budget_factor, own) for width in WIDTHS]


def quality(options: argparse.Namespace) -> Iterator[Figure]:
    """Mean gains of each width, as shares of one worker's."""
    for own in (True, False) if options.both_warm_ups else (True,):
        rows = joblib.Parallel(n_jobs=options.jobs)(
            joblib.delayed(gains_of)(name, seed, options.budget_factor, own)
            for seed in range(options.seeds)
            for name in PROBLEMS[: options.problems]
        )
        gains = dict(zip(WIDTHS, zip(*rows, strict=True), strict=True))
        whose = "own" if own else "shared"
        runs = f"{options.problems} problems, {options.seeds} seeds, {whose} warm-up"
        alone = float(np.mean(gains[1]))
        yield Figure(f"gain of 1 worker, {runs}", alone, "share")
        for width in WIDTHS[1:]:
            what = f"gain of {width} workers / of 1, {runs}"
            value = float(np.mean(gains[width])) / alone
            yield (
                at_least(what, value, "ratio", 0.9) if width == 4 else Figure(what, value, "ratio")
            )
            spread = np.std(np.subtract(gains[width], gains[1]), ddof=1) if len(gains[1]) > 1 else 0
            error = float(spread) / math.sqrt(len(gains[1])) / alone
            yield Figure(f"standard error of it, {width} workers", error, "ratio")


# --- scale ------------------------------------------------------------------------------------


def study_of(n: int, m: int) -> tuple[Pipeline, optuna.Study, set[str]]:
    """A study of n random trials that have ended and m that are running."""
    pipeline = pipeline_of(3, 7)
    study = optuna.create_study(direction="maximize")
    history = history_of(pipeline, n + m, seed=0)
    for trial in history.ended[:n]:
        study.add_trial(trial)
    for trial in history.ended[n:]:
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={"stage_keys": trial.user_attrs["stage_keys"]},
            )
        )
    keys = {key for trial in history.ended[:n] for key in trial.user_attrs["stage_keys"]}
    return pipeline, study, keys


def suggestion_s(n: int, m: int, maximizations: int) -> float:
    """Processor seconds a suggestion, over several maximisations and what they give."""
    pipeline, study, keys = study_of(n, m)
    study.sampler = sampler = EEIPUSampler(pipeline, budget=1e5, cache=keys, seed=0, n_initial=1)
    sampler.share_processors(with_workers=True)
    study.ask(pipeline.space)  # the first fit starts from the priors
    sampler._stock.clear()
    start, asked = time.process_time(), 0
    for _ in range(maximizations):
        study.ask(pipeline.space)
        asked += 1
        while sampler._stock:
            study.ask(pipeline.space)
            asked += 1
    return (time.process_time() - start) / asked


def without_batches(n: int, m: int) -> float:
    """The same where each suggestion has a maximisation of its own."""
    each, eeipu.sampler.RUNNING_EACH = eeipu.sampler.RUNNING_EACH, 10**9
    try:
        return suggestion_s(n, m, 2)
    finally:
        eeipu.sampler.RUNNING_EACH = each


def busy_pipeline(stage_s: float) -> Pipeline:
    """Three stages that do nothing, for so many virtual seconds on average."""

    def one(k: int) -> object:
        def add(upstream: float, *, a: float, b: float) -> float:
            return upstream + math.sin(5 * a) * b

        space = {"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}

        def cost(*, a: float, b: float) -> float:  # noqa: ARG001 - called with all of them
            return stage_s * (0.5 + a)

        return stage(name=f"s{k}", space=space, version="1", cost=cost)(add)

    return Pipeline([one(k) for k in range(3)])


def run_of(method: str, workers: int, trials: int, stage_s: float) -> SimulatedPool:
    """A run on very many workers, with the driver's and the suggestions' processor seconds."""
    cache = StageCache()
    pool = SimulatedPool(workers, cache, clock=time.process_time)
    pipeline = busy_pipeline(stage_s)
    tuner = Tuner(pipeline, budget=1e12, method=method, seed=0, cache=cache, executor=pool)
    tuner.run(0.0, max_trials=trials, progress=False)
    return pool


def scale(options: argparse.Namespace) -> Iterator[Figure]:
    """Seconds of a suggestion and of the driver, and the trials that are long enough for them."""
    trials = 2 * options.workers
    pool = run_of("random", options.workers, trials, stage_s=1e4)
    driver_s = pool.driven_s / trials
    beside = f"{options.workers} workers"
    yield Figure(f"driver's own time a trial, {beside}, {trials} trials", 1e3 * driver_s, "ms")
    for n in (100, 1000):
        batched, single = suggestion_s(n, options.workers, 2), without_batches(n, options.workers)
        yield Figure(f"suggestion, n={n}, {beside}", 1e3 * batched, "ms")
        yield Figure(f"suggestion without batches / with, n={n}, {beside}", single / batched, "x")
        for what, seconds in (("", batched), (" without batches", single)):
            # They run side by side: the slower of the two sets the pace.
            least_s = options.workers * max(driver_s, seconds) * (1.0 - MOST_IDLE)
            yield Figure(f"shortest trials for 10 % idle{what}, n={n}, {beside}", least_s, "s")
    trials = options.workers * 13 // 10
    pool = run_of("eeipu", options.workers, trials, stage_s=500.0)
    run = f"{beside}, {trials} trials of 1500 s"
    yield Figure(f"suggestion in a search, {run}", 1e3 * pool.thought_s / trials, "ms")
    yield Figure(f"driver in a search, {run}", 1e3 * pool.driven_s / trials, "ms")


def figures(options: argparse.Namespace) -> Iterator[Figure]:
    """All figures."""
    if options.scale:
        yield from scale(options)
    if options.seeds > 0:
        yield from quality(options)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = arguments_of(__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="0: no figures of quality")
    parser.add_argument("--problems", type=int, default=2, choices=range(1, len(PROBLEMS) + 1))
    parser.add_argument("--budget-factor", type=float, default=3.0, help="times the warm-up's cost")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--both-warm-ups", action="store_true")
    parser.add_argument("--workers", type=int, default=WORKERS, help="of the figures of scale")
    parser.add_argument("--no-scale", dest="scale", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("eeipu").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    show(figures(parsed()))
