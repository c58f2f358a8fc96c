"""Faults: of the places where a cache is, and of pipelines that went wrong.

`python benchmarks/faults.py [--section places|pipelines] [--only WORDS] [--json]` or `make faults`.
Each section takes some minutes on two cores.

- *places*: kills, damage, races, a full disk, lost permissions, clocks. Every figure is a number of
  failures, or of successes, out of a stated number of tries.
- *pipelines*: the tables of `fault_cases`. Each case runs in processes of its own. Wrong values and
  needless misses are counted and named; the times of looks are beside those of `joblib.hash`.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import optuna
from fault_cases.judging import figures as figures_of_pipelines
from figures import Figure, at_most, show

from eeipu import CacheMiss, Float, Int, Pipeline, StageCache, Tuner, stage
from eeipu.caching.cache_directory import MARKER
from eeipu.caching.leases.file_locks import FileLeases
from eeipu.caching.leases.heartbeats import HeartbeatLeases
from eeipu.caching.leases.lease import wait_for
from eeipu.stages.calls import stage_calls
from eeipu.stages.worker import run_path

# Children start in milliseconds, and what they load is loaded already.
fork = multiprocessing.get_context("fork")

# Gets a directory, a pipe to say something through, and a seed.
Work = Callable[[Path, int, int], None]

KEYS = [f"{i:02d}" * 32 for i in range(40)]
MAX_BYTES = 2**20


def value_of(key: str, size: int | None = None) -> dict[str, Any]:
    """The one right value under a key."""
    seed = int(key[:4])
    count = 10 ** (seed % 5) if size is None else size
    return {"key": key, "array": np.full(count, seed, dtype=np.float64)}


def is_right(key: str, value: Any) -> bool:
    """Whether a value is the one under a key."""
    return bool(value["key"] == key and np.array_equal(value["array"], value_of(key)["array"]))


# --- killed processes -------------------------------------------------------------------------


def put_forever(location: Path, log: int, seed: int) -> None:
    """Put values in random order, and log what is there for good."""
    rng, cache = random.Random(seed), StageCache(location)
    while True:
        key = rng.choice(KEYS)
        cache.put(key, value_of(key))
        os.write(log, f"{key}\n".encode())


def get_forever(location: Path, log: int, seed: int) -> None:
    """Get values in random order, and log wrong ones."""
    rng, cache = random.Random(seed), StageCache(location, memory_bytes=2**16)
    while True:
        key = rng.choice(KEYS)
        with suppress(CacheMiss), cache.holders.using([key]):
            if not is_right(key, cache.get(key)):
                os.write(log, b"wrong\n")


def evict_forever(location: Path, _log: int, seed: int) -> None:
    """Put values where there is room for few of them."""
    rng, cache = random.Random(seed), StageCache(location, max_bytes=MAX_BYTES)
    while True:
        key = rng.choice(KEYS)
        cache.put(key, value_of(key), cost=rng.random())
        cache.holders.pin("study", rng.sample(KEYS, 2))


def killed(
    work: Work, location: Path, delay_s: float, seed: int, *, after_a_word: bool = False
) -> str:
    """What a child logged until it was killed, after a delay since it began or first spoke."""
    ours, theirs = os.pipe()
    child = fork.Process(target=work, args=(location, theirs, seed))
    child.start()
    os.close(theirs)
    word = os.read(ours, 1).decode() if after_a_word else ""
    time.sleep(delay_s)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with os.fdopen(ours) as log:
        return word + log.read()


def leftovers(location: Path) -> list[Path]:
    """Files that are neither entries nor counts of their hits, nor pins, nor the marker."""
    kinds = {"entries": ".stage", "hits": "", "pins": ".json", MARKER: ""}
    files = [path for path in location.rglob("*") if path.is_file()]
    found = [(path, kinds.get(path.relative_to(location).parts[0])) for path in files]
    return [path for path, suffix in found if suffix is None or path.suffix != suffix]


def kills(tries: int, seed: int = 0) -> Counter[str]:
    """Kill processes that put, get and evict, and count what is wrong afterwards."""
    rng, wrong = random.Random(seed), Counter[str]()
    with directory() as root:
        for number in range(tries):
            work = (put_forever, get_forever, evict_forever)[number % 3]
            location = root / ("bounded" if work is evict_forever else "free")
            log = killed(work, location, rng.uniform(0.0, 0.12), number)
            cache = StageCache(location)
            if work is put_forever:
                wrong["lost"] += len(set(log.split()) - set(cache))
            elif "wrong" in log:
                wrong["values"] += 1
            wrong["damaged"] += len(cache.verify())
            wrong["values"] += sum(not is_right(key, cache.get(key)) for key in cache)
            cache.gc()
            wrong["leftovers"] += len(leftovers(location))
            if work is evict_forever and cache.stats().size_bytes > MAX_BYTES:
                wrong["beyond the bound"] += 1
    return wrong


@stage(space={"x": Float(0.0, 1.0)}, version="1")
def features(data: float, *, x: float) -> np.ndarray:
    """The first stage of the study that is killed."""
    time.sleep(0.003)
    return np.full(5000, data + round(x, 1))


@stage(space={"y": Float(0.0, 1.0)}, version="1")
def score(array: np.ndarray, *, y: float) -> float:
    """The last one."""
    time.sleep(0.003)
    return float(array.mean()) - y


def run_study(root: Path, _log: int, _seed: int, trials: int = 10**6) -> None:
    """Go on with the study in a directory."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    Tuner(
        Pipeline([features, score]),
        budget=1e6,
        method="random",
        cache=StageCache(root / "cache", max_bytes=10 * MAX_BYTES),
        storage=f"sqlite:///{root}/study.db",
        study_name="faults",
    ).run(1.0, max_trials=trials, progress=False)


