"""What the user waits for: wall-clock seconds over the budget, on ten pipelines of different shape.

Costs are measured: stages sleep as long as their table says, which makes them cheap for this
machine and costly for the user. A whole trial takes at least half a second. For each pipeline,
`Tuner(budget=...)` runs once, with one worker; the first figure is the wall-clock time of
`Tuner.run` over its budget. Beside it, Optuna's TPE and GP samplers get the same pipelines, without
a cache, and the same wall-clock time (`study.optimize(timeout=...)`). For each search: its trials,
and its regret, the distance of its best value to the optimum. Values lie between -1 and 0.

Run `python benchmarks/overhead.py [--json] [--budget 15] [--shape NAME] [--seed 0]`.

With `--storage FOLDER`, it measures instead what it costs to keep trials in a database there: with
SQLite, each transaction waits for the disk. A pipeline of three stages that do nothing, with random
configurations, has 50 trials in each of four ways: `Tuner.run`, the same with a training that may
stop early, `ask` and `tell`, and `EEIPUSampler` in a study of plain Optuna. For each: how many
transactions write something for a trial, the wall-clock seconds of a trial, and the same with the
trials in memory.
"""

import math
import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from figures import Figure, arguments_of, at_most, show
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from sqlalchemy import event

from eeipu import (
    ASHA,
    Categorical,
    EEIPUSampler,
    Float,
    Pipeline,
    Stage,
    StageCache,
    Tuner,
    stage,
)
from eeipu.stages.iterative import Training, iterative
from eeipu.studies.storages import open_storage

LIMIT = 1.1  # wall-clock time over budget

TRIALS = 50  # of each way to keep them in a database


@dataclass(frozen=True)
class Shape:
    """A pipeline by the seconds that its stages sleep, and their hyper-parameters.

    Attributes:
        seconds: For each stage, how long it sleeps.
        floats: The number of numeric hyper-parameters of each stage.
        choices: The number of categorical ones of each stage, with four choices each.
    """

    seconds: tuple[float, ...]
    floats: int = 2
    choices: int = 0


SHAPES = {
    "cheap-last": Shape((0.3, 0.2, 0.01)),
    "cheap-first": Shape((0.01, 0.2, 0.3)),
    "two-equal": Shape((0.3, 0.3)),
    "one-costly-of-two": Shape((1.0, 0.001)),
    "single": Shape((0.5,), floats=4),
    "five": Shape((0.1,) * 5),
    "ten": Shape((0.06,) * 10, floats=1),
    "categorical": Shape((0.3, 0.2, 0.05), floats=1, choices=1),
    "categorical-only": Shape((0.4, 0.1), floats=0, choices=3),
    "twenty-parameters": Shape((0.3, 0.2, 0.01, 0.01), floats=5),
}


def pipeline_of(shape: Shape) -> Pipeline:
    """The pipeline of a shape. Its largest value, 0, is somewhere inside each range."""
    stages = len(shape.seconds)
    return Pipeline([stage_of(shape, index, stages) for index in range(stages)])


def stage_of(shape: Shape, index: int, stages: int) -> Stage:
    """One stage: it sleeps, and adds its share to what the stage before it returned."""
    seconds = shape.seconds[index]
    space: dict[str, Any] = {f"x{i}": Float(0.0, 1.0) for i in range(shape.floats)}
    space |= {f"c{i}": Categorical(["a", "b", "c", "d"]) for i in range(shape.choices)}

    def call(before: float, **values: Any) -> float:
        time.sleep(seconds)
        misses = [miss(name, value, index) for name, value in sorted(values.items())]
        return before - math.fsum(misses) / len(misses) / stages

    return stage(call, name=f"s{index}", space=space, version="1")


def miss(name: str, value: Any, index: int) -> float:
    """How much a value misses, between 0 and 1: a valley with ripples, or the wrong choice."""
    if isinstance(value, str):
        return (0.0, 0.3, 0.6, 1.0)[("abcd".index(value) + index + int(name[1:])) % 4]
    away = value - (0.3 + 0.4 * math.sin(7.0 * index + 3.0 * int(name[1:])) ** 2)
    return 0.8 * min(1.0, 2.0 * away**2) + 0.1 * (1.0 - math.cos(12.0 * away))


@dataclass(frozen=True)
class End:
    """How a search ended: its wall-clock seconds, trials, and regret."""

    wall_s: float
    trials: int
    regret: float


def ours(shape: Shape, budget: float, seed: int) -> End:
    """Run the tuner with its defaults."""
    tuner = Tuner(pipeline_of(shape), budget=budget, seed=seed)
    start = time.perf_counter()
    study = tuner.run(0.0, progress=False)
    return End(time.perf_counter() - start, len(study.trials), -study.best_value)


