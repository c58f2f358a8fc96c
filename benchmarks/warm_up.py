"""What a warm-up is worth, and what is spent on polishing, in runs with declared costs.

Contenders are `eeipu+cache` with changes (see `docs/benchmarks.md`): warm-ups of its own with other
numbers of trials, and with or without candidates whose trials tell nothing new. All runs of a
problem and a seed have the same budget. Printed are, for each contender,

- the share of the possible improvement at the end, and its mean over the last two thirds of the
  budget, counted from the best of the problem's common warm-up,
- the share of trials whose value is within 1e-6 of the best one before them,
- the mean differences to the first contender, with half the width of their 95 % intervals, where
  there are several runs.

Where the optimum is not known, as on real problems, the largest improvement that a contender has
reached with the same seed takes its place.

Runs are kept in a directory, so that the same command goes on where it was stopped. Run
`python benchmarks/warm_up.py [--problems ...] [--contenders ...] [--seeds N] [--first-seed S]
[--budget-factor F] [--out DIR] [--json]`; without `--problems` it takes the nine synthetic ones.
"""

import os

# Before torch and NumPy start their threads.
os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from figures import Figure, arguments_of, show
from numpy.typing import NDArray

from eeipu.benchmarks.analysis.tables import half_width
from eeipu.benchmarks.registry import named
from eeipu.benchmarks.runs.options import Options
from eeipu.benchmarks.runs.results import Result, read
from eeipu.benchmarks.runs.single_run import run_to_file

# Ten trials with polishing, then without it, and the same of the usual warm-up.
CONTENDERS = (
    "eeipu+cache+n-initial=10+polishing=on",
    "eeipu+cache+n-initial=10",
    "eeipu+cache+n-initial=usual+polishing=on",
    "eeipu+cache+n-initial=usual",
)

# Values that differ by less are the same to any user.
SAME = 1e-6

# The number of places on the budget at which improvements are averaged.
GRID = 601


def over_budget(result: Result) -> NDArray[np.float64]:
    """The improvement at evenly spaced places on the budget, `GRID`; never below 0."""
    spent = [trial["spent"] for trial in result.trials]
    places = np.linspace(0.0, result.problem["budget"], GRID)
    last = np.searchsorted(spent, places, side="right") - 1
    reached = np.nan_to_num(np.maximum(result.improvements, 0.0))
    return np.where(last >= 0, reached[np.maximum(last, 0)], 0.0)


def polished(result: Result) -> float:
    """The share of trials whose value is within `SAME` of the best one before them."""
    values = [np.nan if t["value"] is None else result.sign * t["value"] for t in result.trials]
    before = np.fmax.accumulate(np.array([-np.inf, *values]))[:-1]
    return float(np.mean(np.abs(np.array(values) - before) <= SAME))


def possible(results: Sequence[Result]) -> float:
    """The improvement that was possible in runs of one problem and seed."""
    first = results[0]
    if first.problem["optimum"] is not None:
        return first.sign * (first.problem["optimum"] - first.start)
    return max(max(result.improvement for result in results), SAME)


def measured(runs: dict[str, list[Result]]) -> dict[str, NDArray[np.float64]]:
    """For each contender: shares at the end and on the way, polishing, and trials, `4 x runs`."""
    table: dict[str, list[tuple[float, ...]]] = {contender: [] for contender in runs}
    for results in zip(*runs.values(), strict=True):
        whole = possible(results)
        for contender, result in zip(runs, results, strict=True):
            on_the_way = over_budget(result)[GRID // 3 :].mean()
            shares = result.improvement / whole, on_the_way / whole
            table[contender].append((*shares, polished(result), len(result.trials)))
    return {contender: np.array(rows).T for contender, rows in table.items()}


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    """All figures, for all problems together, and polishing for each."""
    problems = named(arguments.problems)
    runs: dict[str, list[Result]] = {contender: [] for contender in arguments.contenders}
    of: list[str] = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for problem in problems:
            of.append(problem)
            for contender, results in runs.items():
                options = Options(
                    problem,
                    arguments.preset,
                    "declared",
                    contender,
                    seed,
                    budget_factor=arguments.budget_factor,
                )
                results.append(read(run_to_file(options, arguments.out)))
    names = ("share at the end", "share in the last two thirds", "polishing trials", "trials")
    tables = measured(runs)
    reference = tables[arguments.contenders[0]]
    for contender, table in tables.items():
        for name, row, base in zip(names, table, reference, strict=True):
            unit = "trials" if name == "trials" else "share"
            yield Figure(f"{contender}: {name}, {len(of)} runs", float(row.mean()), unit)
            if contender != arguments.contenders[0]:
                more = row - base
                yield Figure(f"{contender}: more {name}", float(more.mean()), unit)
                width = half_width(more.tolist())
                if width is not None:
                    yield Figure(f"{contender}: more {name}, +-", width, unit)
        for problem in problems:
            here = np.array(of) == problem
            yield Figure(
                f"{contender}: polishing, {problem}", float(table[2, here].mean()), "share"
            )


def parsed() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = arguments_of(__doc__)
    parser.add_argument("--problems", nargs="+", default=["synthetic"])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget-factor", type=float, default=None)
    parser.add_argument("--preset", default="cpu", choices=("smoke", "cpu"))
    parser.add_argument("--out", type=Path, default=Path("warm-up-runs"))
    return parser.parse_args()


if __name__ == "__main__":
    logging.getLogger("eeipu").setLevel(logging.ERROR)
    show(figures(parsed()))
