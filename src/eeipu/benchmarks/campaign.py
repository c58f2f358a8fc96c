"""All runs of a comparison, several at a time, each in a file."""

from collections.abc import Callable, Sequence
from pathlib import Path

from joblib import Parallel, delayed, parallel_config

from eeipu.benchmarks.contenders import Contender
from eeipu.benchmarks.options import Options
from eeipu.benchmarks.registry import REGISTRY
from eeipu.benchmarks.runs import prepare, run_to_file

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
        ConfigurationError: A contender is none that is known.
        MissingExtraError: A library that a problem needs is not installed.
    """
    for options in all_options:  # before anything runs for hours
        Contender.parse(options.contender)
        REGISTRY[options.problem].builder()
    # All contenders of a seed have one budget, also where the warm-up's cost is measured.
    waiting = {
        options.warm_up_path(out): options
        for options in all_options
        if REGISTRY[options.problem].is_long and (again or not options.path(out).exists())
    }
    with parallel_config("loky", inner_max_num_threads=threads):
        Parallel(n_jobs=jobs)(
            delayed(prepare)(options, out, threads=threads) for options in waiting.values()
        )
        paths = Parallel(n_jobs=jobs, return_as="generator_unordered")(
            delayed(run_to_file)(options, out, threads=threads, again=again)
            for options in all_options
        )
        for path in paths:
            on_done(path)
