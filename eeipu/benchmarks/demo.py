"""The demo: tune a real three-stage pipeline twice on the same budget, and compare the searches.

The pipeline is that of `eeipu.benchmarks.digits`. One search is EEIPU with a cache, the other is
expected improvement without one; both begin with the same warm-up configurations.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table

from eeipu.benchmarks.digits import digits_pipeline, load
from eeipu.errors import MissingExtraError
from eeipu.report.figures import plot_best_over_budget

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError(
        f'the demo needs scikit-learn and matplotlib ({error}); pip install "eeipu[demo]"'
    ) from error

__all__ = ["Summary", "comparison", "run_demo", "summarize"]

# The number of warm-up points that both searches begin with.
WARM_UP = 10


@dataclass(frozen=True)
class Summary:
    """The result of a study, and how its time was spent.

    Attributes:
        candidates: The number of configurations that were evaluated.
        failed: The number of trials without a value.
        best: The best value; NaN if there is none.
        gain: The improvement over the best value of the warm-up; NaN if either is missing.
        stage_s: For each stage, the seconds spent on executing it.
        loading_s: Seconds spent on loading stage outputs from the cache.
        saved_s: Seconds that these outputs had cost when they were computed.
        optimiser_s: Seconds spent on choosing configurations.
    """

    candidates: int
    failed: int
    best: float
    gain: float
    stage_s: tuple[float, ...]
    loading_s: float
    saved_s: float
    optimiser_s: float


def summarize(study: optuna.Study, *, warm_up: int) -> Summary:
    """Summarise a study that maximises and whose costs are seconds.

    Args:
        study: The study, as `Tuner.run` returned it.
        warm_up: The number of warm-up trials.
    """
    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = _best(complete)
    costs = [trial.user_attrs["stage_costs"] for trial in trials]
    stage_s = tuple(math.fsum(cost or 0.0 for cost in stage) for stage in zip(*costs, strict=True))
    return Summary(
        candidates=len(complete),
        failed=len(trials) - len(complete),
        best=best,
        gain=best - _best([trial for trial in complete if trial.number < warm_up]),
        stage_s=stage_s,
        loading_s=max(
            0.0,
            _total(trials, "charged")
            - math.fsum([*stage_s, _total(trials, "overhead"), _total(trials, "keep_s")]),
        ),
        saved_s=_total(trials, "saved"),
        optimiser_s=_total(trials, "suggest_s"),
    )


def _best(trials: Sequence[FrozenTrial]) -> float:
    return max((trial.values[0] for trial in trials), default=math.nan)


def _total(trials: Sequence[FrozenTrial], attribute: str) -> float:
    return math.fsum(trial.user_attrs.get(attribute, 0.0) for trial in trials)


def comparison(summaries: dict[str, Summary], stage_names: Sequence[str]) -> Table:
    """A table with one column for each study.

    Args:
        summaries: Name of a study -> its summary.
        stage_names: The names of the stages of the pipeline.
    """
    table = Table(title="Handwritten digits: 50 labelled, 1000 held out")
    table.add_column("")
    for name in summaries:
        table.add_column(name, justify="right")

    found = summaries.values()
    table.add_row("candidates evaluated", *(f"{each.candidates}" for each in found))
    if any(each.failed for each in found):
        table.add_row("trials that failed", *(f"{each.failed}" for each in found))
    table.add_row("best accuracy", *(f"{each.best:.1%}" for each in found))
    table.add_row("gain since warm-up", *(f"{100 * each.gain:+.1f} points" for each in found))
    table.add_section()
    for name, amounts in zip(
        stage_names, zip(*(s.stage_s for s in found), strict=True), strict=True
    ):
        table.add_row(f"time in {name}", *map(_seconds, amounts))
    table.add_row("loading from the cache", *(_seconds(each.loading_s) for each in found))
    table.add_section()
    table.add_row("saved by the cache", *(_seconds(each.saved_s) for each in found))
    table.add_row("optimiser's own time", *(_seconds(each.optimiser_s) for each in found))
    return table


def _seconds(amount: float) -> str:
    return f"{amount:.1f} s"


def run_demo(*, budget: float, seed: int, out: Path, console: Console) -> None:
    """Tune the digits pipeline twice, print a table and save a picture of both searches.

    Args:
        budget: Seconds that each search may take, choosing configurations included.
        seed: The seed of both searches, and of the warm-up configurations that they share.
        out: The directory for the picture, `best-over-budget.png`.
        console: The console to print on.

    Raises:
        ConfigurationError: `budget` is not positive.
    """
    # Imported here because `eeipu.benchmarks.demo` loads without torch.
    from eeipu.methods.maximisation import quasi_random
    from eeipu.tuner import Tuner

    start = time.perf_counter()
    pipeline, digits = digits_pipeline(), load()
    tuners = {
        "EEIPU with a cache": Tuner(
            pipeline, budget=budget, method="eeipu", n_initial=WARM_UP, seed=seed
        ),
        "EI without a cache": Tuner(
            pipeline, budget=budget, method="ei", n_initial=WARM_UP, cache=None, seed=seed
        ),
    }
    # Independent points for both: a warm-up that shares prefixes would favour the cache.
    for point in quasi_random(len(pipeline.cube), WARM_UP, seed):
        for tuner in tuners.values():
            tuner.enqueue(pipeline.cube.decode(point))
    for name, tuner in tuners.items():
        console.print(f"{name}: {budget:g} seconds, choosing configurations included")
        tuner.run(digits)
        if tuner.remaining > 0.0:  # after repeated failures, which the tuner has reported
            console.print("The search ended before its budget, so there is nothing to compare.")
            return
    studies = {name: tuner.study for name, tuner in tuners.items()}
    summaries = {name: summarize(study, warm_up=WARM_UP) for name, study in studies.items()}
    console.print(comparison(summaries, pipeline.stage_names))
    picture = _save_picture(studies, WARM_UP, out)
    console.print(f"A picture of both searches: {picture}", soft_wrap=True)
    console.print(f"The demo took {time.perf_counter() - start:.0f} seconds.")


def _save_picture(studies: dict[str, optuna.Study], warm_up: int, out: Path) -> Path:
    """Draw both searches into a file in the directory `out`, and return its path."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = plot_best_over_budget(studies, warm_up=warm_up, ax=figure.add_subplot())
    axes.set_xlabel("seconds spent, choosing included")
    axes.set_ylabel("best accuracy on held-out digits")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "best-over-budget.png"
    figure.savefig(path, dpi=150)
    return path
