"""Savings by running many trials as one stage tree: simulated, with a large plan, and in earnest.

The simulation has 20 workers with one GPU each, in the settings of Shin et al. 2019 (arXiv
1911.10504) and of Hippo (arXiv 2006.11972): a ResNet-like training of 160 epochs of 30 s each, with
longer epochs for small batches; scores come from an invented learning curve, which depends only on
the sequence of hyper-parameters. Stage-based runs share every stage and follow the critical path.
Trial-based runs share nothing between trials, although each trial continues from its own
checkpoints, and are served first in, first out. ASHA promotes trials in the order in which they
finish, so it trains different trials in the two kinds of runs. Therefore its merge rate, which
belongs to the trials of the stage-based run, is compared with the GPU-hours of the same trials when
they run trial-based. Beside it stands what each kind of run took when it chose for itself. There
the ratio is below the merge rate where the stage-based run has trained more trials to the end
although nothing was run twice. Whoever is asked for trials long before a worker is free promotes on
fewer results, and in a tree these come in groups of equals: so ASHA waits for as many trials as
there are workers, as in a `Tuner`, and `asked_ahead` says what three times as many would change.

Run `python benchmarks/stage_tree.py [--json]`; it takes about ten minutes. The figures of large
plans and of large studies are in `stage_tree_load.py`, a real training on two processes in
`stage_tree_training.py`, and many orders of one search in `stage_tree_orders.py`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from figures import Figure, at_least, at_most, show

import eeipu
from eeipu import Categorical, Pipeline, StageCache, Tuner
from eeipu.algorithms.early_stopping import EarlyStopping
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.halving import ASHA, SuccessiveHalving
from eeipu.algorithms.moves import Algorithm, Ask, Move, Stop
from eeipu.algorithms.node_tasks import NodeTask
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.simulation import simulated_workers
from eeipu.algorithms.study_run import StudyRun
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.scheduler import CRITICAL_PATH, FIFO, Policy, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stage_tree.tree import StageTree
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.paths import Path
from eeipu.stages.running.tasks import StageTask
from eeipu.stages.schedules import Piecewise
from eeipu.stages.searchable_schedules import Searchable
from eeipu.studies.early_stopping.trial_paths import TrialPaths

WORKERS = 20
EPOCHS = 160
EPOCH_S = 30.0
TREES = 200

Config = Mapping[str, Any]
Studies = Mapping[str, Callable[[], Algorithm]]


# --- simulated settings -----------------------------------------------------------------------


def lr_sequences(rates: tuple[float, ...], drops: tuple[int, ...]) -> list[Config]:
    """Every sequence of these learning rates, changed at these epochs."""
    return [{"lr": Piecewise(v, drops)} for v in product(rates, repeat=len(drops) + 1)]


def multi_steps(rates: tuple[float, ...]) -> list[Config]:
    """Initial rates, dropped twice, at epochs and by factors of a grid."""
    factors = (0.1, 0.2, 0.5)
    return [
        {"lr": Piecewise([lr, lr * one, lr * one * two], [first, second])}
        for lr, first, second, one, two in product(
            rates, (80, 90, 100, 110), (120, 130, 140), factors, factors
        )
    ]


def batch_size_sequences(seed: int = 0) -> list[Config]:
    """Batch sizes that may grow at three epochs, with a fixed rate each, in random order."""
    configs = []
    for rate, first, *growth in product((0.1, 0.05, 0.02), (32, 64, 128), *[(1, 2, 4)] * 3):
        sizes = np.minimum(first * np.cumprod([1, *growth]), 1024).tolist()
        configs.append({"lr": rate, "batch_size": Piecewise(sizes, [40, 80, 120])})
    return [configs[k] for k in np.random.default_rng(seed).permutation(len(configs))]


SEQUENCES = lr_sequences((0.1, 0.05, 0.02, 0.01), (80, 120, 140))
EARLY = lr_sequences((0.1, 0.03, 0.01), (60, 120, 140))
MULTI_STEPS = multi_steps((0.1, 0.05, 0.2))
ROOTS = tuple(round(0.4 * 0.8**k, 6) for k in range(WORKERS))
RUNGS = (20, 40, 80, EPOCHS)

SETTINGS: dict[str, Studies] = {
    "grid, 324 multi-step learning rates": {"grid": lambda: FullTraining(MULTI_STEPS, EPOCHS)},
    "grid, 2,160 multi-step learning rates with 20 initial ones": {
        "grid": lambda: FullTraining(multi_steps(ROOTS), EPOCHS)
    },
    "grid, 256 sequences of four learning rates": {"grid": lambda: FullTraining(SEQUENCES, EPOCHS)},
    "successive halving, 324 multi-step learning rates": {
        "halving": lambda: SuccessiveHalving(MULTI_STEPS, RUNGS, eta=2)
    },
    "successive halving, 256 sequences of four learning rates": {
        "halving": lambda: SuccessiveHalving(SEQUENCES, RUNGS, eta=2)
    },
    "ASHA, 243 batch-size sequences": {
        "asha": lambda: ASHA(batch_size_sequences(), RUNGS, 2, concurrency=WORKERS)
    },
    "four studies: two grids, successive halving, ASHA": {
        "grid": lambda: FullTraining(SEQUENCES, EPOCHS),
        "early grid": lambda: FullTraining(EARLY, EPOCHS),
        "halving": lambda: SuccessiveHalving(SEQUENCES, RUNGS, eta=2),
        "asha": lambda: ASHA(SEQUENCES[::-1], RUNGS, 2, concurrency=60),
    },
    "four studies of one grid: whole, and three halvings": {
        "grid": lambda: FullTraining(MULTI_STEPS, EPOCHS),
        "by 2": lambda: SuccessiveHalving(MULTI_STEPS, RUNGS, eta=2),
        "by 3": lambda: SuccessiveHalving(MULTI_STEPS, (18, 54, EPOCHS), eta=3),
        "by 4": lambda: SuccessiveHalving(MULTI_STEPS, (10, 40, EPOCHS), eta=4),
    },
}

# The papers' headline figures, GPU-hours and end-to-end time, and where to look for them here.
HEADLINES = {
    "2019": (6.60, 4.13, lambda name: name.startswith(("grid", "succ", "ASHA"))),
    "one study": (4.81, 2.76, lambda name: name.startswith(("grid", "succ", "ASHA"))),
    "several studies": (6.77, 3.53, lambda name: name.startswith("four")),
}


def seconds(node: PlanNode) -> float:
    """An epoch takes longer with small batches; an evaluation takes nothing."""
    total = 0.0
    for part in node.stretches:
        size = part.call.params.get("batch_size", 128)
        if "lr" in part.call.params:
            total += (part.stop - part.start) * EPOCH_S * (0.5 + 64.0 / size)
    return total


def score(node: PlanNode) -> float:
    """A learning curve: rates near 0.03 and large batches late are better, and so is more."""
    quality = epochs = 0.0
    for part in node.path.between(0, node.stop):
        if "lr" not in part.call.params:
            continue
        length = part.stop - part.start
        rate, size = part.call.params["lr"], part.call.params.get("batch_size", 128)
        quality -= length * (abs(math.log10(rate) + 1.5) + 0.1 * abs(math.log2(size / 256)))
        epochs += length
    return quality / epochs - math.exp(-epochs / 40.0)


def study(name: str, algorithm: Algorithm, is_shared: bool) -> StudyRun:
    """A study whose trials share stages, or each have inputs of their own."""

    def path_of(config: Config, step: int) -> Path:
        upstream = "" if is_shared else f"{name} {id(config)}"
        return Path(upstream).train("resnet", "v1", config, step).evaluate("resnet", "v1")

    return StudyRun(name, algorithm, path_of)


def simulate(
    studies: Studies, policy: Policy, *, is_shared: bool = True, workers: int = WORKERS
) -> tuple[SearchPlan, SimulatedPool]:
    """Run studies together on a simulated cluster."""
    plan, cluster = SearchPlan(), simulated_workers(workers, seconds, score)
    runs = [study(name, make(), is_shared) for name, make in studies.items()]
    run_studies(runs, Scheduler(plan, policy), cluster)
    return plan, cluster


class Again:
    """Trains the trials of an earlier run as far as that did."""

    def __init__(self, asks: list[Ask]) -> None:
        self._asks = asks

    def start(self) -> list[Ask]:
        """All trials at once."""
        return self._asks

    def tell(self, trial: int, step: int, value: float | None) -> list[Stop]:  # noqa: ARG002
        """A trial has come as far as it did."""
        return [Stop(trial)]


def same_trials(plan: SearchPlan) -> Studies:
    """Studies that want of each trial what the studies of a plan have wanted."""
    asks: dict[str, dict[int, Ask]] = {}
    for request in plan.requests():
        mine = asks.setdefault(request.study, {})
        if request.trial not in mine or request.steps > mine[request.trial].step:
            config = request.node.path.schedules(0)
            mine[request.trial] = Ask(request.trial, config, request.steps)
    return {name: partial(Again, list(mine.values())) for name, mine in asks.items()}


def simulated() -> Iterator[Figure]:
    """Each setting: GPU-hours and end-to-end time, trial-based over stage-based."""
    reached: dict[str, tuple[float, float]] = {}
    for name, studies in SETTINGS.items():
        plan, ours = simulate(studies, CRITICAL_PATH)
        _, trials = simulate(studies, FIFO, is_shared=False)
        _, same = simulate(same_trials(plan), FIFO, is_shared=False)
        _, fifo = simulate(studies, FIFO)
        rate = merge_rate(plan)
        hours, wall = trials.busy_s / ours.busy_s, trials.now() / ours.now()
        reached[name] = hours, wall
        critical_s = plan.tree.critical_path(seconds).cost  # type: ignore[arg-type]
        bound_s = max(critical_s, ours.busy_s / WORKERS)
        yield Figure(f"{name}: merge rate, in time", rate, "ratio")
        yield Figure(f"{name}: merge rate, in steps", plan.tree.merge_rate, "ratio")
        over = f"{name}: GPU-hours ratio over merge rate in"
        for unit, each in (("steps", plan.tree.merge_rate), ("time", rate)):
            yield at_least(f"{over} {unit}", same.busy_s / ours.busy_s / each, "ratio", 0.99)
            yield at_least(f"{over} {unit}, each choosing for itself", hours / each, "ratio", 0.99)
        yield Figure(f"{name}: GPU-hours, trial-based", trials.busy_s / 3600, "h")
        yield Figure(f"{name}: GPU-hours, trial- over stage-based", hours, "ratio")
        yield Figure(f"{name}: end to end, trial- over stage-based", wall, "ratio")
        over = f"{name}: end to end over max(critical path, work / workers)"
        # Early on a tree with few roots has less to do than there are workers.
        is_wide = len(plan.tree.root.children) >= WORKERS
        value = ours.now() / bound_s
        yield at_most(over, value, "ratio", 1.05) if is_wide else Figure(over, value, "ratio")
        yield at_most(f"{name}: end to end over FIFO's", ours.now() / fifo.now(), "ratio", 1.02)
    for paper, (hours, wall, is_there) in HEADLINES.items():
        found = [ratios for name, ratios in reached.items() if is_there(name)]
        best = max(found, key=lambda ratios: min(ratios[0] / hours, ratios[1] / wall))
        yield at_least(f"headline, {paper}: GPU-hours in the best setting", best[0], "", hours)
        yield at_least(f"headline, {paper}: end to end in the same setting", best[1], "", wall)


def asked_ahead() -> Iterator[Figure]:
    """ASHA on batch-size sequences in eight orders: as many trials as workers, and more of them."""
    label = "ASHA, 243 batch-size sequences in 8 orders"
    for trials in (WORKERS, 3 * WORKERS):
        ratios, end_to_end_s = [], []
        for seed in range(8):
            configs = batch_size_sequences(seed)
            studies = {"asha": partial(ASHA, configs, RUNGS, 2, concurrency=trials)}
            plan, ours = simulate(studies, CRITICAL_PATH)
            _, alone = simulate(studies, FIFO, is_shared=False)
            ratios.append(alone.busy_s / ours.busy_s / merge_rate(plan))
            end_to_end_s.append(ours.now())
        name = f"{label}, {trials} at a time"
        over = f"{name}: GPU-hours ratio over merge rate, each choosing for itself"
        if trials == WORKERS:
            yield at_least(over, fmean(ratios), "ratio", 0.99)
        else:
            yield Figure(over, fmean(ratios), "ratio")
        yield Figure(f"{over}, least", min(ratios), "ratio")
        yield Figure(f"{name}: end to end", fmean(end_to_end_s) / 3600, "h")


def merge_rate(plan: SearchPlan) -> float:
    """Seconds that all trials ask for, each for itself, over the seconds of all nodes."""
    ends: dict[tuple[str, int], PlanNode] = {}
    for request in plan.requests():
        owner = request.study, request.trial
        if owner not in ends or request.node.stop > ends[owner].stop:
            ends[owner] = request.node
    requested = sum(seconds(node) for end in ends.values() for node in end.ancestry())
    return requested / sum(seconds(node) for node in plan.tree)  # type: ignore[arg-type]


def random_trees() -> Iterator[Figure]:
    """The critical path against first in, first out, on random trees of learning rates."""
    for workers in (WORKERS, None):
        ratios = [over_fifo(seed, workers) for seed in range(TREES)]
        many = f"{workers} workers" if workers else "2 to 40 workers"
        name = f"{TREES} random trees, {many}: end to end over FIFO's"
        yield Figure(f"{name}, mean", fmean(ratios), "ratio")
        yield at_most(f"{name}, worst", max(ratios), "ratio", 1.005)
        worse = sum(ratio > 1.005 for ratio in ratios) / TREES
        yield at_most(f"{name}, share of worse ones", worse, "ratio", 0.0)


def random_tree(rng: np.random.Generator) -> list[Config]:
    """Between 20 and 200 sequences of learning rates that change at one to five epochs."""
    rates = [0.1, 0.05, 0.02, 0.01][: rng.integers(2, 5)]
    drops = sorted(rng.choice(np.arange(10, EPOCHS, 10), rng.integers(1, 6), replace=False))
    return [
        {"lr": Piecewise(rng.choice(rates, len(drops) + 1).tolist(), drops)}
        for _ in range(rng.integers(20, 200))
    ]


def over_fifo(seed: int, workers: int | None) -> float:
    """How long one random tree takes, over how long it takes first in, first out."""
    rng = np.random.default_rng(seed)
    configs = random_tree(rng)
    studies: Studies = {"grid": lambda: FullTraining(configs, EPOCHS)}
    count = workers if workers is not None else int(rng.choice([2, 5, 10, 20, 40]))
    times = [simulate(studies, policy, workers=count)[1].now() for policy in (CRITICAL_PATH, FIFO)]
    return times[0] / times[1]


LONGEST_FIRST = Policy("longest first", lambda node, order: (-node.remaining, order), recalls=True)


def early_values() -> Iterator[Figure]:
    """When trials have their values, and when the last one has, over the longest path alone."""
    for workers in (2, 5, 20):
        ratios = []
        for seed in range(12):
            configs = random_tree(np.random.default_rng(seed))
            ours, longest = (
                value_times(configs, policy, workers) for policy in (CRITICAL_PATH, LONGEST_FIRST)
            )
            ratios.append((fmean(ours) / fmean(longest), max(ours) / max(longest)))
        mean, last = map(fmean, zip(*ratios, strict=True))
        name = f"12 random trees, {workers} workers, over the longest path alone"
        yield at_most(f"{name}: time to a trial's value, mean", mean, "ratio", 1.0)
        yield at_most(f"{name}: end to end, mean", last, "ratio", 1.005)


def value_times(configs: list[Config], policy: Policy, workers: int) -> list[float]:
    """The times at which the trials of a grid have their values."""
    cluster = simulated_workers(workers, seconds, score)
    times: list[float] = []

    class Noted(FullTraining):
        def tell(self, trial: int, step: int, value: float | None) -> list[Move]:
            times.append(cluster.now())
            return super().tell(trial, step, value)

    runs = [study("grid", Noted(configs, EPOCHS), is_shared=True)]
    run_studies(runs, Scheduler(SearchPlan(), policy), cluster)
    return times


# --- through the tuner ------------------------------------------------------------------------

RULES: dict[str, EarlyStopping | None] = {
    "grid": None,
    "successive halving": eeipu.SuccessiveHalving(min_steps=20, reduction=2.0),
    "ASHA": eeipu.ASHA(min_steps=20, reduction=2.0),
    "median stopping": eeipu.MedianStopping(min_steps=20, every=20),
}


def tuned() -> Iterator[Figure]:
    """One call of `Tuner`: 256 sequences of four learning rates on 20 simulated workers."""
    for name, rule in RULES.items():
        cache = StageCache()
        still: dict[str, Any] = {"thinking_s": lambda _: 0.0, "driving_s": lambda _: 0.0}
        cluster = SimulatedPool(WORKERS, cache, task_seconds, task_score, **still)
        rates = [Categorical([0.1, 0.05, 0.02, 0.01])] * 4
        space = {"lr": Searchable(Piecewise, rates, [80, 120, 140])}
        resnet = iterative(Training(never, never, never), space, EPOCHS, "resnet", "v1")
        pipeline = Pipeline([resnet])
        tuner = Tuner(
            pipeline, method="grid", early_stopping=rule, cache=cache, executor=cluster, seed=0
        )
        study = tuner.run(max_trials=256, progress=False)
        paths = TrialPaths(pipeline, "")
        tree = StageTree.build(
            paths(trial.params, max(trial.intermediate_values)) for trial in study.trials
        )
        ratio = tree.requested_steps * EPOCH_S / cluster.busy_s
        label = f"Tuner, {name}, 256 sequences of four learning rates"
        yield Figure(f"{label}: merge rate, in steps", tree.merge_rate, "ratio")
        over = f"{label}: GPU-hours ratio over merge rate"
        yield at_least(over, ratio / tree.merge_rate, "ratio", 0.99)


def never(*_: Any) -> Any:
    """What a simulated stage never calls."""
    raise AssertionError("nothing is trained")


def task_seconds(task: StageTask) -> float:
    """See `seconds`."""
    assert isinstance(task, NodeTask)
    assert task.node is not None
    return seconds(task.node)


def task_score(task: StageTask) -> float | None:
    """See `score`."""
    assert isinstance(task, NodeTask)
    assert task.node is not None
    return None if task.call.is_training else score(task.node)


def figures() -> Iterator[Figure]:
    """All figures."""
    yield from tuned()
    yield from simulated()
    yield from asked_ahead()
    yield from random_trees()
    yield from early_values()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("eeipu").setLevel(logging.ERROR)
    show(figures())
