"""The held-out problems by kind: EEIPU against EI, both with a cache.

Prints a table in Markdown of the runs in `results/runs-held-out`:

    python results/held_out.py

A problem counts in each row whose kind it is of. Intervals are over problems.
"""

from collections.abc import Callable
from pathlib import Path

from eeipu.benchmarks.analysis.reaching import reaching
from eeipu.benchmarks.analysis.tables import Mean, summaries
from eeipu.benchmarks.runs.results import Result, read_all
from eeipu.benchmarks.synthetic.composites import CompositePipeline
from eeipu.benchmarks.synthetic.held_out import HELD_OUT
from eeipu.benchmarks.synthetic.sums import SumPipeline

RUNS = Path("results/runs-held-out")
OURS, THEIRS = "eeipu+cache", "ei+cache"

Pipeline = SumPipeline | CompositePipeline

KINDS: dict[str, Callable[[Pipeline], bool]] = {
    "all": lambda each: True,  # noqa: ARG005
    "sums": lambda each: isinstance(each, SumPipeline),
    "composites": lambda each: isinstance(each, CompositePipeline),
    "two to four stages": lambda each: len(each.cost_scales) <= 4,
    "five to seven stages": lambda each: len(each.cost_scales) > 4,
    "graphs": lambda each: bool(each.graph),
    "equal costs": lambda each: len(set(each.cost_scales)) == 1 and not each.upstream_costs,
    "costs that fall to less than half": lambda each: _last_to_first(each) < 0.5,
    "costs that rise to more than twice": lambda each: _last_to_first(each) > 2.0,
    "costs that depend on the first stage": lambda each: each.upstream_costs,
    "stages that move others' functions": lambda each: (
        isinstance(each, SumPipeline) and each.twist > 0.0
    ),
    "integers and choices": lambda each: bool(each.kinds),
    "alternatives": lambda each: isinstance(each, CompositePipeline) and bool(each.coarse),
    "noise": lambda each: isinstance(each, SumPipeline) and each.noise > 0.0,
}

HEADINGS = (
    "kind",
    "problems",
    "candidates, more",
    "share of the possible, EEIPU and EI",
    "lead",
    "won",
    "of the rest",
    "on the way, EEIPU and EI",
    "lead",
    "won",
)


def main() -> None:
    """Print the table."""
    results = read_all(RUNS)
    print("# Held-out problems by kind\n")
    print(f"| {' | '.join(HEADINGS)} |\n| --- |{' ---: |' * (len(HEADINGS) - 1)}")
    for kind, belongs in KINDS.items():
        own = [each for each in results if belongs(HELD_OUT[each.options.problem])]
        print(f"| {' | '.join([kind, *_cells(own)])} |")


def _last_to_first(each: Pipeline) -> float:
    return each.cost_scales[-1] / each.cost_scales[0]


def _cells(results: list[Result]) -> list[str]:
    at_end, anytime = (
        summaries(results, against=THEIRS, methods=[OURS, THEIRS], anytime=way)[-2:]
        for way in (False, True)
    )
    rest = reaching(results, against=THEIRS, methods=[OURS])[-1].of_the_rest
    ours, theirs = at_end
    cells = [str(ours.pairs), f"{ours.more_candidates:+.0%}"]
    for one, other in (at_end, anytime):
        cells += [f"{one.share.value:.3f} and {other.share.value:.3f}", _interval(one.lead)]
        cells += [f"{one.won:.0%}"]
        cells += [f"{rest:.0%}"] if one is ours else []
    assert theirs.method == THEIRS
    return cells


def _interval(mean: Mean) -> str:
    return f"{mean.value:+.3f} ± {mean.half_width:.3f}"


if __name__ == "__main__":
    main()
