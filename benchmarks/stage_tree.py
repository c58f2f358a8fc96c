"""Savings by running many trials as one stage tree: simulated, with a large plan, and in earnest.

The simulation has 20 workers with one GPU each, in the settings of Shin et al. 2019 (arXiv
1911.10504) and of Hippo (arXiv 2006.11972): a ResNet-like training of 160 epochs of 30 s each, with
longer epochs for small batches; scores come from an invented learning curve, which depends only on
the sequence of hyper-parameters. Stage-based runs share every stage and follow the critical path.
Trial-based runs share nothing between trials, although each trial continues from its own
checkpoints, and are served first in, first out. ASHA promotes trials in the order in which they
finish, so it trains different trials in the two kinds of runs. Therefore its merge rate, which
belongs to the trials of the stage-based run, is compared with the GPU-hours of the same trials when
they run trial-based.

Run `python benchmarks/stage_tree.py [--json]`; it takes about ten minutes. Times of large plans are
CPU times, as far as other processes leave them alone; the real training takes two workers.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import math
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path as FilePath
from statistics import fmean, quantiles
from typing import Any

import numpy as np
import psutil
import torch
from figures import Figure, at_least, at_most, show
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eeipu import StageCache
from eeipu.algorithms.full_training import FullTraining
from eeipu.algorithms.halving import ASHA, SuccessiveHalving
from eeipu.algorithms.moves import Algorithm, Ask, Stop
from eeipu.algorithms.runner import run_studies
from eeipu.algorithms.simulation import simulated_workers
from eeipu.algorithms.study_run import StudyRun
from eeipu.executors.futures_pool import FuturesPool
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.stage_tree.nodes import PlanNode
from eeipu.stage_tree.scheduler import CRITICAL_PATH, FIFO, Policy, Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import iterative, stage_path
from eeipu.stages.paths import Path
from eeipu.stages.resources import Resources
from eeipu.stages.running.worker import Job
from eeipu.stages.schedules import Piecewise
from eeipu.stages.torch_training.loop import torch_loop

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


def batch_size_sequences() -> list[Config]:
    """Batch sizes that may grow at three epochs, with a fixed rate each, in random order."""
    configs = []
    for rate, first, *growth in product((0.1, 0.05, 0.02), (32, 64, 128), *[(1, 2, 4)] * 3):
        sizes = np.minimum(first * np.cumprod([1, *growth]), 1024).tolist()
        configs.append({"lr": rate, "batch_size": Piecewise(sizes, [40, 80, 120])})
    return [configs[k] for k in np.random.default_rng(0).permutation(len(configs))]


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
        "asha": lambda: ASHA(batch_size_sequences(), RUNGS, 2, concurrency=60)
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
        yield at_most(f"{name}, worst", max(ratios), "ratio", 1.02)


def over_fifo(seed: int, workers: int | None) -> float:
    """How long one random tree takes, over how long it takes first in, first out."""
    rng = np.random.default_rng(seed)
    rates = [0.1, 0.05, 0.02, 0.01][: rng.integers(2, 5)]
    drops = sorted(rng.choice(np.arange(10, EPOCHS, 10), rng.integers(1, 6), replace=False))
    configs = [
        {"lr": Piecewise(rng.choice(rates, len(drops) + 1).tolist(), drops)}
        for _ in range(rng.integers(20, 200))
    ]
    studies: Studies = {"grid": lambda: FullTraining(configs, EPOCHS)}
    count = workers if workers is not None else int(rng.choice([2, 5, 10, 20, 40]))
    times = [simulate(studies, policy, workers=count)[1].now() for policy in (CRITICAL_PATH, FIFO)]
    return times[0] / times[1]


# --- a large plan -----------------------------------------------------------------------------


def large_plans() -> Iterator[Figure]:
    """Plans of up to 100,000 trials of ten segments: CPU time, memory, and the next assignment."""
    costs, reopening = {}, {}
    for trials in (25_000, 50_000, 100_000):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured = pool.apply(_plan, (trials,))
        costs[trials], reopening[trials] = measured["request_ms"], measured["reopening_s"]
        name = f"plan of {trials:,} trials of ten segments, {measured['nodes']:,} nodes"
        yield Figure(f"{name}: request, in memory", measured["request_ms"], "ms")
        yield Figure(f"{name}: request, stored in SQLite", measured["stored_ms"], "ms")
        yield Figure(f"{name}: reopening what is stored", measured["reopening_s"], "s")
        yield Figure(f"{name}: next assignment, median", measured["median_ms"], "ms")
        yield Figure(f"{name}: next assignment, 99th percentile", measured["p99_ms"], "ms")
        yield at_most(f"{name}: next assignment, slowest", measured["worst_ms"], "ms", 10.0)
        yield at_most(f"{name}: memory of the process", measured["gib"], "GiB", 2.0)
    growth = costs[100_000] / costs[25_000]
    yield at_most("cost of a request, 100,000 trials over 25,000", growth, "ratio", 1.5)
    growth = reopening[100_000] / reopening[25_000] / 4
    yield at_most("reopening, a trial, 100,000 trials over 25,000", growth, "ratio", 1.5)


def _plan(trials: int) -> dict[str, float]:
    """Build a plan, then hand out assignments while more requests come; in CPU time."""
    rng = np.random.default_rng(0)
    rates = np.round(10 ** rng.uniform(-4, -1, size=1000), 6)

    def random_path() -> Path:
        values = rates[rng.integers(0, len(rates), size=10)].tolist()
        return Path().train("fit", "v1", {"lr": Piecewise(values, range(10, 100, 10))}, 100)

    plan = SearchPlan()
    scheduler = Scheduler(plan)
    began = time.process_time()
    for trial in range(trials):
        plan.request("study", trial, random_path())
        scheduler.follow()
    request_ms = 1e3 * (time.process_time() - began) / trials
    gib = _memory_gib()
    times, fits = [], Resources().fit
    for trial in range(1000):
        began = time.process_time()
        node = scheduler.next(fits)
        times.append(1e3 * (time.process_time() - began))
        assert node is not None
        plan.execution.complete(node, float(node.steps))
        plan.request("later", trial, random_path())
    nodes = len(plan.tree)
    del plan, scheduler
    with tempfile.TemporaryDirectory() as folder:
        with SearchPlan(FilePath(folder) / "plan.db") as stored:
            began = time.process_time()
            for trial in range(trials):
                stored.request("study", trial, random_path())
            stored_ms = 1e3 * (time.process_time() - began) / trials
        del stored
        began = time.process_time()
        SearchPlan(FilePath(folder) / "plan.db").close()
        reopening_s = time.process_time() - began
    percentiles = quantiles(times, n=100)
    return {
        "nodes": nodes,
        "request_ms": request_ms,
        "stored_ms": stored_ms,
        "reopening_s": reopening_s,
        "median_ms": percentiles[49],
        "p99_ms": percentiles[98],
        "worst_ms": max(times),
        "gib": gib,
    }


def _memory_gib() -> float:
    status = FilePath("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


# --- a real training --------------------------------------------------------------------------


def cnn() -> nn.Module:
    """A small network for images of 8 x 8."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def digits(*, batch_size: int = 64) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Handwritten digits, four fifths to train on."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(
        torch.from_numpy(images / 16.0).float().reshape(-1, 1, 8, 8), torch.from_numpy(labels)
    )
    split = int(0.8 * len(data))
    train = torch.utils.data.Subset(data, range(split))
    test = torch.utils.data.Subset(data, range(split, len(data)))
    return DataLoader(train, batch_size, shuffle=True), DataLoader(test, 256)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Plain stochastic gradient descent with momentum."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


