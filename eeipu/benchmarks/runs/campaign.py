"""All runs of a comparison, several at a time, each with its result file."""

import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config

from eeipu.benchmarks.contenders import Contender
from eeipu.benchmarks.problem import CostKind, Preset
from eeipu.benchmarks.registry import REGISTRY, load, named
from eeipu.benchmarks.runs.options import LARGEST_SEED, Options
from eeipu.benchmarks.runs.single_run import chooses_warm_up, prepare, run_to_file
from eeipu.errors import ConfigurationError, EeipuError, PipelineError

__all__ = ["comparison", "run_all"]


def comparison(
    problems: Sequence[str],
    methods: Iterable[str],
    seeds: Iterable[int],
    *,
    preset: Preset = "cpu",
    cost: CostKind | None = None,
    n_initial: int | None = None,
    budget: float | None = None,
    budget_factor: float | None = None,
    own_warm_up: bool = False,
    data: str | Path | None = None,
) -> list[Options]:
    """The options of all runs of a comparison, ordered by seed.

    Args:
        problems: Names of problems or of groups of problems.
        methods: Contenders, such as `"ei"` and `"eeipu+cache"`. Repeated ones count once.
        seeds: Seeds of the problems, the warm-up and the searches. Repeated ones count once.
        preset: The size of the problems.
        cost: Whether costs are measured or declared; `None` takes the default of each problem.
        n_initial: The number of warm-up trials, 2 or more; `None` takes that of the problem.
        budget: The budget in units of cost; `None` takes `budget_factor` or that of the problem.
        budget_factor: The budget as a multiple of the cost of the warm-up without a cache.
        own_warm_up: Whether each contender chooses its warm-up; otherwise all begin with the same
            points.
        data: The path of the user's own data; `None` takes those of the problem.

    Returns:
        The options of one run for each seed, problem and contender.

    Raises:
        ConfigurationError: A name is not known, or a number is out of range.
    """
    # NumPy's integers cannot be written to JSON files.
    seeds = list(dict.fromkeys(map(int, seeds)))
    _check_numbers(seeds, n_initial, budget, budget_factor)
    chosen = named(problems)
    contenders = dict.fromkeys(str(Contender.parse(text)) for text in methods)
    return [
        Options(
            problem,
            preset,
            cost or REGISTRY[problem].costs[0],
            contender,
            seed,
            n_initial,
            budget,
            budget_factor,
            own_warm_up,
            None if data is None else str(data),
        )
        for seed, problem, contender in product(seeds, chosen, contenders)
    ]


def _check_numbers(
    seeds: Iterable[int],
    n_initial: int | None,
    budget: float | None,
    budget_factor: float | None,
) -> None:
    if budget is not None and budget_factor is not None:
        raise ConfigurationError("a budget and a budget factor exclude each other; pass one.")
    for name, value in {"budget": budget, "budget factor": budget_factor}.items():
        if value is not None and not 0.0 < value < math.inf:
            raise ConfigurationError(f"the {name} must be positive and finite, but got {value}.")
    if n_initial is not None and n_initial < 2:
        raise ConfigurationError(f"n_initial must be 2 or more, but got {n_initial!r}.")
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise ConfigurationError(f"a seed must be 0 to {LARGEST_SEED}, but one is {seed}.")


def run_all(
    all_options: Sequence[Options],
    out: str | Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    again: bool = False,
    on_done: Callable[[Path], None] = lambda path: None,  # noqa: ARG005 - it does nothing
) -> None:
    """Make all runs that have no result file yet.

    Args:
        all_options: The options of the runs.
        out: The directory of all results.
        jobs: The number of runs at a time, each in a process.
        threads: The number of threads that each run may use.
        again: Whether to make also runs whose result files exist.
        on_done: Called with the path of each result file, in the order in which runs end.

    Raises:
        ConfigurationError: A contender is not known; a problem does not have this preset or kind
            of cost, or cannot use the data; the directory cannot be made; or `jobs` or `threads`
            is not positive.
        MissingExtraError: A library that a problem needs is not installed.
        PipelineError: Some runs failed. All others have their result files.
    """
    for name, count in {"jobs": jobs, "threads": threads}.items():
        if count < 1:
            raise ConfigurationError(f"{name} must be 1 or more, but got {count!r}.")
    out = Path(out)
    _check_runs(all_options, out)
    with parallel_config("loky", inner_max_num_threads=threads):
        Parallel(n_jobs=jobs)(
            delayed(_attempt)(partial(prepare, options, out, threads=threads))
            for options in _to_prepare(all_options, out, again=again)
        )
        attempts = Parallel(n_jobs=jobs, return_as="generator_unordered")(
            delayed(_attempt)(partial(run_to_file, options, out, threads=threads, again=again))
            for options in all_options
        )
        errors = []
        for path, error in attempts:
            if error is None:
                on_done(path)
            else:
                errors.append(error)
    if errors:
        raise PipelineError(
            f"{len(errors)} of {len(all_options)} runs failed; the others have their files. "
            f"The first error: {errors[0]}"
        )


def _check_runs(all_options: Sequence[Options], out: Path) -> None:
    """Find mistakes before anything runs for hours; raises as `run_all` does."""
    for options in all_options:
        Contender.parse(options.contender)
    firsts = {replace(options, contender="", seed=0): options for options in all_options}
    for each in firsts.values():
        load(each.problem, each.preset, cost=each.cost, seed=each.seed, data=each.data)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise ConfigurationError(
            f"results cannot be written to {str(out)!r}: {reason}."
        ) from reason


def _to_prepare(all_options: Sequence[Options], out: Path, *, again: bool) -> list[Options]:
    """One run for each warm-up whose cost is to be measured before the runs begin.

    All contenders of a seed shall have one budget, also where the cost of the warm-up is measured.
    Contenders that choose their own warm-up always need the measurement; since they are last in
    the order, one of them represents its warm-up.
    """
    by_warm_up = {
        options.warm_up_path(out): options
        for options in sorted(all_options, key=chooses_warm_up)
        if options.cost == "measured" and (again or not options.path(out).exists())
    }
    return list(by_warm_up.values())


def _attempt(work: Callable[[], Any]) -> tuple[Any, str | None]:
    """The result of some work, or its error as text, so that a failure does not stop the others."""
    try:
        return work(), None
    except EeipuError as error:
        return None, str(error)
    except Exception:
        return None, traceback.format_exc()
