"""The demo: tune a real pipeline twice for the same time, with three seeds, and compare.

The pipeline is that of `eeipu.benchmarks.digits`. One search is EEIPU with a cache, the other is
expected improvement without one, as a user would write it today. Each has its own warm-up. The
budget of both is wall-clock time: choosing configurations, loading and keeping outputs are paid.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from eeipu.benchmarks.digits import digits_pipeline, load
from eeipu.errors import MissingExtraError
from eeipu.methods.budget import check_positive
from eeipu.report.figures import plot_best_over_budget

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError(
        f'the demo needs scikit-learn and matplotlib ({error}); pip install "eeipu[demo]"'
    ) from error

__all__ = ["Summary", "comparison", "run_demo", "summarize"]

OURS, THEIRS = "EEIPU with a cache", "EI without a cache"
# The method and whether there is a cache.
SEARCHES = {OURS: ("eeipu", True), THEIRS: ("ei", False)}
SEEDS = 3
FIRST_SEARCH = Path(__file__).with_name("first_search.py")


@dataclass(frozen=True)
class Summary:
    """The result of a study, and how its time was spent.

    Attributes:
        candidates: The number of configurations that were evaluated.
        failed: The number of trials without a value.
        best: The best value; NaN if there is none.
        stage_s: For each stage, the seconds spent on executing it.
        loading_s: Seconds spent on loading stage outputs from the cache.
        saved_s: Seconds that these outputs had cost when they were computed.
        optimiser_s: Seconds spent on choosing configurations.
    """

    candidates: int
    failed: int
    best: float
    stage_s: tuple[float, ...]
    loading_s: float
    saved_s: float
    optimiser_s: float


def summarize(study: optuna.Study) -> Summary:
    """Summarise a study that maximises and whose costs are seconds, as `Tuner.run` returned it."""
    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    costs = [trial.user_attrs["stage_costs"] for trial in trials]
    stage_s = tuple(math.fsum(cost or 0.0 for cost in stage) for stage in zip(*costs, strict=True))
    return Summary(
        candidates=len(complete),
        failed=len(trials) - len(complete),
        best=max((trial.values[0] for trial in complete), default=math.nan),
        stage_s=stage_s,
        loading_s=max(
            0.0,
            _total(trials, "charged")
            - math.fsum([*stage_s, _total(trials, "overhead"), _total(trials, "keep_s")]),
        ),
        saved_s=_total(trials, "saved"),
        optimiser_s=_total(trials, "suggest_s"),
    )


def _total(trials: Sequence[FrozenTrial], attribute: str) -> float:
    return math.fsum(trial.user_attrs.get(attribute, 0.0) for trial in trials)


def comparison(
    summaries: Mapping[str, Sequence[Summary]], seeds: Sequence[int], stage_names: Sequence[str]
) -> Table:
    """A table with one column for each search, with its best value for each seed, and means.

    Args:
        summaries: Name of a search -> its summary for each seed.
        seeds: The seeds.
        stage_names: The names of the stages of the pipeline.
    """
    table = Table(title="Handwritten digits: 50 labelled, 1000 held out")
    table.add_column("")
    for name in summaries:
        table.add_column(name, justify="right")
    for row, seed in enumerate(seeds):
        table.add_row(f"best accuracy, seed {seed}", *_marked([s[row] for s in summaries.values()]))
    table.add_section()

    def add_means(label: str, number: Callable[[Summary], float], form: str) -> None:
        means = (math.fsum(map(number, found)) / len(found) for found in summaries.values())
        table.add_row(label, *(format(mean, form) for mean in means))

    add_means("mean accuracy", lambda each: each.best, ".1%")
    add_means("mean number of candidates", lambda each: each.candidates, ".0f")
    if any(each.failed for found in summaries.values() for each in found):
        add_means("trials that failed", lambda each: each.failed, ".1f")
    table.add_section()
    for stage, name in enumerate(stage_names):
        add_means(f"seconds in {name}", lambda each, stage=stage: each.stage_s[stage], ".1f")  # type: ignore[misc]
    add_means("loading from the cache", lambda each: each.loading_s, ".1f")
    add_means("choosing configurations", lambda each: each.optimiser_s, ".1f")
    table.add_section()
    add_means("seconds saved by the cache", lambda each: each.saved_s, ".1f")
    return table


def _marked(summaries: Sequence[Summary]) -> list[str]:
    """The best values, the largest of them in bold."""
    largest = max(each.best for each in summaries)
    cells = [f"{each.best:.1%}" for each in summaries]
    return [
        f"[bold]{cell}[/]" if each.best == largest else cell
        for cell, each in zip(cells, summaries, strict=True)
    ]


def _verdict(summaries: Mapping[str, Sequence[Summary]], seeds: Sequence[int]) -> str:
    """One line that says which of the seeds were won, and names those that were not."""
    pairs = list(zip(seeds, summaries[OURS], summaries[THEIRS], strict=True))
    won = sum(ours.best > theirs.best for _, ours, theirs in pairs)
    others = [
        f"seed {seed} was {'a draw' if ours.best == theirs.best else 'lost'}"
        for seed, ours, theirs in pairs
        if not ours.best > theirs.best
    ]
    return "; ".join([f"{OURS} won {won} of {len(pairs)} seeds", *others]) + "."


def run_demo(*, budget: float, seed: int, out: Path, console: Console) -> None:
    """Tune the digits pipeline twice with each of three seeds, and print a table.

    Searches run side by side, one on each core, and the two of a seed at the same time where there
    are two cores. The directory `out` gets a picture, `best-over-time.png`, and a script to go on
    with, `first_search.py`.

    Args:
        budget: Seconds that each search may take, choosing configurations included.
        seed: The first of the three seeds.
        out: The directory for what is made; it is created.
        console: The console to print on.

    Raises:
        ConfigurationError: `budget` is not positive.
    """
    check_positive(budget, "the budget", "in seconds")
    start = time.perf_counter()
    seeds = range(seed, seed + SEEDS)
    studies = _searched(budget, seeds, console)
    if studies is None:
        return
    summaries = {label: [summarize(study) for study in found] for label, found in studies.items()}
    console.print(comparison(summaries, seeds, digits_pipeline().stage_names))
    console.print(_verdict(summaries, seeds))
    picture = _save_picture(studies, out)
    script = Path(shutil.copy(FIRST_SEARCH, out))
    console.print(f"The demo took {time.perf_counter() - start:.0f} seconds. To go on:")
    for command, purpose in (
        (f"python {script}", "a search of your own: put your stages into it"),
        ("eeipu cache ls first-search-cache", "the stage outputs that it has kept"),
        (f"eeipu demo --seed {seeds[-1] + 1}", "the same comparison with other seeds"),
    ):
        console.print(f"  {command:<42}  # {purpose}", soft_wrap=True, highlight=False)
    console.print(f"All searches over time: {picture}", soft_wrap=True)


def _searched(
    budget: float, seeds: Sequence[int], console: Console
) -> dict[str, list[optuna.Study]] | None:
    """Run all searches, and say how each pair has ended. None if a search failed on the way."""
    workers = min(len(SEARCHES) * len(seeds), _cores())
    rounds = math.ceil(len(SEARCHES) * len(seeds) / workers)
    console.print(
        f"{len(SEARCHES) * len(seeds)} searches of {budget:g} seconds each, {workers} at a time: "
        f"about {rounds * budget:.0f} seconds."
    )
    studies: dict[str, list[optuna.Study]] = {label: [] for label in SEARCHES}
    # Processes, since threads would share cores, and be slowed down by each other.
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        console.status("searching"),
    ):
        pairs: list[dict[str, Future[tuple[list[FrozenTrial], float]]]] = [
            {label: pool.submit(_search, label, budget, seed) for label in SEARCHES}
            for seed in seeds
        ]
        for seed, pair in zip(seeds, pairs, strict=True):
            ends = []
            for label, future in pair.items():
                trials, remaining = future.result()
                if remaining > 0.0:  # after repeated failures
                    pool.shutdown(cancel_futures=True)
                    console.print(
                        f"{label}, seed {seed}, ended before its budget, so there is nothing to "
                        f"compare. Its last error: {trials[-1].user_attrs.get('error')}"
                    )
                    return None
                study = optuna.create_study(direction="maximize")
                study.add_trials(trials)
                studies[label].append(study)
                ends.append(f"{label} {study.best_value:.1%} after {len(trials)} candidates")
            console.print(f"seed {seed}: {', '.join(ends)}", highlight=False)
    return studies


def _cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _search(label: str, budget: float, seed: int) -> tuple[list[FrozenTrial], float]:
    """Run one search in a process of its own; its trials, and what is left of the budget."""
    # Imported here because `eeipu.benchmarks.demo` loads without torch.
    import torch

    from eeipu.cache import StageCache
    from eeipu.tuner import Tuner

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    method, has_cache = SEARCHES[label]
    cache = StageCache() if has_cache else None
    tuner = Tuner(digits_pipeline(), budget=budget, method=method, cache=cache, seed=seed)
    tuner.run(load(), progress=False)
    return tuner.study.trials, tuner.remaining


def _save_picture(studies: Mapping[str, Sequence[optuna.Study]], out: Path) -> Path:
    """Draw all searches into a file in the directory `out`, and return its path."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = plot_best_over_budget(studies, ax=figure.add_subplot())
    axes.set_xlabel("seconds, choosing included")
    axes.set_ylabel("best accuracy on held-out digits")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "best-over-time.png"
    figure.savefig(path, dpi=150)
    return path
