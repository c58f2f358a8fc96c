"""What the search plan and the tuner themselves take with many trials, apart from what they run.

Plans of up to 100,000 trials of ten segments: CPU time of a request, memory, and the next
assignment. Studies of up to 10,000 trials of ten segments through `Tuner`, on 20 simulated workers
that take no time: CPU time of the tuner for a trial, from its choice to its end.

Run `python benchmarks/stage_tree_load.py [--json]`; it takes about ten minutes. Times are CPU
times, as far as other processes leave them alone.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import logging
import multiprocessing
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path as FilePath
from statistics import quantiles
from typing import Any

import numpy as np
import optuna
from figures import Figure, at_most, show

import eeipu
from eeipu import Categorical, Pipeline, StageCache, Tuner
from eeipu.executors.simulated_pool import SimulatedPool
from eeipu.stage_tree.scheduler import Scheduler
from eeipu.stage_tree.search_plan import SearchPlan
from eeipu.stages.iterative import Training, iterative
from eeipu.stages.paths import Path
from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask
from eeipu.stages.schedules import Piecewise
from eeipu.stages.searchable_schedules import Searchable

# --- large plans ------------------------------------------------------------------------------


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


# --- large studies ----------------------------------------------------------------------------

RULES = {"no early stopping": None, "ASHA": eeipu.ASHA(min_steps=10, reduction=2.0)}
STUDIES = (1_250, 10_000)


def large_studies() -> Iterator[Figure]:
    """Studies of ten segments a trial: the tuner's own CPU time, and whether it grows."""
    for name in RULES:
        times = {}
        for trials in STUDIES:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                times[trials] = pool.apply(_study_ms, (name, trials))
            label = f"study of {trials:,} trials of ten segments, {name}"
            yield at_most(f"{label}: the tuner's own time a trial", times[trials], "ms", 5.0)
        few, many = STUDIES
        growth = times[many] / times[few]
        label = f"the tuner's own time a trial, {name}, {many:,} trials over {few:,}"
        yield at_most(label, growth, "ratio", 1.2)


def _study_ms(rule: str, trials: int) -> float:
    """The CPU time that the tuner takes for a trial, on workers that take none."""
    _be_quiet()
    rates = [Categorical([0.1, 0.03, 0.01, 0.003, 0.001])] * 10
    space = {"lr": Searchable(Piecewise, rates, list(range(10, 100, 10)))}
    fit = iterative(Training(_never, _never, _never), space, 100, name="fit", version="1")
    cache = StageCache()
    no_time: dict[str, Any] = {"thinking_s": lambda _: 0.0, "driving_s": lambda _: 0.0}
    cluster = SimulatedPool(20, cache, _task_s, _task_value, **no_time)
    tuner = Tuner(
        Pipeline([fit]),
        method="random",
        early_stopping=RULES[rule],
        cache=cache,
        executor=cluster,
        seed=0,
    )
    began_s = time.process_time()
    tuner.run(max_trials=trials, progress=False)
    return 1e3 * (time.process_time() - began_s) / trials


def _never(*_: Any) -> Any:
    raise AssertionError("nothing is trained")


def _task_s(task: StageTask) -> float:
    return float(task.call.stop - task.call.start) if task.call.is_training else 0.0


def _task_value(task: StageTask) -> float | None:
    return None if task.call.is_training else zlib.crc32(task.call.key.encode()) / 2**32


def _be_quiet() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("eeipu").setLevel(logging.ERROR)


def figures() -> Iterator[Figure]:
    """All figures, those of the tuner first."""
    yield from large_studies()
    yield from large_plans()


if __name__ == "__main__":
    _be_quiet()
    show(figures())
