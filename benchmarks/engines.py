"""Measurements of execution engines: their overhead for each stage call, and the second worker.

Stages sleep for a fixed time, so that a second worker can double the throughput even on a machine
that has other work. All workers are started before the measurements begin, because the time of
their start belongs to no stage call.
"""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import optuna
from figures import Figure, at_least, at_most
from loky.process_executor import ProcessPoolExecutor

from eeipu import Float, Int, Pipeline, StageCache, Tuner, stage
from eeipu.executors import ProcessExecutor, RayExecutor
from eeipu.executors.dask import for_stages
from eeipu.executors.futures_pool import FuturesPool
from eeipu.executors.opening import temporary_cache
from eeipu.stages.running.tasks import StageTask
from eeipu.stages.running.worker import Job

STAGE_S = 0.1
STAGES = 3
RUN_S = 10.0  # long enough that a trial more or less is two percent
ROUNDS = 2  # one worker and two, in turns: other work comes and goes
CALLS = 200
LARGE_BYTES = 64 * 10**6
HANDOVERS = 15

# What a call may take beyond a bare one, in milliseconds.
LIMITS_MS = {"loky": 10.0, "dask": 20.0, "ray": 20.0}


@dataclass(frozen=True)
class Engine:
    """Two workers.

    Attributes:
        executor: As a tuner takes it.
        bare: Calls a function with an argument, by the engine itself.
    """

    executor: Executor
    bare: Callable[[Callable[[Any], Any], Any], Any]


@contextmanager
def loky() -> Iterator[Engine]:
    """As `executor="processes"` has it."""
    with ProcessExecutor(2) as executor, ProcessPoolExecutor(1) as plain:
        yield Engine(executor, lambda function, value: plain.submit(function, value).result())


@contextmanager
def dask() -> Iterator[Engine]:
    """A scheduler and two workers, all of them processes or threads of this machine."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        executor = client.get_executor(pure=False)
        yield Engine(executor, lambda function, value: executor.submit(function, value).result())


@contextmanager
def ray() -> Iterator[Engine]:
    """Ray on this machine."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)

    @ray.remote
    def call(function: Callable[[Any], Any], value: Any) -> Any:
        return function(value)

    try:
        with RayExecutor() as executor:
            yield Engine(executor, lambda function, value: ray.get(call.remote(function, value)))
    finally:
        ray.shutdown()


ENGINES = {"loky": loky, "dask": dask, "ray": ray}


def sleeping(stage_s: float) -> Pipeline:
    """Stages that take a fixed time each."""

    def step(before: float, *, x: float) -> float:
        time.sleep(stage_s)
        return before + x

    return Pipeline(
        [
            stage(space={"x": Float(0.0, 1.0)}, name=f"s{k}", version="1")(step)
            for k in range(STAGES)
        ]
    )


def trials_in(run_s: float, engine: Engine, workers: int, seed: int) -> int:
    """How many trials end in so many seconds, counted from the end of the first one."""
    began: list[float] = []
    ended: list[float] = []

    def note(study: optuna.Study, _: object) -> None:
        now = time.perf_counter()
        ended.append(now)
        if len(ended) == 1:
            began.append(now)
        if now - began[0] >= run_s:
            study.stop()

    tuner = Tuner(
        sleeping(STAGE_S),
        budget=1e9,
        method="random",
        seed=seed,
        executor=engine.executor,
        max_parallel=workers,
        callbacks=[note],
    )
    tuner.run(0.0, progress=False)
    return sum(0 < at - began[0] <= run_s for at in ended)


def speedup(name: str, engine: Engine) -> Iterator[Figure]:
    """Two workers against one."""
    trials_in(1.0, engine, 2, seed=99)  # the workers start, and load what they need
    done = {1: 0, 2: 0}
    for round_ in range(ROUNDS):
        for workers in done:
            done[workers] += trials_in(RUN_S, engine, workers, seed=round_)
    yield at_least(f"{name}: trials by two workers / by one", done[2] / done[1], "ratio", 1.8)
    ideal_s = STAGES * STAGE_S
    trial_s = ROUNDS * RUN_S / done[1]
    yield Figure(
        f"{name}: one worker's time per stage call beyond its sleep",
        1e3 * (trial_s - ideal_s) / STAGES,
        "ms",
    )


