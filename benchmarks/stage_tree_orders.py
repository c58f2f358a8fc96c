"""ASHA on a stage tree against Optuna's pruner on single trials, over many orders of one search.

Both get the configurations in the same order, on the same number of workers in virtual time, where
only training takes any. Optuna's `SuccessiveHalvingPruner` cannot pause a trial: it lets the first
ones go on at once, where they are the best so far, and stops a trial for good. ASHA of Li et al.
2020 waits for `eta` trials at a rung, and may promote one of them later. The searches are the 27
sequences of learning rates of `stage_tree_training.py`, which are trained here once for their
values, and random trees of learning rates with the invented curve of `stage_tree.py`. Compared are
the time until the best value is there that both reach, the time of the whole search, and the mean
share of the range of values that the best value so far still lacks, until Optuna has ended (smaller
is better; 1 as long as no training has come to its end).

Run `python benchmarks/stage_tree_orders.py [--json]`; it takes about three minutes.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, geometric_mean
from typing import Any

import numpy as np
import optuna
import stage_tree
import torch
from figures import Figure, at_least, show
from optuna.pruners import SuccessiveHalvingPruner
from stage_tree_training import DROPS, EPOCHS, FIRST_RUNG, RATES, REDUCTION, Search, trained

from eeipu.algorithms.halving import ASHA, geometric_rungs
from eeipu.algorithms.moves import Algorithm, Move
from eeipu.algorithms.optuna_pruning import OptunaPruning
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.simulation import simulated_workers
from eeipu.algorithms.study_run import StudyRun
from eeipu.space import Categorical
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.scheduler import CRITICAL_PATH, FIFO, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.paths import Path
from eeipu.stages.schedules import Piecewise

ORDERS, TREES = 40, 20


@dataclass
class Problem:
    """A search.

    Attributes:
        configs: Its configurations.
        score: Node -> the value that its evaluation gives.
        rungs: The steps at which trials are compared; the last is that of a whole training.
    """

    configs: list[stage_tree.Config]
    score: Callable[[PlanNode], float]
    rungs: list[int]

    def worst_and_best(self) -> tuple[float, float]:
        """The range of values that whole trainings reach."""
        plan = SearchPlan()
        for k, config in enumerate(self.configs):
            plan.request("all", k, path_of(config, self.rungs[-1], ""))
        values = [self.score(request.node) for request in plan.requests()]
        return min(values), max(values)


def lacks(search: Search, worst: float, best: float, until_s: float) -> float:
    """The mean share of a range that the best value so far lacks in a search, until some time."""
    lacking, before_s, share = 0.0, 0.0, 1.0
    for at, value in [*search.ended, (until_s, worst)]:
        lacking += (min(at, until_s) - before_s) * share
        before_s, share = min(at, until_s), min(share, (best - value) / (best - worst))
    return lacking / until_s


class Noted:
    """An algorithm of which is noted when whole trainings end."""

    def __init__(self, algorithm: Algorithm, steps: int, now: Callable[[], float]) -> None:
        self._algorithm, self._steps, self._now = algorithm, steps, now
        self.ended: list[tuple[float, float]] = []

    def start(self) -> list[Move]:
        """See `Algorithm`."""
        return list(self._algorithm.start())

    def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
        """See `Algorithm`."""
        if step == self._steps and value is not None:
            self.ended.append((self._now(), value))
        return list(self._algorithm.tell(trial, step, value))


def path_of(config: stage_tree.Config, step: int, upstream: str) -> Path:
    """A training up to a step, and its evaluation."""
    return Path(upstream).train("net", "v1", config, step).evaluate("net", "v1")


def merged(problem: Problem, order: Sequence[int], workers: int) -> Search:
    """ASHA on a stage tree."""
    configs = [problem.configs[k] for k in order]
    asha = ASHA(configs, problem.rungs, REDUCTION, concurrency=workers)
    return simulate(problem, asha, lambda config, step: path_of(config, step, ""), workers)


def with_optuna(problem: Problem, order: Sequence[int], workers: int) -> Search:
    """Optuna's pruner, each trial by itself."""
    pruner = SuccessiveHalvingPruner(problem.rungs[0], REDUCTION)
    trials = optuna.create_study(direction="maximize", pruner=pruner)
    for k in order:
        trials.enqueue_trial({"k": k})
    count, steps, every = len(order), problem.rungs[-1], problem.rungs[0]
    space = {"k": Categorical(list(range(count)))}
    pruning = OptunaPruning(trials, space, count, steps, every, concurrency=workers)

    def alone(config: stage_tree.Config, step: int) -> Path:
        return path_of(problem.configs[config["k"]], step, str(config["k"]))

    return simulate(problem, pruning, alone, workers)


