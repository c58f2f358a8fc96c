"""Faults of the place where a cache is: damage, a full disk, lost permissions, a wrong clock."""

import itertools
import json
import os
import random
import resource
import subprocess
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna

from eeipu import CacheMiss, Float, Pipeline, StageCache, Tuner, stage
from fault_cases.entries import KEYS, MAX_BYTES, directory, is_right, value_of
from fault_cases.processes import fork

__all__ = [
    "clock_backwards",
    "corruptions",
    "disk_full",
    "in_child",
    "permission_lost",
    "tune_limited",
]


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