def overhead(name: str, engine: Engine) -> Iterator[Figure]:
    """What a stage call takes beyond a bare call, which are made in turns."""
    bare_s, ours_s = calls_in_turns(engine, temporary_cache())
    ours_ms, bare_ms = 1e3 * median(ours_s), 1e3 * median(bare_s)
    yield Figure(f"{name}: a bare call", bare_ms, "ms")
    limit = LIMITS_MS[name]
    yield at_most(f"{name}: a stage call beyond a bare call", ours_ms - bare_ms, "ms", limit)
    bare_s, ours_s = calls_in_turns(engine, None)
    beyond_ms = 1e3 * (median(ours_s) - median(bare_s))
    yield Figure(f"{name}: the same without a cache", beyond_ms, "ms")
    with tempfile.TemporaryDirectory() as folder:
        bare_s, ours_s = calls_in_turns(engine, StageCache(folder))
    beyond_ms = 1e3 * (median(ours_s) - median(bare_s))
    yield Figure(f"{name}: the same with a directory that waits for the disk", beyond_ms, "ms")


def calls_in_turns(engine: Engine, cache: StageCache | None) -> tuple[list[float], list[float]]:
    """Seconds of bare calls, and of calls of stages that do nothing."""
    pipeline = sleeping(0.0)
    pool = FuturesPool(for_stages(engine.executor), 1, Job(pipeline.stages, (0.0,), cache))
    bare_s, ours_s = [], []
    for k in range(CALLS // STAGES):
        calls = pipeline.calls({f"s{i}.x": k / CALLS for i in range(STAGES)}, "inputs")
        args = None
        for depth, call in enumerate(calls):
            bare_s.append(seconds(partial(engine.bare, abs, -k)))
            is_last = depth == STAGES - 1
            task = StageTask(call, args, is_last=is_last)
            start = time.perf_counter()
            pool.submit(task)
            (event,) = pool.wait()
            ours_s.append(time.perf_counter() - start)
            assert event.result is not None, event.error
            run = event.result.run
            is_kept = event.result.is_kept and run.output is None
            args = None if is_kept else (run.output,)
    pool.close(at_once=False)
    # The first calls load what the others find loaded.
    return bare_s[STAGES:], ours_s[STAGES:]


def handover(name: str, engine: Engine) -> Iterator[Figure]:
    """A large output on its way to the next task: by the object store, and by the cache."""

    @stage(space={"n": Int(1, 10**9)}, version="1")
    def make(before: float, *, n: int) -> Any:
        return np.full(n, before)

    @stage(space={"k": Int(0, 99)}, version="1")
    def use(array: Any, *, k: int) -> float:
        return float(array[k])

    pipeline = Pipeline([make, use])
    job = Job(pipeline.stages, (1.0,), temporary_cache())
    pool = FuturesPool(for_stages(engine.executor), 1, job)
    seconds_of = defaultdict(list)
    for k in range(HANDOVERS):
        # So that each is written anew.
        first, last = pipeline.calls({"make.n": LARGE_BYTES // 8 + k, "use.k": k}, "one")
        pool.submit(StageTask(first, None, is_last=False))
        (made,) = pool.wait()
        ways = {"object store": (made.result.run.output,), "cache": None}
        for way, args in ways.items():
            call = replace(last, key=f"{last.key} {way}")
            start = time.perf_counter()
            pool.submit(StageTask(call, args, is_last=True))
            (used,) = pool.wait()
            assert used.result.run.output == 1.0
            seconds_of[way].append(time.perf_counter() - start)
    pool.close(at_once=False)
    for way, taken_s in seconds_of.items():
        yield Figure(f"{name}: 64 MB to the next task by the {way}", 1e3 * median(taken_s), "ms")


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def figures(names: list[str]) -> Iterator[Figure]:
    """The figures of these engines, one engine after another."""
    for name in names:
        yield Figure(f"{name}: other work on the machine, one-minute load", os.getloadavg()[0], "1")
        with ENGINES[name]() as engine:
            yield from speedup(name, engine)
            yield from overhead(name, engine)
            if name == "ray":
                yield from handover(name, engine)
