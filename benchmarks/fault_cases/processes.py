"""Faults of the processes that share a cache: they are killed, or need the same at once."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import optuna

from eeipu import CacheMiss, Float, Int, Pipeline, StageCache, Tuner, stage
from eeipu.caching.cache_directory import MARKER
from eeipu.caching.leases.file_locks import FileLeases
from eeipu.caching.leases.heartbeats import HeartbeatLeases
from eeipu.caching.leases.lease import wait_for
from eeipu.stages.running.calls import stage_calls
from eeipu.stages.running.walks import run_path
from fault_cases.entries import KEYS, MAX_BYTES, directory, is_right, value_of

__all__ = ["fork", "holders_killed", "kills", "race", "study_kills"]

# Children start in milliseconds, and what they load is loaded already.
fork = multiprocessing.get_context("fork")

# Gets a directory, a pipe to say something through, and a seed.
Work = Callable[[Path, int, int], None]


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
