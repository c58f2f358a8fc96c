"""What the driver processes of a test run: a small finite pipeline that writes down its calls."""

import os
import time
from pathlib import Path

from eeipu import Int, Pipeline, StageCache, Tuner, stage

N_INITIAL = 6
BUDGET = 30.0
PREP_COST, FIT_COST = 2.0, 1.0
FIRST = {"prep.a": 3, "fit.b": 3}


def note(folder, name, *values):
    with Path(folder, "calls").open("a") as calls:  # a short line is written whole
        calls.write(" ".join(map(str, (name, os.getpid(), *values))) + "\n")


def wait_for(path):
    deadline = time.monotonic() + 120.0
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.02)


def pipeline_in(folder, *, is_victim=False, awaits_kill=False):
    called = [0]

    @stage(space={"a": Int(0, 7)}, version="1", cost=lambda a: PREP_COST)
    def prep(data, *, a):
        note(folder, "prep", a)
        return data + (a - 4) ** 2

    @stage(space={"b": Int(0, 7)}, version="1", cost=lambda b: FIT_COST, memoize=False)
    def fit(data, *, b):
        note(folder, "fit", data, b)
        called[0] += 1
        if is_victim and called[0] == 2:
            Path(folder, "stuck").touch()
            time.sleep(120.0)
        if awaits_kill and called[0] == 2:
            wait_for(Path(folder, "killed"))
        time.sleep(0.02)
        return -data - (b - 4) ** 2

    return Pipeline([prep, fit])


def tuner_in(folder, storage, **roles):
    return Tuner(
        pipeline_in(folder, **roles),
        budget=BUDGET,
        n_initial=N_INITIAL,
        top_q=3,
        cache=StageCache(Path(folder, "cache")),
        storage=storage,
        study_name="together",
        seed=0,
    )


def drive(folder, storage, start, roles):
    """One driver: all begin together, enqueue the same configuration, and tune to the end."""
    start.wait()
    tuner = tuner_in(folder, storage, **roles)
    tuner.enqueue(FIRST)
    tuner.run(0, progress=False)
