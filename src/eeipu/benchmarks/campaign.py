"""All runs of a comparison, several at a time, each in a file."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config

from eeipu.benchmarks.contenders import Contender
from eeipu.benchmarks.options import Options
from eeipu.benchmarks.registry import load
from eeipu.benchmarks.runs import chooses_warm_up, prepare, run_to_file
from eeipu.errors import ConfigurationError, EeipuError, PipelineError

__all__ = ["run_all"]


def run_all(
    all_options: Sequence[Options],
    out: Path,
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
        ConfigurationError: A contender is none that is known, a problem has no such costs or
            cannot use the data, or there can be no such directory.
        MissingExtraError: A library that a problem needs is not installed.
        PipelineError: Some runs failed. All others have been made.
    """
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