def theirs(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Callable[..., End]:
    """A search with a sampler of Optuna's."""

    def search(shape: Shape, budget: float, seed: int) -> End:
        pipeline = pipeline_of(shape)

        def objective(trial: optuna.Trial) -> float:
            params = {name: suggested(trial, name, d) for name, d in pipeline.space.items()}
            before = 0.0
            for part in pipeline.stages:
                prefix = f"{part.name}."
                own = {n.removeprefix(prefix): v for n, v in params.items() if n.startswith(prefix)}
                before = part.function(before, **own)
            return before

        study = optuna.create_study(direction="maximize", sampler=sampler(seed))
        start = time.perf_counter()
        study.optimize(objective, timeout=budget)
        return End(time.perf_counter() - start, len(study.trials), -study.best_value)

    return search


def suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """A value of a hyper-parameter, by the trial's own sampler."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    return trial.suggest_float(name, 0.0, 1.0)


SEARCHES: Mapping[str, Callable[..., End]] = {
    "eeipu": ours,
    "Optuna TPE": theirs(lambda seed: optuna.samplers.TPESampler(seed=seed)),
    "Optuna GP": theirs(lambda seed: optuna.samplers.GPSampler(seed=seed)),
}


def figures(shapes: list[str], budget: float, seed: int) -> Iterator[Figure]:
    """For each shape, the wall-clock time over the budget, and what each search reached."""
    ratios, lost = [], 0
    for name in shapes:
        ends = {search: run(SHAPES[name], budget, seed) for search, run in SEARCHES.items()}
        ratios.append(ends["eeipu"].wall_s / budget)
        yield at_most(f"{name}: wall-clock time over budget", ratios[-1], "", LIMIT)
        for search, end in ends.items():
            yield Figure(f"{name}: trials of {search}", end.trials, "")
            yield Figure(f"{name}: regret of {search}", end.regret, "")
        lost += ends["eeipu"].regret > min(end.regret for end in ends.values())
    yield at_most("median of wall-clock time over budget", median(ratios), "", LIMIT)
    yield at_most("largest of wall-clock time over budget", max(ratios), "", LIMIT)
    yield Figure("pipelines on which a search of Optuna's had the least regret", lost, "")


# --- What a database costs


def nothing(name: str) -> Stage:
    """A stage that does nothing."""
    return stage(lambda x, *, p: x + p, name=name, space={"p": Float(0.0, 1.0)}, version="1")


def trained(step: int, start: int, stop: int, hyper_parameters: Any) -> int:  # noqa: ARG001
    """The state of a training that does nothing: how far it is."""
    return stop


def training() -> Stage:
    """A training of nine steps that does nothing."""
    return iterative(
        Training(init=lambda _: 0, advance=trained, evaluate=float),
        {"p": Float(0.0, 1.0)},
        steps=9,
        name="training",
        version="1",
    )


def run_by_tuner(storage: BaseStorage, middle: Stage, **options: Any) -> None:
    """Let a tuner run trials."""
    pipeline = Pipeline([nothing("first"), middle, nothing("last")])
    tuner = Tuner(
        pipeline, budget=None, method="random", storage=storage, cache=StageCache(), **options
    )
    tuner.run(0.0, max_trials=TRIALS, progress=False)


def ask_and_tell(storage: BaseStorage) -> None:
    """Ask a tuner for trials, and tell their values."""
    pipeline = Pipeline([nothing(name) for name in ("first", "second", "last")])
    tuner = Tuner(pipeline, budget=1e9, method="random", storage=storage)
    for _ in range(TRIALS):
        tuner.tell(tuner.ask(), 1.0, stage_costs=[1.0, 1.0, 1.0])


def plain_study(storage: BaseStorage) -> None:
    """Let Optuna run trials with this library's sampler."""
    pipeline = Pipeline([nothing(name) for name in ("first", "second", "last")])
    sampler = EEIPUSampler(pipeline, budget=1e9, method="random")
    study = optuna.create_study(storage=storage, sampler=sampler)
    study.optimize(lambda trial: pipeline.run(trial, 0.0).value or 0.0, n_trials=TRIALS)


WAYS: Mapping[str, Callable[[BaseStorage], None]] = {
    "Tuner.run": lambda storage: run_by_tuner(storage, nothing("second")),
    "with early stopping": lambda storage: run_by_tuner(
        storage, training(), early_stopping=ASHA(min_steps=1, reduction=3), seed=0
    ),
    "ask and tell": ask_and_tell,
    "EEIPUSampler alone": plain_study,
}


def count_writes(storage: RDBStorage) -> list[Any]:
    """A list that grows by one with each transaction that writes something."""
    writing: set[Any] = set()
    ended: list[Any] = []

    @event.listens_for(storage.engine, "before_cursor_execute")
    def executes(connection: Any, _: Any, statement: str, *__: Any) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")):
            writing.add(connection)

    @event.listens_for(storage.engine, "commit")
    def commits(connection: Any) -> None:
        if connection in writing:
            writing.remove(connection)
            ended.append(connection)

    return ended


def storage_figures(folder: str) -> Iterator[Figure]:
    """For each way, the transactions and the seconds of a trial."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for number, (name, run) in enumerate(WAYS.items()):
            url = f"sqlite:///{Path(place) / f'{number}.db'}"
            storage = RDBStorage(url) if run is plain_study else open_storage(url)
            writes = count_writes(storage)
            yield Figure(f"{name}: seconds of a trial", seconds_of(run, storage), "s")
            yield Figure(f"{name}: in memory", seconds_of(run, InMemoryStorage()), "s")
            yield Figure(f"{name}: transactions that write", len(writes) / TRIALS, "a trial")


def seconds_of(run: Callable[[BaseStorage], None], storage: BaseStorage) -> float:
    """The wall-clock seconds of a trial."""
    start = time.perf_counter()
    run(storage)
    return (time.perf_counter() - start) / TRIALS


if __name__ == "__main__":
    parser = arguments_of(__doc__)
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of each search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", action="append", choices=list(SHAPES), help="all by default")
    parser.add_argument("--storage", metavar="FOLDER", help="what a database there costs")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.storage is not None:
        show(storage_figures(arguments.storage))
        raise SystemExit
    show(figures(arguments.shape or list(SHAPES), arguments.budget, arguments.seed))
