"""A real training on two processes: `Tuner` against trial-based runs of the same search.

A small network learns handwritten digits for 12 epochs, with every sequence of three learning rates
that change after epochs 6 and 9: 27 trials, as a grid, and with asynchronous successive halving
from epoch 3 on. The others train each trial for itself: Optuna with its pruner, and Ray Tune with
its ASHA where `ray[tune]` is installed. All go through the grid in an order of their own, with two
worker processes that have loaded everything. What counts is the wall-clock time of the whole search
and the CPU time of all processes. The time until the best value is there that all of them reach is
beside these: with one order each, it says most about which one had it early. Many orders of
the same search, in virtual time, are in `stage_tree_orders.py`.

Run `python benchmarks/stage_tree_training.py [--json]`; it takes about five minutes and two cores.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import logging
import math
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
import psutil
import torch
from figures import Figure, at_least, show
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eeipu import ASHA, Categorical, Pipeline, StageCache, Tuner
from eeipu.algorithms.early_stopping import EarlyStopping
from eeipu.algorithms.halving import geometric_rungs
from eeipu.stages.iterative import iterative
from eeipu.stages.schedules import Piecewise
from eeipu.stages.searchable_schedules import Searchable
from eeipu.stages.torch_training.loop import torch_loop

EPOCHS, DROPS, RATES = 12, (6, 9), (0.1, 0.03, 0.01)
FIRST_RUNG, REDUCTION = 3, 2
NAMES = ("first", "second", "third")


@dataclass
class Search:
    """What a search took.

    Attributes:
        ended: When each trial came to its end, in seconds since the search began, and its value.
        wall_s: How many seconds it took.
        cpu_s: CPU seconds of all processes; NaN where they are not measured, as in virtual time.
    """

    ended: list[tuple[float, float]]
    wall_s: float
    cpu_s: float = math.nan

    @property
    def best(self) -> float:
        """The best value."""
        return max(value for _, value in self.ended)

    def time_to(self, value: float) -> float:
        """When a value was reached."""
        return min(at for at, each in self.ended if each >= value)


def cnn() -> nn.Module:
    """A small network for images of 8 x 8."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def digits(*, batch_size: int = 64) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Handwritten digits, four fifths to train on."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(
        torch.from_numpy(images / 16.0).float().reshape(-1, 1, 8, 8), torch.from_numpy(labels)
    )
    split = int(0.8 * len(data))
    train = torch.utils.data.Subset(data, range(split))
    test = torch.utils.data.Subset(data, range(split, len(data)))
    return DataLoader(train, batch_size, shuffle=True), DataLoader(test, 256)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Plain stochastic gradient descent with momentum."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


TRAINING = torch_loop(cnn, sgd, nn.functional.cross_entropy, digits)


def merged(rule: EarlyStopping | None) -> Search:
    """One call of `Tuner` on two worker processes."""
    rates = [Categorical(list(RATES))] * 3
    space = {"lr": Searchable(Piecewise, rates, list(DROPS))}
    stage = iterative(TRAINING, space, EPOCHS, name="cnn", version="1")
    began_s, ended = time.monotonic(), []

    def note(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.state is optuna.trial.TrialState.COMPLETE:
            ended.append((time.monotonic() - began_s, trial.values[0]))

    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor,
    ):
        list(executor.map(warm_up, range(4)))
        tuner = Tuner(
            Pipeline([stage], objective="accuracy"),
            method="grid",
            early_stopping=rule,
            executor=executor,
            max_parallel=2,
            cache=StageCache(folder),
            callbacks=[note],
        )
        before_s, began_s = cpu_s(), time.monotonic()
        tuner.run(max_trials=len(RATES) ** 3, progress=False)
        return Search(ended, time.monotonic() - began_s, cpu_s() - before_s)


def with_optuna(pruner: BasePruner) -> Search:
    """Optuna's study on two processes, each of which trains one trial after the other."""
    grid = optuna.samplers.GridSampler({name: list(RATES) for name in NAMES}, seed=0)
    with (
        tempfile.NamedTemporaryFile() as journal,
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor,
    ):
        list(executor.map(warm_up, range(4)))
        storage = JournalStorage(JournalFileBackend(journal.name))
        study = optuna.create_study(
            storage=storage, study_name="digits", direction="maximize", sampler=grid
        )
        before_s, began = cpu_s(), time.time()
        for each in [executor.submit(_optimize, journal.name, grid, pruner) for _ in range(2)]:
            each.result()
        wall_s = time.time() - began
        ended = [
            (t.datetime_complete.timestamp() - began, t.value)
            for t in study.get_trials()
            if t.state is optuna.trial.TrialState.COMPLETE
        ]
        return Search(ended, wall_s, cpu_s() - before_s)


