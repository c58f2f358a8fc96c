"""Kill the workers of a study at random instants, and count lost results and repeated work.

`python benchmarks/chaos.py [--kills 50] [--seed 0] [--json]`
"""

import math
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import psutil
from figures import Figure, arguments_of, at_least, at_most, show

from eeipu import Float, Pipeline, StageCache, Tuner, stage

WORKERS = 4
SECONDS_BETWEEN_KILLS = 0.5


def pipeline_in(folder: str) -> Pipeline:
    """Three stages that leave a file when they have ended, and take a quarter of a second."""

    def note(name: str, value: float) -> None:
        time.sleep(0.25)
        Path(folder, f"{name} {value!r} {time.time_ns()}").touch()

    # A call may be killed again and again here, through no fault of its own.
    @stage(space={"x": Float(0.0, 1.0, step=0.125)}, version="1", retries=20)
    def prep(data: float, *, x: float) -> float:
        note("prep", data + x)
        return data + x

    @stage(space={"y": Float(0.0, 1.0)}, version="1", retries=20)
    def fit(prepared: float, *, y: float) -> float:
        note("fit", prepared + y)
        return prepared + y

    @stage(space={"z": Float(0.0, 1.0)}, version="1", retries=20)
    def score(model: float, *, z: float) -> float:
        note("score", model + z)
        return model + z

    return Pipeline([prep, fit, score])


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is a worker that lives."""
    try:
        return any("popen_loky_posix" in part for part in process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def kill_at_random(kills: int, seed: int, is_over: threading.Event, killed: list[int]) -> None:
    """Kill one of this process's workers again and again."""
    rng = random.Random(seed)
    while len(killed) < kills and not is_over.wait(rng.expovariate(1.0 / SECONDS_BETWEEN_KILLS)):
        workers = [child for child in psutil.Process().children() if is_worker(child)]
        if workers:
            victim = rng.choice(workers)
            victim.kill()
            killed.append(victim.pid)


def chaos(kills: int = 50, seed: int = 0) -> Iterator[Figure]:
    """One study under fire."""
    with tempfile.TemporaryDirectory() as folder:
        ended = Path(folder, "ended")
        ended.mkdir()
        tuner = Tuner(
            pipeline_in(str(ended)),
            budget=1e6,
            method="random",
            max_parallel=WORKERS,
            cache=StageCache(Path(folder, "cache")),
            top_q=1000,  # nothing is dropped, so what ends twice was run twice
            seed=seed,
        )
        is_over, killed = threading.Event(), []
        killer = threading.Thread(target=kill_at_random, args=(kills, seed, is_over, killed))
        began = time.perf_counter()
        killer.start()
        while killer.is_alive():
            study = tuner.run(0.0, max_trials=20, progress=False)
        is_over.set()
        killer.join()
        wall_s = time.perf_counter() - began
        calls = Counter(path.name.rsplit(" ", 1)[0] for path in ended.iterdir())
    trials = study.trials
    wrong = [
        t for t in trials if t.value is None or not math.isclose(t.value, sum(t.params.values()))
    ]
    unpaid = [
        t
        for t in trials
        if t.user_attrs["charged"] < math.fsum(c for c in t.user_attrs["stage_costs"] if c)
    ]
    again = sum(count - 1 for count in calls.values())
    yield at_least("workers killed", len(killed), "count", kills)
    yield Figure("trials finished meanwhile", len(trials), "count")
    yield at_most("trials lost or wrong", len(wrong), "count", 0)
    yield at_most("trials charged less than they cost", len(unpaid), "count", 0)
    twice = len(trials) - len({tuple(trial.params.values()) for trial in trials})
    yield at_most("configurations that two trials have", twice, "count", 0)
    # A kill in the milliseconds between a stage's return and its entry in the cache costs one.
    yield Figure("calls that ended, and had to be repeated", again, "count")
    yield at_most(
        "charged, over all the workers' time", tuner.spent / (WORKERS * wall_s), "ratio", 1
    )


if __name__ == "__main__":
    parser = arguments_of(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    show(chaos(arguments.kills, arguments.seed))
