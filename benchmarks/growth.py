"""How times grow with the number of trials: of a suggestion, and of a whole trial without models.

Everything runs on one thread. Times are the processor's, as multiples of those at 100 trials in the
same run. A suggestion's is the mean over as many suggestions as there are between two fits, each
with one trial more (see `suggestion.py`). A whole trial is one of `Tuner` with `method="random"`
and two stages that do nothing, with the trials in memory, in SQLite or in a journal.
Run `python benchmarks/growth.py [--json]`.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
import torch
from figures import Figure, at_most, show
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from suggestion import pipeline_of, seconds, suggestion_seconds

from eeipu import Float, Pipeline, StageCache, Tuner, stage

# The most that a suggestion may take, as a multiple of one at 100 trials.
LIMITS = {300: 2.0, 1000: 4.0, 2000: 8.0}

# A whole trial may take this much longer: what is below is noise.
STEADY = 1.25

TRIALS_TIMED = 50


@stage(space={"a": Float(0, 1), "b": Float(0, 1)}, cost=lambda a, b: 1.0)  # noqa: ARG005
def first(x: float, *, a: float, b: float) -> float:
    """A stage that does nothing."""
    return x + a + b


@stage(space={"c": Float(0, 1)}, cost=lambda c: 1.0)  # noqa: ARG005
def last(x: float, *, c: float) -> float:
    """Another one, which returns the objective."""
    return x + c


def whole_trials(storage: str | BaseStorage | None) -> Iterator[tuple[int, float]]:
    """Pairs of a number of trials and the seconds of a trial then."""
    tuner = Tuner(
        Pipeline([first, last]),
        budget=1e9,
        method="random",
        storage=storage,
        study_name="growth",
        cache=StageCache(),
        seed=0,
    )
    for n in (100, *LIMITS):
        before = n - TRIALS_TIMED - len(tuner.study.get_trials(deepcopy=False))
        tuner.run(0.0, max_trials=before, progress=False)
        run = seconds(lambda: tuner.run(0.0, max_trials=TRIALS_TIMED, progress=False))
        yield n, run / TRIALS_TIMED


def figures() -> Iterator[Figure]:
    """Suggestions first, then whole trials."""
    for method in ("eeipu", "ei"):
        once = suggestion_seconds(method, pipeline_of(3, 7), 5, 100)
        yield Figure(f"{method}: a suggestion at 100 trials", once, "s")
        for n, limit in LIMITS.items():
            growth = suggestion_seconds(method, pipeline_of(3, 7), 5, n) / once
            yield at_most(f"{method}: a suggestion at {n} trials over 100", growth, "ratio", limit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        journal = JournalStorage(JournalFileBackend(str(path / "journal.log")))
        for name, storage in (
            ("in memory", None),
            ("SQLite", f"sqlite:///{path / 'study.db'}"),
            ("a journal", journal),
        ):
            times = dict(whole_trials(storage))
            yield Figure(f"random, {name}: a trial at 100 trials", 1e3 * times[100], "ms")
            for n in LIMITS:
                growth = times[n] / times[100]
                yield at_most(f"random, {name}: a trial at {n} over 100", growth, "ratio", STEADY)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    show(figures())
