"""All runs of a comparison, several at a time, each in a file."""

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
    """The runs of methods side by side, seed by seed.

    Args:
        problems: Names of problems, or of groups of them.
        methods: Contenders, such as `"ei"` and `"eeipu+cache"`, each once however it is written.
        seeds: Of the problems, the warm-up and the searches; each counts once.
        preset: How large the problems are.
        cost: Measured or declared; `None`: each problem's default.
        n_initial: Warm-up trials, 2 or more; `None`: the problem's.
        budget: In units of cost; `None`: as `budget_factor` says, or the problem.
        budget_factor: The budget in multiples of what the warm-up costs without a cache.
        own_warm_up: Whether contenders choose their warm-up; otherwise all get the same points.
        data: Where the user's own data are; `None`: the problem's.

    Raises:
        ConfigurationError: A name is none that is known, or a number is out of range.
    """
    if budget is not None and budget_factor is not None:
        raise ConfigurationError("a budget and a budget factor exclude each other; pass one.")
    for name, value in {"budget": budget, "budget factor": budget_factor}.items():
        if value is not None and not 0.0 < value < math.inf:
            raise ConfigurationError(f"the {name} must be positive and finite, but got {value}.")
    if n_initial is not None and n_initial < 2:
        raise ConfigurationError(f"n_initial must be 2 or more, but got {n_initial!r}.")
    # Numbers of NumPy's are no part of a file.
    seeds = list(dict.fromkeys(map(int, seeds)))
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise ConfigurationError(f"a seed must be 0 to {LARGEST_SEED}, but one is {seed}.")
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


def run_all(
    all_options: Sequence[Options],
    out: str | Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    again: bool = False,
    on_done: Callable[[Path], None] = lambda path: None,  # noqa: ARG005 - it does nothing
) -> None:
    """Run what has no result yet.

    Args:
        all_options: The runs.
        out: Where results go.
        jobs: Processes at a time.
        threads: How many threads each may use.
        again: Whether to run also what has a result.
        on_done: Called with each file, in the order in which runs end.

    Raises:
        ConfigurationError: A contender is none that is known, a problem has no such preset or
            costs or cannot use the data, there can be no such directory, or `jobs` or `threads` is
            not positive.
        MissingExtraError: A library that a problem needs is not installed.
        PipelineError: Some runs failed. All others have been made.
    """
    for name, count in {"jobs": jobs, "threads": threads}.items():
        if count < 1:
            raise ConfigurationError(f"{name} must be 1 or more, but got {count!r}.")
    out = Path(out)
    for options in all_options:  # before anything runs for hours
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
    # All contenders of a seed have one budget, also where the warm-up's cost is measured. Those
    # that choose their own warm-up need it in any case: they are last, and so stay.
    waiting = {
        options.warm_up_path(out): options
        for options in sorted(all_options, key=chooses_warm_up)
        if options.cost == "measured" and (again or not options.path(out).exists())
    }
    with parallel_config("loky", inner_max_num_threads=threads):
        Parallel(n_jobs=jobs)(
            delayed(_attempt)(partial(prepare, options, out, threads=threads))
            for options in waiting.values()
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


def _attempt(work: Callable[[], Any]) -> tuple[Any, str | None]:
    """What a piece of work returns, or why it failed, so that no other waits for it in vain."""
    try:
        return work(), None
    except EeipuError as error:
        return None, str(error)
    except Exception:
        return None, traceback.format_exc()
