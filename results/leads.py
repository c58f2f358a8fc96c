"""EEIPU with a cache against each other method, and against the mean over the paper's six others.

Prints a table in Markdown of the runs in `results/runs`:

    python results/leads.py HEADING METHODS SEEDS PROBLEM...

METHODS are separated by commas, and SEEDS is the number of seeds, from the first one on. The
columns are those of `python -m eeipu.benchmarks table`, for all problems together if there are
several. Intervals need two seeds or more.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eeipu.benchmarks.analysis.tables import Summary, summaries
from eeipu.benchmarks.registry import REGISTRY, named
from eeipu.benchmarks.runs.results import Result, read_all

RUNS = Path("results/runs")
OURS = "eeipu+cache"

# The six other methods of the paper. Two of them are equal to another method in some cases, which
# then represents them if they did not run: without numbers between stages, multi-stage BO has a
# single model, as EI; and without a cache, EEIPU is MS-CArBO.
SIX = ("ei", "eips", "carbo", "ms-carbo", "lambo", "ms-bo")
EQUALS = {"ms-carbo": "eeipu", "ms-bo": "ei", "ms-bo+cache": "ei+cache"}

HEADINGS = ("against", "runs", "more candidates", "larger improvement", "lead", "won")
ANYTIME = ("anytime: larger", "lead", "won")


def main(heading: str, methods: str, seeds: str, *problems: str) -> None:
    """Print the table."""
    results = [
        result
        for result in read_all(RUNS, leave_out=REGISTRY.keys() - named(problems))
        if result.options.seed < int(seeds)
    ]
    others = [method for method in methods.split(",") if method != OURS]
    rows = {other: [_row(results, other, anytime) for anytime in (False, True)] for other in others}
    print(f"# EEIPU with a cache against each other method, {heading}\n")
    columns = (*HEADINGS, *ANYTIME)
    print(f"| {' | '.join(columns)} |\n| --- |{' ---: |' * (len(columns) - 1)}")
    for other, (at_end, anytime) in rows.items():
        cells = [other, str(at_end.pairs), _percent([at_end.more_candidates])]
        for row in (at_end, anytime):
            cells += [_percent([row.more_improvement]), _lead(row), _percent([row.won], "")]
        print(f"| {' | '.join(cells)} |")
    for cache in ("+cache", ""):
        names = [name + cache for name in SIX]
        names = [name if name in rows else EQUALS.get(name, name) for name in names]
        if all(name in rows for name in names):
            print(_mean_row(cache, [rows[name] for name in names]))


def _row(results: Sequence[Result], other: str, anytime: bool) -> Summary:
    """The last row, which is that of all problems together if there are several."""
    return summaries(results, against=other, methods=[OURS], anytime=anytime)[-1]


def _mean_row(cache: str, six: Sequence[Sequence[Summary]]) -> str:
    at_end, anytime = zip(*six, strict=True)
    cells = [f"mean of the six, with{'' if cache else 'out'} a cache", ""]
    cells.append(_percent([row.more_candidates for row in at_end]))
    for rows in (at_end, anytime):
        cells += [_percent([row.more_improvement for row in rows]), ""]
        cells.append(_percent([row.won for row in rows], ""))
    return f"| {' | '.join(cells)} |"


def _percent(shares: Sequence[float | None], sign: str = "+") -> str:
    """The mean of some shares as a percentage; empty if one of them is unknown."""
    known = [share for share in shares if share is not None]
    return f"{np.mean(known):{sign}.0%}" if len(known) == len(shares) else ""


def _lead(row: Summary) -> str:
    return "" if row.lead.value is None else f"{row.lead.value:+.3g} ± {row.lead.half_width:.3g}"


if __name__ == "__main__":
    main(*sys.argv[1:])