def _optimize(journal: str, grid: optuna.samplers.BaseSampler, pruner: BasePruner) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(journal))
    study = optuna.load_study(study_name="digits", storage=storage, sampler=grid, pruner=pruner)
    study.optimize(_trial)


def _trial(trial: optuna.Trial) -> float:
    for step, value in trained([trial.suggest_categorical(n, RATES) for n in NAMES]):
        trial.report(value, step)
        if step < EPOCHS and trial.should_prune():
            raise optuna.TrialPruned
    return value


def trained(rates: list[float]) -> Iterator[tuple[int, float]]:
    """Train a trial by itself, and yield its accuracy at each rung."""
    schedule = {"lr": Piecewise(rates, DROPS)}
    state, start = TRAINING.init(), 0
    for stop in geometric_rungs(FIRST_RUNG, EPOCHS, REDUCTION):
        state = TRAINING.advance(state, start, stop, schedule)
        yield stop, TRAINING.evaluate(state)["accuracy"]
        start = stop


def with_ray() -> Search | None:
    """Ray Tune with its ASHA on two workers; `None` where it is not installed."""
    try:
        import ray
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
    except ImportError:
        return None
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    def train(config: dict[str, float]) -> None:
        torch.set_num_threads(1)
        for step, value in trained([config[name] for name in NAMES]):
            tune.report({"accuracy": value, "epoch": step, "at": time.time()})

    folder = tempfile.TemporaryDirectory()
    before_s, began = cpu_s(), time.time()
    found = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={name: tune.grid_search(list(RATES)) for name in NAMES},
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            reuse_actors=True,  # otherwise each trial has a process of its own, which loads torch
            scheduler=ASHAScheduler(
                time_attr="epoch",
                max_t=EPOCHS,
                grace_period=FIRST_RUNG,
                reduction_factor=REDUCTION,
            ),
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=folder.name),
    ).fit()
    ended = [
        (result.metrics["at"] - began, result.metrics["accuracy"])
        for result in found
        if result.metrics["epoch"] == EPOCHS
    ]
    search = Search(ended, time.time() - began, cpu_s() - before_s)
    ray.shutdown()
    folder.cleanup()
    return search


def warm_up(_: int) -> None:
    """Load in a worker what a training needs."""
    torch.set_num_threads(1)
    TRAINING.advance(TRAINING.init(), 0, 1, {"lr": lambda _: 0.1})


def cpu_s() -> float:
    """CPU seconds of this process and its workers, those that have ended included."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    times = [process.cpu_times() for process in processes]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


SEARCHES: dict[str, dict[str, Callable[[], Search | None]]] = {
    "grid": {
        "Tuner": partial(merged, None),
        "Optuna": partial(with_optuna, NopPruner()),
    },
    "ASHA": {
        "Tuner": partial(merged, ASHA(min_steps=FIRST_RUNG, reduction=REDUCTION)),
        "Optuna": partial(with_optuna, SuccessiveHalvingPruner(FIRST_RUNG, REDUCTION)),
        "Ray Tune": with_ray,
    },
}


def figures() -> Iterator[Figure]:
    """Each search: its CPU time and the time to the same best value, over the tuner's."""
    for kind, ways in SEARCHES.items():
        found = {name: search for name, way in ways.items() if (search := way()) is not None}
        value = min(search.best for search in found.values())
        ours = found.pop("Tuner")
        label = f"digits, two workers, {kind} of {len(RATES) ** 3} sequences"
        yield Figure(f"{label}: the value that all reach", value, "share")
        yield Figure(f"{label}: best accuracy, Tuner", ours.best, "share")
        yield Figure(f"{label}: time to it, Tuner", ours.time_to(value), "s")
        yield Figure(f"{label}: CPU, Tuner", ours.cpu_s, "s")
        yield Figure(f"{label}: the whole search, Tuner", ours.wall_s, "s")
        for name, other in found.items():
            yield Figure(f"{label}: best accuracy, {name}", other.best, "share")
            ratio = other.time_to(value) / ours.time_to(value)
            yield at_least(f"{label}: time to it, {name} over Tuner", ratio, "ratio", 1.0)
            ratio = other.cpu_s / ours.cpu_s
            yield at_least(f"{label}: CPU, {name} over Tuner", ratio, "ratio", 1.0)
            ratio = other.wall_s / ours.wall_s
            yield at_least(f"{label}: the whole search, {name} over Tuner", ratio, "ratio", 1.0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("eeipu").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    show(figures())