def finished(root: Path) -> dict[int, tuple[float, float, float]]:
    """Number -> parameters and value of the trials that the storage calls complete."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="faults", storage=f"sqlite:///{root}/study.db")
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return {t.number: (t.params["features.x"], t.params["score.y"], t.value) for t in complete}


def study_kills(tries: int, seed: int = 0) -> Counter[str]:
    """Kill a running study again and again, and count what is lost or wrong afterwards."""
    rng, wrong = random.Random(seed), Counter[str]()
    with directory() as root:
        first = fork.Process(target=run_study, args=(root, 0, 0, 1))
        first.start()
        first.join()
        known: dict[int, tuple[float, float, float]] = {}
        for number in range(tries):
            killed(run_study, root, rng.uniform(0.2, 1.5), number)
            now = finished(root)
            wrong["lost trials"] += sum(now.get(n) != trial for n, trial in known.items())
            known = now
            wrong["damaged"] += len(StageCache(root / "cache").verify())
        for x, y, value in known.values():
            wrong["values"] += value != float(np.full(5000, 1.0 + round(x, 1)).mean()) - y
        StageCache(root / "cache").gc()
        wrong["leftovers"] += len(leftovers(root / "cache"))
        wrong["finished"] = len(known)
    return wrong


# --- damage -----------------------------------------------------------------------------------


def damage(kind: str, path: Path, other: Path, rng: random.Random) -> int:
    """Damage an entry's file; how many entries are damaged by it."""
    content = path.read_bytes()
    position = rng.randrange(len(content))
    if kind == "truncate":
        path.write_bytes(content[:position])
    elif kind == "flip":
        flipped = bytearray(content)
        flipped[position] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "delete the metadata":
        path.write_bytes(content.split(b"\n", 2)[2])
    else:
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
        return 2
    return 1


KINDS = ["truncate", "flip", "empty", "swap two files", "delete the metadata"]


def corruptions(tries: int, seed: int = 0) -> Counter[str]:
    """Damage entries, and count what is noticed by `verify` and by `get`, and what is wrong."""
    rng, found = random.Random(seed), Counter[str]()
    with directory() as root:
        for number in range(tries):
            cache = StageCache(root / str(number))
            for key in KEYS[:4]:
                cache.put(key, value_of(key))
            files = sorted((root / str(number)).glob("entries/*/*"))
            path, other = rng.sample(files, 2)
            expected = damage(KINDS[number % len(KINDS)], path, other, rng)
            verified = len(cache.verify()) == expected
            misses, wrong = read_all(root / str(number))
            found["noticed"] += verified and misses == expected
            found["wrong values"] += wrong
            found["quarantined"] += len(list(root.glob(f"{number}/quarantine/*"))) == expected
    return found


