"""Pipelines for workers elsewhere, which tell by files how they were called.

Their functions are made in functions, so that they travel by value: workers do not see the tests.
"""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np

from eeipu import Categorical, Float, Pipeline, Tuner, stage


def diary(folder, act=None, **options):
    """A pipeline `prep -> fit -> score` that leaves a file in `folder` for each call.

    Args:
        folder: Where the files go.
        act: Called as `act(y, before)` in `fit`, where `before` is how many calls had that y.
        options: Of the stage `fit`.
    """
    folder, act = str(folder), act or (lambda y, before: None)

    @stage(space={"x": Categorical([1, 2])}, version="1")
    def prep(data, *, x):
        Path(folder, f"prep {x} {time.time_ns()}").touch()
        return data * x

    @stage(space={"y": Float(0.0, 1.0)}, version="1", **options)
    def fit(prepared, *, y):
        before = len(list(Path(folder).glob(f"fit {y} *")))
        Path(folder, f"fit {y} {time.time_ns()}").touch()
        act(y, before)
        prepared += y  # what a stage gets is its own, and can be written to
        return prepared

    @stage(space={"z": Float(0.0, 1.0)}, memoize=False, version="1")
    def score(fitted, *, z):
        Path(folder, f"score {z} {time.time_ns()}").touch()
        return float(fitted.sum()) + z

    return Pipeline([prep, fit, score])


def data(n=20_000):
    """More than what engines send along with their messages."""
    return np.ones(n)


def counts(folder):
    """How often each stage was called."""
    return Counter(path.name.split()[0] for path in Path(folder).iterdir())


def tuner_of(pipeline, **arguments):
    return Tuner(
        pipeline, **{"budget": 1e3, "method": "random", "seed": 0, "max_parallel": 2, **arguments}
    )


def point(y=0.5, x=1, z=0.5):
    return {"prep.x": x, "fit.y": y, "score.z": z}


def results(study):
    """What was tried and found, in the order of the trials."""
    return [(trial.params, trial.value) for trial in study.get_trials(deepcopy=False)]


def check_finds_what_one_finds(executor, folder, **arguments):
    """Check that workers find what this thread finds, and call no stage twice for it."""
    alone, many = folder / "alone", folder / "many"
    alone.mkdir()
    many.mkdir()
    single = tuner_of(diary(alone), **{**arguments, "max_parallel": 1})
    expected = single.run(data(), max_trials=6, progress=False)
    tuner = tuner_of(diary(many), executor=executor, **arguments)
    study = tuner.run(data(), max_trials=6, progress=False)
    assert results(study) == results(expected)
    assert counts(many) == counts(alone)
    return study


def dying(times):
    """Something for `fit` to do: end its worker, the first times that it is called with 0.25."""

    def act(y, before):
        if y == 0.25 and before < times:
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def check_survives_a_death(executor, folder, **arguments):
    """Check that a call whose worker is killed runs again, and is charged for both."""
    tuner = tuner_of(diary(folder, dying(1)), executor=executor, **arguments)
    for y in (0.25, 0.75):
        tuner.enqueue(point(y))
    study = tuner.run(data(), max_trials=2, progress=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert study.trials[0].value == data().size * 1.25 + 0.5
    assert len(list(folder.glob("fit 0.25 *"))) == 2
    attrs = study.trials[0].user_attrs
    assert attrs["charged"] >= attrs["stage_costs"][1] + 0.1
    return study


def observing(folder, factor, **options):
    """A pipeline `prep -> fit -> score` whose stages are observed, each look leaving a file."""
    folder = str(folder)

    def look(array):
        Path(folder, f"look {factor} {time.time_ns()}").touch()
        mean = factor * array.mean()
        array[:] = 0.0  # which must not reach the next stage
        return {"mean": mean, "size": np.int64(array.size), "none": float("nan")}

    @stage(space={"x": Categorical([1, 2])}, version="1", observe=look, **options)
    def prep(data, *, x):
        return data * x

    @stage(space={"y": Float(0.0, 1.0)}, version="1", observe=lambda array: array[0], **options)
    def fit(prepared, *, y):
        return prepared + y

    @stage(space={"z": Float(0.0, 1.0)}, version="1")
    def score(fitted, *, z):
        return float(fitted.mean()) + z

    return Pipeline([prep, fit, score])


def check_observes_what_one_observes(executor, folder, **arguments):
    """Check that trials on workers have observed what they would without workers and a cache.

    The points share stages, so that some outputs are reused, and so are those of a first study by a
    second one; the third has another observer.
    """
    points = [point(y, x, z) for x in (1, 2) for y in (0.25, 0.5) for z in (0.0, 0.5)]
    counts = []
    for factor in (1, 1, 2):
        tuner = tuner_of(observing(folder, factor), executor=executor, **arguments)
        for each in points:
            tuner.enqueue(each)
        study = tuner.run(data(), max_trials=len(points), progress=False)
        for trial in study.get_trials(deepcopy=False):
            x, y, z = trial.params["prep.x"], trial.params["fit.y"], trial.params["score.z"]
            assert trial.user_attrs["observations"] == {
                "prep.mean": factor * x,
                "prep.size": data().size,
                "fit": x + y,
                "score": x + y + z,
            }
        counts.append(len(list(Path(folder).glob(f"look {factor} *"))))
    return counts


NOTEBOOK = """
import threading
from dataclasses import dataclass
from eeipu import Float, Pipeline, stage

@dataclass
class Model:
    weight: float

@stage(space={"a": Float(0.0, 1.0)}, version="1", memoize=MEMOIZE)
def fit(data, *, a):
    return threading.Lock() if a == 0.25 else Model(data + a)

@stage(space={"b": Float(0.0, 1.0)}, version="1")
def score(model, *, b):
    return model.weight + b

pipeline = Pipeline([fit, score])
"""


def notebook():
    """A pipeline defined where no worker can import it, whose first output may not be pickled."""
    names = {"__name__": "__main__", "MEMOIZE": False}
    exec(NOTEBOOK, names)
    return names["pipeline"]


def check_runs_a_notebook(executor):
    """Check that what is defined in a notebook runs, and what cannot travel fails alone."""
    tuner = tuner_of(notebook(), executor=executor)
    tuner.enqueue({"fit.a": 0.25, "score.b": 0.5})
    tuner.enqueue({"fit.a": 0.5, "score.b": 0.5})
    study = tuner.run(1.0, max_trials=2, progress=False)
    failed, done = study.trials
    assert (failed.state.name, done.value) == ("FAIL", 2.0)
    assert "pickle" in failed.user_attrs["error"]
