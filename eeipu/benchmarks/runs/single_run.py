"""One run: a contender spends the budget of a problem, and its trials become a result.

All contenders of a seed begin with the same warm-up points, unless they choose their own. In both
cases the warm-up is paid from the budget.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from eeipu.benchmarks.contenders import Contender
from eeipu.benchmarks.problem import Problem
from eeipu.benchmarks.registry import REGISTRY, load
from eeipu.benchmarks.runs.machine import code, code_of_stages, hardware, versions
from eeipu.benchmarks.runs.options import Options
from eeipu.benchmarks.runs.results import Result, noise_free, write, write_whole
from eeipu.benchmarks.runs.shared_outputs import sharing
from eeipu.benchmarks.runs.trial_log import TrialLog
from eeipu.cache import StageCache
from eeipu.errors import PipelineError
from eeipu.methods.trials.ledger import is_interrupted
from eeipu.tuner import Tuner

__all__ = ["chooses_warm_up", "prepare", "run", "run_to_file"]

# The budget as a multiple of the cost of the warm-up, if neither the problem nor the user sets one.
BUDGET_FACTOR = 3.0

# More than the cost of any warm-up.
ENDLESS = 1e12

# The directory among the results for outputs that runs share, and its limit, which is more than a
# comparison of all methods needs.
SHARED = "shared"
SHARED_BYTES = 16e9

# The key under which a process claims a run, in the cache directory of claims.
RUN = "run"


def run_to_file(options: Options, out: Path, *, threads: int = 1, again: bool = False) -> Path:
    """Make a run and write its result file, unless the file exists already.

    A run with measured costs that was killed is resumed after its last finished trial. A run with
    declared costs begins anew, and reuses the stage outputs that it had computed.

    Args:
        options: The options of the run.
        out: The directory of all results.
        threads: The number of threads that a stage may use.
        again: Whether to make the run from the beginning even if its result file exists.

    Returns:
        The path of the result file.
    """
    path = options.path(out)
    if path.exists() and not again:
        return path
    kept = out if REGISTRY[options.problem].is_long else None
    with threadpool_limits(threads):
        if options.cost == "measured":
            return _resume(options, path, kept, again=again)
        write(path, run(options, out=kept))
    return path


def _resume(options: Options, path: Path, out: Path | None, *, again: bool) -> Path:
    """Resume a run where it ended; if another process is making the run, wait for its result."""
    unfinished = path.with_suffix(".unfinished")
    state = unfinished / "state"
    with StageCache(unfinished / "claims").holders.claim(RUN):
        if again:
            shutil.rmtree(state, ignore_errors=True)
        if again or not path.exists():
            write(path, run(options, state, out))
    shutil.rmtree(unfinished, ignore_errors=True)
    return path


def prepare(options: Options, out: Path, *, threads: int = 1) -> None:
    """Measure the cost of the warm-up once for all contenders, if the budget depends on it.

    Args:
        options: The options of one of the runs.
        out: The directory of all results.
        threads: The number of threads that a stage may use.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with threadpool_limits(threads):
        _terms(options, _problem(options, out), chooses_warm_up(options), out)


def run(options: Options, unfinished: Path | None = None, out: Path | None = None) -> Result:
    """Make a run.

    Args:
        options: The options of the run.
        unfinished: The directory of the log from which the run can be resumed; `None` keeps none.
        out: The directory in which data are shared with other contenders: the cost of the warm-up
            and, where costs are declared, stage outputs; `None` shares nothing.

    Returns:
        The result.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. With the same `unfinished`, the next call resumes
            the run.
        PipelineError: No trial of the warm-up succeeded.
    """
    # Set here because worker processes start with the default.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began = time.perf_counter()
    contender = Contender.parse(options.contender)
    problem = _problem(options, out)
    n_initial = options.n_initial or problem.n_initial
    chooses = chooses_warm_up(options)
    budget, start = _terms(options, problem, chooses, out)
    own = _own_n_initial(options, contender, n_initial)
    tuner = _tuner(contender, problem, budget, own, options.seed, unfinished)
    if not chooses:
        for params in _warm_up_points(problem, options.seed, n_initial):
            tuner.enqueue(params)
    with _without_advice():
        study = tuner.run(*problem.inputs, progress=False)
    if start is None:
        start = _best(problem, study.trials[:n_initial])
    return Result(
        options=options,
        problem={
            "direction": problem.direction,
            "optimum": problem.optimum,
            "stages": list(problem.pipeline.stage_names),
            "parameters": list(problem.pipeline.space),
            "n_initial": tuner.n_initial,
            "budget": budget,
        },
        start=start,
        versions=versions(),
        hardware=hardware(),
        wall_s=time.perf_counter() - began,
        trials=_rows(study.trials, 0 if chooses and contender.has_no_warm_up else tuner.n_initial),
        code=code(),
    )


