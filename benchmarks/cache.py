"""The speed of the cache: large values, small ones, a memoized trial, and 100,000 entries.

Run `python benchmarks/cache.py [--json]`; it takes two minutes and 3 GB of disk. Things that are
compared are measured alternately, and each ratio is that of the shortest times, because the machine
may have other work.
"""

import importlib
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from figures import Figure, at_least, at_most, show

from eeipu import Pipeline, StageCache, stage
from eeipu.fingerprints.keys import inputs_key
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.declaration import Stage

LARGE = 50_000_000  # float64: 400 MB
ROUNDS = 7
SMALL_CALLS = 1000
ENTRIES = 100_000
STAGES = 10
MEMORY_FILES = Path("/dev/shm")


def best(
    *works: Callable[[], Any], rounds: int = ROUNDS, between: Callable[[], Any] = lambda: None
) -> list[float]:
    """The least seconds that each piece of work took, all of them in turn."""
    times = []
    for _ in range(rounds):
        times.append([seconds(work) for work in works])
        between()
    return [min(each) for each in zip(*times, strict=True)]


def seconds(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long a piece of work takes."""
    start = clock()
    work()
    return clock() - start


@contextmanager
def directory(parent: Path | None = None) -> Iterator[Path]:
    """A directory that goes afterwards."""
    path = Path(tempfile.mkdtemp(prefix="eeipu-benchmark-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def save(path: Path, array: np.ndarray) -> None:
    """`numpy.save`, made durable."""
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())


def array_of(seed: int) -> np.ndarray:
    """What `joblib.Memory` is asked to remember; made before, so that only keeping it counts."""
    return MADE[0 * seed]


def text_of(seed: int) -> bytes:
    """A value of 1 kB."""
    return bytes(1000) + str(seed).encode()


MADE: list[np.ndarray] = []


def sync_files(root: Path) -> None:
    """Make all files below a directory durable."""
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def large() -> Iterator[Figure]:
    """An array of 400 MB against NumPy and against `joblib.Memory`."""
    MADE.append(np.random.default_rng(0).random(LARGE))
    with directory() as root:
        cache, path, calls = StageCache(root / "cache"), root / "array.npy", itertools.count(1)
        remembered = joblib.Memory(root / "joblib", verbose=0).cache(array_of)
        durable = joblib.Memory(root / "durable", verbose=0).cache(array_of)
        hasty = StageCache(root / "hasty", durable=False)

        def durable_joblib_put() -> None:
            durable(next(calls))
            sync_files(root / "durable")

        def drop() -> None:  # so that every put makes a new file
            cache.clear()
            hasty.clear()
            path.unlink()
            remembered.clear(warn=False)
            durable.clear(warn=False)

        save_s, put_s, hasty_s, joblib_s, durable_s = best(
            lambda: save(path, MADE[0]),
            lambda: cache.put("array", MADE[0]),
            lambda: hasty.put("array", MADE[0]),
            lambda: remembered(next(calls)),
            durable_joblib_put,
            between=drop,
        )
        cache.put("array", MADE[0])
        save(path, MADE[0])
        yield at_most("put 400 MB / numpy.save with fsync", put_s / save_s, "ratio", 1.3)
        yield at_most("put 400 MB / joblib.Memory with fsync", put_s / durable_s, "ratio", 1.0)
        yield at_most("put 400 MB / joblib.Memory, not durable", put_s / joblib_s, "ratio", 1.0)
        name = "put 400 MB, durable=False / joblib.Memory, not durable"
        yield at_most(name, hasty_s / joblib_s, "ratio", 1.0)
        yield Figure("put 400 MB", put_s, "s")
        remembered(0)
        load_s, get_s, joblib_s = best(
            lambda: np.load(path), lambda: cache.get("array"), lambda: remembered(0), rounds=40
        )
        yield at_most("get 400 MB / numpy.load", get_s / load_s, "ratio", 1.2)
        yield at_most("get 400 MB / joblib.Memory", get_s / joblib_s, "ratio", 1.0)
        yield Figure("get 400 MB", get_s, "s")
        mapped = StageCache(root / "cache", mmap=True)
        (mapped_s,) = best(lambda: mapped.get("array"))
        yield Figure("get 400 MB, mapped", mapped_s, "s")
    MADE.clear()


def small() -> Iterator[Figure]:
    """A hit on a value of 1 kB, from memory and from disk, against `joblib.Memory`."""
    with directory() as root:
        remembered = joblib.Memory(root / "joblib", verbose=0).cache(text_of)
        from_memory = StageCache(root / "cache")
        from_disk = StageCache(root / "cache", memory_bytes=1)
        from_memory.put("text", text_of(0))
        remembered(0)

        def many(call: Callable[[], Any]) -> Callable[[], None]:
            return lambda: [call() for _ in range(SMALL_CALLS)] and None

        joblib_s, memory_s, disk_s = best(
            many(lambda: remembered(0)),
            many(lambda: from_memory.get("text")),
            many(lambda: from_disk.get("text")),
            rounds=5,
        )
        for name, call_s in (("memory", memory_s), ("disk", disk_s)):
            yield at_least(
                f"joblib.Memory / hit on 1 kB, {name} tier", joblib_s / call_s, "ratio", 3.0
            )
            yield Figure(f"hit on 1 kB, {name} tier", call_s / SMALL_CALLS * 1e6, "us")
        (put_s,) = best(lambda: from_disk.put("text", text_of(0)), rounds=50)
        yield Figure("put 1 kB, durable", put_s * 1e3, "ms")


def plus_one(value: float) -> float:
    """A stage that takes no time."""
    return value + 1.0


def trial() -> Iterator[Figure]:
    """A trial of ten stages of which all, or all but the last, are memoized."""
    with directory() as root:
        stages = [stage(name=f"s{i}")(plus_one) for i in range(STAGES)]
        last = stage(name="last", memoize=False)(plus_one)
        for name, each in (("all", stages), ("all but the last", [*stages[:-1], last])):
            pipeline, cache = Pipeline(each), StageCache(root / "cache")
            pipeline.run({}, 0.0, cache=cache)
            (run_s,) = best(lambda p=pipeline, c=cache: p.run({}, 0.0, cache=c), rounds=200)
            yield at_most(f"a trial of {STAGES} stages, {name} memoized", run_s * 1e3, "ms", 5.0)


MODULE = """
import numpy as np

TABLE = {{"offset": {number}}}


{functions}


{classes}


def top(x):
    return {sum}
"""
FUNCTION = """
def f{i}(x, k={i}):
    y = x + TABLE["offset"]
    for step in range(3):
        y = np.abs(y) + step * k
        if y is None:
            raise ValueError("no number")
    return y
"""
METHOD = """
    def m{j}(self, x):
        z = x * {j}
        return f{j}(z) + self.a
"""
METHODS = 8


@dataclass(frozen=True)
class Size:
    """The size of a package: modules, functions and classes in each, lines in each."""

    modules: int
    functions: int
    classes: int
    lines: int


# Seconds of the first look at each, where it has a target.
PACKAGES = {Size(5, 15, 4, 300): None, Size(500, 5, 1, 100): 3.0}


def module_of(number: int, size: Size) -> str:
    """The source of a module of which all is used."""
    methods = "\n".join(METHOD.format(j=j) for j in range(METHODS))
    return MODULE.format(
        number=number,
        functions="\n\n".join(FUNCTION.format(i=i) for i in range(size.functions)),
        classes="\n\n".join(f"class C{i}:\n    a = {i}\n{methods}" for i in range(size.classes)),
        sum=" + ".join(
            [f"f{i}(x)" for i in range(size.functions)]
            + [f"C{i}().m1(x)" for i in range(size.classes)]
        ),
    )


def packages() -> Iterator[Figure]:
    """A memoized trial of ten stages that all use the same package, in CPU time."""
    for size, target_s in PACKAGES.items():
        yield from package(size, target_s)


def package(size: Size, target_s: float | None) -> Iterator[Figure]:
    """A memoized trial of ten stages that all use one package."""
    with directory() as root:
        names = [f"eeipu_benchmark_{size.modules}_{number}" for number in range(size.modules)]
        for number, name in enumerate(names):
            (root / f"{name}.py").write_text(module_of(number, size))
        sys.path.insert(0, str(root))
        modules = [importlib.import_module(name) for name in names]

        def stage_of(number: int) -> Stage:
            def use(value: float) -> float:
                return float(sum(each.top(value) for each in modules)) % 7 + number

            return stage(name=f"s{number}")(use)

        pipeline, cache = Pipeline(map(stage_of, range(STAGES))), StageCache(root / "cache")
        name = f"{STAGES} stages over {size.modules} modules of {size.lines} lines"
        first_s = seconds(lambda: refresh_code(pipeline.stages), time.process_time)
        first = f"{name}: the first look, CPU time"
        if target_s is None:
            yield Figure(first, first_s * 1e3, "ms")
        else:
            yield at_most(first, first_s * 1e3, "ms", target_s * 1e3)
        pipeline.run({}, 0.0, cache=cache)
        for what, work in (
            ("a look", lambda: refresh_code(pipeline.stages)),
            ("a memoized trial", lambda: pipeline.run({}, 0.0, cache=cache)),
        ):
            took_s = statistics.median(seconds(work, time.process_time) for _ in range(100))
            yield at_most(f"{name}: {what}, CPU time", took_s * 1e3, "ms", 5.0)
        sys.path.remove(str(root))


def many_entries() -> Iterator[Figure]:
    """A cache of 100,000 entries, on a file system in memory where there is one.

    What is measured is the cache's own work; to remove so many files from a disk takes minutes.
    """
    with directory(MEMORY_FILES if MEMORY_FILES.is_dir() else None) as root:
        keys = [inputs_key((i,)) for i in range(ENTRIES)]
        cache = StageCache(root / "cache", memory_bytes=1)
        for key in keys:
            cache.put(key, key, cost=1.0)
        name, sample = f"{ENTRIES:,} entries", keys[:: ENTRIES // 1000]
        opened: list[StageCache] = []
        open_s = seconds(lambda: opened.append(StageCache(root / "cache")))
        yield at_most(f"{name}: opening the cache", open_s * 1e3, "ms", 50.0)
        cache = opened[0]
        for what, asked in (("there", sample), ("not there", [key[::-1] for key in sample])):
            took_s = seconds(lambda asked=asked: [key in cache for key in asked])
            yield Figure(f"{name}: key in cache, {what}", took_s / len(sample) * 1e6, "us")
        yield Figure(f"{name}: stats, the first time", seconds(cache.stats), "s")
        time.sleep(0.1)  # folders that changed just now are listed again
        cache.stats()
        yield Figure(f"{name}: stats, again", seconds(cache.stats) * 1e3, "ms")
        yield Figure(f"{name}: retain all", seconds(lambda: cache.retain(keys)) * 1e3, "ms")
        took_s = seconds(lambda: cache.retain(keys[1000:]))
        yield Figure(f"{name}: retain all but 1,000", took_s * 1e3, "ms")
        bounded = StageCache(root / "cache", max_bytes=cache.stats().size_bytes)
        for which in ("first", "second"):
            took_s = seconds(lambda which=which: bounded.put(which, which, cost=1.0))
            yield Figure(f"{name}: the {which} put beyond the bound", took_s, "s")
        yield Figure(f"{name}: retain 10", seconds(lambda: cache.retain(keys[-10:])), "s")


def figures() -> Iterator[Figure]:
    """All figures."""
    for part in (small, trial, packages, large, many_entries):
        yield from part()


if __name__ == "__main__":
    show(figures())