REAL_EPOCHS = 24
REAL_SEQUENCES = lr_sequences((0.1, 0.03, 0.01), (12, 18, 21))
REAL_STAGE = iterative(
    torch_loop(cnn, sgd, nn.functional.cross_entropy, digits),
    {"lr": 0.1},
    steps=REAL_EPOCHS,
    name="cnn",
    version="1",
)
REAL_ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "grid of 81 learning-rate sequences": lambda: FullTraining(REAL_SEQUENCES, REAL_EPOCHS),
    "ASHA over 81 learning-rate sequences": lambda: ASHA(
        REAL_SEQUENCES, (6, 12, REAL_EPOCHS), 2, concurrency=8
    ),
}


def real() -> Iterator[Figure]:
    """CPU seconds and wall seconds on two worker processes, trial-based over stage-based."""
    for name, make in REAL_ALGORITHMS.items():
        separate = train_really(make(), is_shared=False)
        merged = train_really(make(), is_shared=True)
        label = f"digits, two workers, {name}"
        yield Figure(f"{label}: merge rate, in steps", merged["merge_rate"], "ratio")
        yield Figure(f"{label}: CPU, trial-based", separate["cpu_s"], "s")
        yield Figure(
            f"{label}: CPU, trial- over stage-based", separate["cpu_s"] / merged["cpu_s"], ""
        )
        yield Figure(
            f"{label}: wall, trial- over stage-based", separate["wall_s"] / merged["wall_s"], ""
        )
        yield Figure(f"{label}: best accuracy, stage-based", merged["best"], "share")
        yield at_most(
            f"{label}: difference of the best accuracy to trial-based",
            abs(merged["best"] - separate["best"]),
            "share",
            0.0,
        )


def train_really(algorithm: Algorithm, *, is_shared: bool) -> dict[str, float]:
    """Run one study on two processes that have loaded everything."""

    def path_of(config: Config, step: int) -> Path:
        upstream = "digits" if is_shared else f"digits {id(config)}"
        return stage_path([REAL_STAGE], {"cnn.lr": config["lr"]}, upstream, step)

    run = StudyRun("digits", algorithm, path_of, objective="accuracy")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor,
    ):
        cache = StageCache(folder)
        list(executor.map(_warm_up, range(4)))
        before = _cpu_s()
        plan = SearchPlan(FilePath(folder) / "plan.db", cache)
        pool = FuturesPool(executor, 2, Job([REAL_STAGE], (), cache))
        began_s = pool.now()
        run_studies([run], Scheduler(plan), pool)
        result = {
            "cpu_s": _cpu_s() - before,
            "wall_s": pool.now() - began_s,
            "merge_rate": plan.tree.merge_rate,
            "best": max(run.values.values()),
        }
        plan.close()
    return result


def _warm_up(_: int) -> None:
    torch.set_num_threads(1)
    REAL_STAGE(lr=0.1)


def _cpu_s() -> float:
    """CPU seconds of this process and its workers."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(t.user + t.system for p in processes for t in [p.cpu_times()])


def figures() -> Iterator[Figure]:
    """All figures, the simulated ones first."""
    yield from simulated()
    yield from random_trees()
    yield from large_plans()
    yield from real()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    show(figures())