@contextmanager
def _without_advice() -> Iterator[None]:
    """Suppress the tuner's advice for Ctrl-C: here the command itself can be repeated."""

    def is_no_advice(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("stopped by Ctrl-C")

    logger = logging.getLogger("eeipu")
    logger.addFilter(is_no_advice)
    try:
        yield
    finally:
        logger.removeFilter(is_no_advice)


def _problem(options: Options, out: Path | None) -> Problem:
    problem = load(
        options.problem,
        options.preset,
        cost=options.cost,
        seed=options.seed,
        data=options.data,
    )
    if out is None or options.cost == "measured":
        return problem
    # Only runs of the same code and the same libraries share outputs.
    outputs = StageCache(out / SHARED / code_of_stages(), max_bytes=SHARED_BYTES, durable=False)
    return sharing(problem, outputs)


def chooses_warm_up(options: Options) -> bool:
    """Whether the contender chooses its own warm-up instead of the common one."""
    return options.own_warm_up or Contender.parse(options.contender).ablation.changes_warm_up


def _own_n_initial(options: Options, contender: Contender, common: int) -> int | None:
    """The number of trials in the contender's warm-up; `None`: as usual."""
    return contender.own_n_initial(options.n_initial if options.own_warm_up else common)


def _terms(
    options: Options, problem: Problem, chooses: bool, out: Path | None
) -> tuple[float, float | None]:
    """The budget, and the value of the best common warm-up trial.

    The value is `None` if the run begins with the common warm-up, and so finds it itself.
    """
    budget = options.budget
    if budget is None and options.budget_factor is None:
        budget = problem.budget
    if budget is not None and not chooses:
        return budget, None
    warm_up = _warm_up(options, problem, out)
    if budget is None:
        budget = (options.budget_factor or BUDGET_FACTOR) * warm_up["spent"]
    return budget, warm_up["start"]


def _warm_up(options: Options, problem: Problem, out: Path | None) -> dict[str, float]:
    """Evaluate the common warm-up without a cache: its cost, `spent`, and best value, `start`.

    Measured costs differ from time to time, so the first measurement is kept for all contenders.
    """
    path = None if out is None or options.cost == "declared" else options.warm_up_path(out)
    if path is not None and path.exists():
        known: dict[str, float] = json.loads(path.read_text())
        return known
    n_initial = options.n_initial or problem.n_initial
    tuner = _warm_up_tuner(problem, options.seed, n_initial)
    with _without_advice():
        study = tuner.run(*problem.inputs, max_trials=n_initial, progress=False)
    found = {"spent": tuner.spent, "start": _best(problem, study.trials)}
    if path is not None:
        write_whole(path, json.dumps(found))
    return found


def _warm_up_tuner(problem: Problem, seed: int, n_initial: int) -> Tuner:
    return Tuner(
        problem.pipeline,
        budget=ENDLESS,
        overhead=0.0,
        direction=problem.direction,
        method="random",
        n_initial=n_initial,
        cache=None,
        seed=seed,
    )


def _warm_up_points(problem: Problem, seed: int, n_initial: int) -> list[dict[str, Any]]:
    """The configurations of the common warm-up, without evaluating them."""
    tuner = _warm_up_tuner(problem, seed, n_initial)
    return [tuner.ask().params for _ in range(n_initial)]


def _tuner(
    contender: Contender,
    problem: Problem,
    budget: float,
    n_initial: int | None,
    seed: int,
    unfinished: Path | None,
) -> Tuner:
    log = None if unfinished is None else TrialLog(unfinished)
    cache = None
    if contender.cached:
        cache = StageCache() if log is None else log.cache(problem)
    return Tuner(
        problem.pipeline,
        budget=budget,
        overhead=0.0,  # `Result.with_suggestions_charged` adds what suggestions took
        direction=problem.direction,
        method=contender.sampler(problem.pipeline, budget=budget, n_initial=n_initial, seed=seed),
        top_q=contender.top_q,
        n_initial=n_initial,
        cache=cache,
        storage=None if log is None else log.storage(problem),
        study_name=problem.name,
        seed=seed,
        callbacks=() if log is None else (log,),
    )


def _best(problem: Problem, trials: list[FrozenTrial]) -> float:
    """The objective of the best trial, without noise.

    Raises:
        PipelineError: No trial succeeded.
    """
    better = max if problem.direction == "maximize" else min
    rows = [row for row in _rows(trials, 0) if row["value"] is not None]
    if not rows:
        error = next((trial.user_attrs.get("error") for trial in trials), None)
        raise PipelineError(
            f"none of {len(trials)} warm-up trials of {problem.name!r} succeeded. The first "
            f"error:\n{error}"
        )
    return noise_free(better(rows, key=lambda row: row["value"]))


def _rows(trials: list[FrozenTrial], n_initial: int) -> tuple[Mapping[str, Any], ...]:
    """The rows of a result file, one for each trial that has ended."""
    rows: list[Mapping[str, Any]] = []
    spent = 0.0
    for trial in trials:
        if trial.state.is_finished():
            spent += trial.user_attrs.get("charged") or 0.0
            rows.append(_row(trial, spent, trial.number < n_initial))
    return tuple(rows)


def _row(trial: FrozenTrial, spent: float, is_warm_up: bool) -> Mapping[str, Any]:
    attrs = trial.user_attrs
    row = {
        "number": trial.number,
        "state": "interrupted" if is_interrupted(trial) else trial.state.name.lower(),
        "warm_up": is_warm_up or bool(attrs.get("warm_up")),
        "value": trial.value if trial.state is TrialState.COMPLETE else None,
        "spent": spent,
        "charged": attrs.get("charged") or 0.0,
        "stage_costs": attrs.get("stage_costs"),
        "memoized": attrs.get("memoized"),
        "saved": attrs.get("saved", 0.0),
        "suggest_s": attrs.get("suggest_s", 0.0),
        "params": trial.params,
    }
    optional = ("metrics", "failed_stage", "error")
    return row | {name: attrs[name] for name in optional if name in attrs}