def simulate(problem: Problem, algorithm: Algorithm, path: Any, workers: int) -> Search:
    """Run an algorithm on workers in virtual time."""
    cluster = simulated_workers(workers, stage_tree.seconds, problem.score)
    noted = Noted(algorithm, problem.rungs[-1], cluster.now)
    policy = CRITICAL_PATH if isinstance(algorithm, ASHA) else FIFO
    run_studies([StudyRun("search", noted, path)], Scheduler(SearchPlan(), policy), cluster)
    return Search(noted.ended, cluster.now())


def digits() -> Problem:
    """The sequences of `stage_tree_training.py`, with the accuracies that they have there."""
    curves = {rates: dict(trained(list(rates))) for rates in product(RATES, repeat=3)}
    configs = [{"lr": Piecewise(list(rates), DROPS)} for rates in curves]

    def score(node: PlanNode) -> float:
        parts = [p for p in node.path.between(0, node.stop) if "lr" in p.call.params]
        at = [p.call.params["lr"] for p in parts for _ in range(p.start, p.stop)]
        # Of a training that has not come to a change, any that begins like it has the value.
        rates = [at[min(step, len(at) - 1)] for step in (0, *DROPS)]
        return curves[tuple(rates)].get(len(at), 0.0)  # nothing is compared between rungs

    return Problem(configs, score, geometric_rungs(FIRST_RUNG, EPOCHS, REDUCTION))


def random_tree(seed: int) -> Problem:
    """A random tree of learning rates."""
    configs = stage_tree.random_tree(np.random.default_rng(seed))
    return Problem(configs, stage_tree.score, list(stage_tree.RUNGS))


def compared(label: str, problems: Sequence[Problem], orders: int) -> Iterator[Figure]:
    """Optuna's times over those of the stage tree, on 2, 5 and 20 workers."""
    ranges = [problem.worst_and_best() for problem in problems]
    for workers in (2, 5, 20):
        times, walls, ours_lacks, its_lacks = [], [], [], []
        for (problem, ends), seed in product(zip(problems, ranges, strict=True), range(orders)):
            order = np.random.default_rng(seed).permutation(len(problem.configs)).tolist()
            ours, its = merged(problem, order, workers), with_optuna(problem, order, workers)
            value = min(ours.best, its.best)
            times.append(its.time_to(value) / ours.time_to(value))
            walls.append(its.wall_s / ours.wall_s)
            ours_lacks.append(lacks(ours, *ends, its.wall_s))
            its_lacks.append(lacks(its, *ends, its.wall_s))
        name = f"{label}, {workers} workers"
        ratio = geometric_mean(times)
        yield at_least(f"{name}: time to the common best, Optuna over ASHA", ratio, "ratio", 1.0)
        earlier, later = fmean(t > 1.0 for t in times), fmean(t < 1.0 for t in times)
        yield Figure(f"{name}: searches in which ASHA has it earlier", earlier, "share")
        yield Figure(f"{name}: searches in which ASHA has it later", later, "share")
        interval = 1.96 * np.std(np.log(times), ddof=1) / math.sqrt(len(times))
        yield Figure(f"{name}: 95 % interval of the time's logarithm", interval, "")
        ratio = geometric_mean(walls)
        yield at_least(f"{name}: the whole search, Optuna over ASHA", ratio, "ratio", 1.0)
        yield Figure(f"{name}: what the best so far lacks, ASHA", fmean(ours_lacks), "share")
        yield Figure(f"{name}: what the best so far lacks, Optuna", fmean(its_lacks), "share")


def figures() -> Iterator[Figure]:
    """The digits in forty orders, and twenty random trees in two orders each."""
    yield from compared(f"digits, {ORDERS} orders", [digits()], ORDERS)
    yield from compared(f"{TREES} random trees", [random_tree(k) for k in range(TREES)], 2)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("eeipu").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    show(figures())
