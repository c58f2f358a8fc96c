"""One run: a contender spends a problem's budget, and what it did becomes a result.

All contenders begin from the same warm-up points, one set for each seed, unless they choose their
own; either way the warm-up is paid from the budget.
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
from eeipu.methods.history import is_interrupted
from eeipu.tuner import Tuner

__all__ = ["chooses_warm_up", "prepare", "run", "run_to_file"]

# The budget, in multiples of what the warm-up costs, where neither the problem nor the user says.
BUDGET_FACTOR = 3.0

# More than any warm-up costs.
ENDLESS = 1e12

# What runs share, in a directory among the results; more than a comparison of all methods makes.
SHARED = "shared"
SHARED_BYTES = 16e9

# The key under which a process claims a run.
RUN = "run"


def run_to_file(options: Options, out: Path, *, threads: int = 1, again: bool = False) -> Path:
    """Run and write the result, unless it is there already.

    A measured run that was killed goes on after its last trial, from what it left beside the file.
    A declared one begins anew and finds its stage outputs.

    Args:
        options: What to run.
        out: Where results go.
        threads: How many threads a stage may use.
        again: Whether to run even if the result is there, and from the beginning.
    """
    path = options.path(out)
    if path.exists() and not again:
        return path
    kept = out if REGISTRY[options.problem].is_long else None
    with threadpool_limits(threads):
        if options.cost == "measured":
            return _go_on(options, path, kept, again=again)
        write(path, run(options, out=kept))
    return path


def _go_on(options: Options, path: Path, out: Path | None, *, again: bool) -> Path:
    """Make a run from where it was left, unless another process does: then wait for that."""
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
    """Measure the warm-up that a run's budget is a multiple of, once for all contenders.

    Args:
        options: The run; one that needs no such warm-up has nothing to prepare.
        out: Where results go.
        threads: How many threads a stage may use.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with threadpool_limits(threads):
        _terms(options, _problem(options, out), chooses_warm_up(options), out)


def run(options: Options, unfinished: Path | None = None, out: Path | None = None) -> Result:
    """Run.

    Args:
        options: What to run.
        unfinished: A directory for what an interrupted run goes on from; `None`: it cannot.
        out: Where what other contenders can use is kept: what the warm-up cost and, where costs
            are declared, stage outputs; `None`: nowhere.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; a run with such a directory goes on when it is
            called again.
        PipelineError: No trial of the warm-up succeeded.
    """
    # Here, since worker processes start with the default.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    began = time.perf_counter()
    contender = Contender.parse(options.contender)
    problem = _problem(options, out)
    n_initial = options.n_initial or problem.n_initial
    chooses = chooses_warm_up(options)
    budget, start = _terms(options, problem, chooses, out)
    tuner = _tuner(contender, problem, budget, n_initial, options.seed, unfinished)
    if not chooses:
        for params in _warm_up_points(problem, options.seed, n_initial):
            tuner.enqueue(params)
    with _without_advice():
        study = tuner.run(*problem.inputs, progress=False)
    if tuner.was_interrupted:  # it has stopped between two stages, with a part of its trials
        raise KeyboardInterrupt
    if start is None:
        start = _best(problem, study.trials[:n_initial])
    return Result(
        options=options,
        problem={
            "direction": problem.direction,
            "optimum": problem.optimum,
            "stages": list(problem.pipeline.stage_names),
            "parameters": list(problem.pipeline.space),
            "n_initial": n_initial,
            "budget": budget,
        },
        start=start,
        versions=versions(),
        hardware=hardware(),
        wall_s=time.perf_counter() - began,
        trials=_rows(study.trials, 0 if chooses and contender.has_no_warm_up else n_initial),
        code=code(),
    )


@contextmanager
def _without_advice() -> Iterator[None]:
    """Leave out how to go on with a tuner after Ctrl-C: here the command goes on."""

    def says_something_else(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("stopped by Ctrl-C")

    logger = logging.getLogger("eeipu")
    logger.addFilter(says_something_else)
    try:
        yield
    finally:
        logger.removeFilter(says_something_else)


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
    # What other code or other libraries have computed is no concern of this run.
    outputs = StageCache(out / SHARED / code_of_stages(), max_bytes=SHARED_BYTES, durable=False)
    return sharing(problem, outputs)


def chooses_warm_up(options: Options) -> bool:
    """Whether the contender chooses its warm-up, instead of that which all others have."""
    return options.own_warm_up or Contender.parse(options.contender).ablation.design is not None


def _terms(
    options: Options, problem: Problem, chooses: bool, out: Path | None
) -> tuple[float, float | None]:
    """The budget, and the value to improve on where it is not that of the run's own warm-up."""
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
    """What independent points cost, evaluated one by one without a cache, and the best of them.

    Where costs are measured, they differ from time to time: what was written first holds for all.
    """
    path = None if out is None or options.cost == "declared" else options.warm_up_path(out)
    if path is not None and path.exists():
        known: dict[str, float] = json.loads(path.read_text())
        return known
    n_initial = options.n_initial or problem.n_initial
    tuner = _warm_up_tuner(problem, options.seed, n_initial)
    with _without_advice():
        study = tuner.run(*problem.inputs, max_trials=n_initial, progress=False)
    if tuner.was_interrupted:
        raise KeyboardInterrupt
    found = {"spent": tuner.spent, "start": _best(problem, study.trials)}
    if path is not None:
        write_whole(path, json.dumps(found))
    return found


def _warm_up_tuner(problem: Problem, seed: int, n_initial: int) -> Tuner:
    return Tuner(
        problem.pipeline,
        budget=ENDLESS,
        direction=problem.direction,
        method="random",
        n_initial=n_initial,
        cache=None,
        seed=seed,
    )


def _warm_up_points(problem: Problem, seed: int, n_initial: int) -> list[dict[str, Any]]:
    """The points that all contenders begin from, without running them."""
    tuner = _warm_up_tuner(problem, seed, n_initial)
    return [tuner.ask().params for _ in range(n_initial)]


def _tuner(
    contender: Contender,
    problem: Problem,
    budget: float,
    n_initial: int,
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
    """What the best of some trials is worth, without its noise.

    Raises:
        PipelineError: None of them succeeded.
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
    """The trials that ended, as the file has them."""
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
