"""What the user waits for: wall-clock seconds over the budget, on ten pipelines of different shape.

Costs are measured: stages sleep as long as their table says, which makes them cheap for this
machine and costly for the user. A whole trial takes at least half a second. For each pipeline,
`Tuner(budget=...)` runs once, with one worker; the first figure is the wall-clock time of
`Tuner.run` over its budget. Beside it, Optuna's TPE and GP samplers get the same pipelines, without
a cache, and the same wall-clock time (`study.optimize(timeout=...)`). For each search: its trials,
and its regret, the distance of its best value to the optimum. Values lie between -1 and 0.

Run `python benchmarks/overhead.py [--json] [--budget 15] [--shape NAME] [--seed 0]`.
"""

import math
import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import optuna
from figures import Figure, arguments_of, at_most, show
from optuna.distributions import BaseDistribution, CategoricalDistribution

from eeipu import Categorical, Float, Pipeline, Stage, Tuner, stage

LIMIT = 1.1  # wall-clock time over budget


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


if __name__ == "__main__":
    parser = arguments_of(__doc__)
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of each search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", action="append", choices=list(SHAPES), help="all by default")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    show(figures(arguments.shape or list(SHAPES), arguments.budget, arguments.seed))