def read_all(location: Path) -> tuple[int, int]:
    """How many of four entries are misses with a warning, and how many are wrong."""
    cache, misses, wrong = StageCache(location), 0, 0
    for key in KEYS[:4]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                wrong += not is_right(key, cache.get(key))
            except CacheMiss:
                misses += len(caught) == 1
    return misses, wrong


# --- races ------------------------------------------------------------------------------------


def run_nodes(location: Path, log: Path, nodes: int, seed: int) -> None:
    """Run all nodes of one stage in random order."""

    def work(data: int, *, n: int) -> int:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{n}\n".encode())
        os.close(descriptor)
        time.sleep(0.002)
        return data + n

    cache, each = StageCache(location), stage({"n": Int(0, nodes)}, name="work", version="1")(work)
    order = list(range(nodes))
    random.Random(seed).shuffle(order)
    for n in order:
        (run,) = run_path(stage_calls([each], [{"n": n}], "inputs"), (1,), cache)
        assert run.output == 1 + n


def race(processes: int, nodes: int) -> Counter[str]:
    """Have processes run the same nodes at once; how often the nodes were executed."""
    with directory() as root:
        children = [
            fork.Process(target=run_nodes, args=(root / "cache", root / "log", nodes, seed))
            for seed in range(processes)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        failed = sum(child.exitcode != 0 for child in children)
        runs = Counter((root / "log").read_text().split())
        more = sum(count > 1 for count in runs.values())
        return Counter(executed=len(runs), twice=more, failed=failed)


# --- places that fail -------------------------------------------------------------------------


def tune(location: Path, trials: int, midway: Callable[[], None] = lambda: None) -> int:
    """Run a study whose outputs are large; how many trials were finished."""

    @stage(space={"x": Float(0.0, 1.0)}, version="1")
    def large(*, x: float) -> np.ndarray:
        return np.full(2**17, x)  # 1 MiB

    @stage(space={"y": Float(0.0, 1.0)}, version="1")
    def mean(array: np.ndarray, *, y: float) -> float:
        return float(array.mean()) - y

    def act(_study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.number == trials // 2:
            midway()

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pipeline = Pipeline([large, mean])
    tuner = Tuner(
        pipeline,
        budget=1e6,
        method="random",
        top_q=100,
        cache=StageCache(location),
        callbacks=[act],
    )
    study = tuner.run(max_trials=trials, progress=False)
    good = [t for t in study.trials if t.value is not None]
    return sum(abs(t.value - (t.params["large.x"] - t.params["mean.y"])) < 1e-12 for t in good)


def in_child(work: Callable[[], int]) -> int:
    """The count that a child process comes to; -1 if it fails."""
    ours, theirs = os.pipe()

    def run() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            count = work()
        reasons = any("could not be kept" in str(each.message) for each in caught)
        os.write(theirs, json.dumps([count, reasons]).encode())

    child = fork.Process(target=run)
    child.start()
    os.close(theirs)
    child.join()
    with os.fdopen(ours) as log:
        said = log.read()
    count, has_warned = json.loads(said) if said else (-1, False)
    return int(count) if has_warned else -1


def disk_full(trials: int) -> tuple[str, int]:
    """Run a study on a file system of 4 MiB; how many trials were finished there."""
    with directory() as root:
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(root)]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return "a limit on the size of files", in_child(lambda: tune_limited(root, trials))
        try:
            return "a tmpfs", in_child(lambda: tune(root / "cache", trials))
        finally:
            subprocess.run(["umount", str(root)], check=True)


def tune_limited(root: Path, trials: int) -> int:
    """A study whose files may not grow beyond half a MiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
    return tune(root / "cache", trials)


def permission_lost(trials: int) -> int:
    """Take the right to write away midway through a study; how many trials were finished."""
    with directory() as root:

        def lose() -> None:
            for path in [root / "cache", *(root / "cache").rglob("*")]:
                if path.is_dir():
                    path.chmod(0o500)

        def work() -> int:
            if os.geteuid() == 0:  # whom permissions do not stop
                os.chown(root, 65534, 65534)
                os.setuid(65534)
            return tune(root / "cache", trials, lose)

        return in_child(work)


def clock_backwards(steps: int, seed: int = 0) -> Counter[str]:
    """Set the clock back again and again; what is lost, wrong, or beyond the bound."""
    rng, wrong = random.Random(seed), Counter[str]()
    now = itertools.accumulate(itertools.repeat(0), lambda t, _: t + rng.uniform(-3e6, 3e6))
    with directory() as root:
        cache = StageCache(root / "cache", MAX_BYTES, now=lambda: 1.7e9 + next(now))
        pinned = [key for key in KEYS if int(key[:4]) % 5 == 2][:3]
        for key in pinned:
            cache.put(key, value_of(key))
        cache.holders.pin("study", pinned)
        for _ in range(steps):
            key = rng.choice(KEYS)
            cache.put(key, value_of(key))
            wrong["values"] += not is_right(key, cache.get(key))
            wrong["beyond the bound"] += cache.stats().size_bytes > MAX_BYTES
            wrong["pins lost"] += sum(key not in cache for key in pinned)
    return wrong


def hold_forever(location: Path, log: int, _seed: int) -> None:
    """Take a lease, say so, and keep it."""
    with wait_for(leases_in(location), "locks/node"):
        os.write(log, b"held\n")
        time.sleep(1e6)


def leases_in(location: Path) -> Any:
    """The leases of a directory; of a kind without kernel locks where the name says so."""
    if location.name == "beating":
        return HeartbeatLeases(fsspec.filesystem("file"), str(location))
    return FileLeases(location)


def holders_killed(name: str, tries: int) -> tuple[int, float]:
    """Kill holders of a lease; how often it could be had then, and after how many seconds."""
    taken, longest_s = 0, 0.0
    with directory() as root:
        (root / name).mkdir()
        for number in range(tries):
            said = killed(hold_forever, root / name, 0.01, number, after_a_word=True)
            taken += said == "held\n"
            start = time.perf_counter()
            with wait_for(leases_in(root / name), "locks/node"):
                longest_s = max(longest_s, time.perf_counter() - start)
    return taken, longest_s


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that goes afterwards."""
    path = Path(tempfile.mkdtemp(prefix="eeipu-faults-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def nothing(name: str, wrong: Counter[str], *kinds: str) -> Iterator[Figure]:
    """Figures that should be zero."""
    for kind in kinds:
        yield at_most(f"{name}: {kind}", wrong[kind], "count", 0)


def all_of(name: str, value: float, tries: int) -> Figure:
    """A count that should be complete."""
    return Figure(name, value, "count", f"== {tries}", value == tries)


def figures_of_places() -> Iterator[Figure]:
    """The faults of places, one after another."""
    wrong = kills(150)
    yield from nothing(
        "SIGKILL x 150 in puts, gets, evictions",
        wrong,
        *("lost", "values", "damaged", "leftovers", "beyond the bound"),
    )
    wrong = study_kills(50)
    name = "SIGKILL x 50 in a running study"
    yield from nothing(name, wrong, "lost trials", "values", "damaged", "leftovers")
    yield Figure(f"{name}: trials that were finished between them", wrong["finished"], "count")
    found = corruptions(200)
    yield all_of("200 corruptions: noticed by verify and by get", found["noticed"], 200)
    yield all_of("200 corruptions: put into quarantine", found["quarantined"], 200)
    yield from nothing("200 corruptions", found, "wrong values")
    runs = race(8, 100)
    yield all_of("8 processes, 100 nodes: executed", runs["executed"], 100)
    yield from nothing("8 processes, 100 nodes", runs, "twice", "failed")
    how, count = disk_full(20)
    yield all_of(f"disk full ({how}): trials finished, with warnings", count, 20)
    count = permission_lost(20)
    yield all_of("permission lost: trials finished, with warnings", count, 20)
    wrong = clock_backwards(200)
    yield from nothing("clock set back x 200", wrong, "values", "pins lost", "beyond the bound")
    for name, kind in (("files", "kernel locks"), ("beating", "beating leases")):
        taken, longest_s = holders_killed(name, 20)
        yield all_of(f"20 holders killed, {kind}: their place taken", taken, 20)
        yield Figure(f"20 holders killed, {kind}: longest wait", longest_s, "s")


def figures(section: str | None, only: str) -> Iterator[Figure]:
    """The figures of a section; of both by default.

    Args:
        section: Its name.
        only: A part of the names of the cases to run, which only the pipelines have.
    """
    if section != "pipelines" and not only:
        yield from figures_of_places()
    if section != "places":
        yield from figures_of_pipelines(only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--section", choices=["places", "pipelines"])
    parser.add_argument("--only", default="", help="a part of the names of the cases to run")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    show(figures(asked.section, asked.only))
