"""The benchmarks' command line: `python -m eeipu.benchmarks`."""

import json
import sys
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from eeipu.benchmarks.campaign import run_all
from eeipu.benchmarks.figures import draw
from eeipu.benchmarks.files import Result, read, read_all
from eeipu.benchmarks.options import Options
from eeipu.benchmarks.problem import CostKind, Preset
from eeipu.benchmarks.registry import REGISTRY, named
from eeipu.benchmarks.tables import StageCost, Summary, stage_costs, summaries
from eeipu.errors import ConfigurationError, EeipuError

__all__ = ["app", "main"]

app = typer.Typer(help="Compare methods on benchmark problems.", add_completion=False)

# Wide enough for every column; a terminal folds what is wider, and files keep it.
WIDTH = 170

FIGURES = (
    "runs",
    "candidates",
    "more",
    "improvement",
    "more",
    "share of possible",
    "1 - share, geom.",
    "suggestions",
    "each",
)

Out = Annotated[Path, typer.Option(file_okay=False, help="Directory of the results.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a row.")]
Against = Annotated[str, typer.Option(help="The contender that others are compared with.")]
Names = Annotated[list[str] | None, typer.Argument(help="Names of problems or groups of them.")]


@app.command("list")
def list_problems() -> None:
    """The names of all problems, their groups, and what they are."""
    for name, entry in REGISTRY.items():
        typer.echo(f"{name:45} {entry.group:10} {entry.about}")


@app.command()
def run(
    problems: Names = None,
    methods: Annotated[
        str, typer.Option(help="Comma-separated; '+cache' behind a method gives it a cache.")
    ] = "eeipu+cache,eeipu-paper+cache,carbo,ei+cache,ei",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to this.")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="Begin at this seed.")] = 0,
    preset: Annotated[Preset, typer.Option(help="How large the problems are.")] = "cpu",
    cost: Annotated[CostKind | None, typer.Option(help="Default: the problem's.")] = None,
    n_initial: Annotated[
        int | None, typer.Option(min=2, help="Warm-up trials. Default: the problem's.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="In units of cost. Default: the problem's.")
    ] = None,
    budget_factor: Annotated[
        float | None, typer.Option(help="The budget, in multiples of what the warm-up costs.")
    ] = None,
    own_warm_up: Annotated[
        bool, typer.Option(help="Let each method choose its warm-up; otherwise all get the same.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="Your own data, for problems that take any.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each.")] = 1,
    again: Annotated[bool, typer.Option(help="Run also what has a result.")] = False,
    out: Out = Path("results"),
    against: Against = "ei",
    as_json: AsJson = False,
) -> None:
    """Run methods side by side, one file a run, and print what each reached.

    Without names, the problems of the group 'synthetic'. What has a result already is not run
    again, so that a comparison that was stopped goes on.
    """
    chosen = named(problems or ["synthetic"])
    contenders = [text.strip() for text in methods.split(",")]
    all_options = [
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
            data,
        )
        for seed, problem, contender in product(
            range(first_seed, first_seed + seeds), chosen, contenders
        )
    ]
    done = 0

    def tell(path: Path) -> None:
        nonlocal done
        done += 1
        typer.echo(f"{done}/{len(all_options)} {path}", err=True)

    run_all(all_options, out, jobs=jobs, threads=threads, again=again, on_done=tell)
    results = [read(options.path(out)) for options in all_options]
    _print(summaries(results, against=against), as_json=as_json, against=against)


@app.command()
def table(
    problems: Names = None,
    out: Out = Path("results"),
    against: Against = "ei",
    stages: Annotated[bool, typer.Option(help="What each stage cost, instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """What results say, in means over seeds with 95 % intervals."""
    results = _results(problems, out)
    if stages:
        _print_stages(stage_costs(results), as_json=as_json)
    else:
        _print(summaries(results, against=against), as_json=as_json, against=against)


@app.command()
def plot(
    problems: Names = None,
    out: Out = Path("results"),
    figures: Annotated[
        Path | None, typer.Option(file_okay=False, help="Default: 'figures' in the results.")
    ] = None,
) -> None:
    """Draw results: curves over budget and iterations, cost a stage, the optimiser's time."""
    for path in draw(_results(problems, out), figures or out / "figures"):
        typer.echo(path)


def _results(problems: list[str] | None, out: Path) -> list[Result]:
    results = read_all(out)
    if not problems:
        return results
    chosen = [result for result in results if result.options.problem in named(problems)]
    if not chosen:
        raise ConfigurationError(f"there are no results of {problems} in {str(out)!r}.")
    return chosen


def _print(rows: list[Summary], *, as_json: bool, against: str) -> None:
    if as_json:
        _print_json(rows)
        return
    shown = Table(title=f"means over seeds with 95 % intervals; 'more' than {against}")
    for heading in ("problem", "method"):
        shown.add_column(heading, overflow="fold")
    for heading in FIGURES:
        shown.add_column(heading, justify="right", no_wrap=True)
    before = None
    for row in rows:
        is_new = row.setting != before
        before = row.setting
        if is_new:
            shown.add_section()
        shown.add_row(
            (row.setting or row.problem) if is_new else "",
            row.method,
            str(row.runs),
            _interval(row.candidates, row.candidates_half_width, ".1f"),
            _percent(row.more_candidates),
            _interval(row.improvement, row.improvement_half_width, ".4g"),
            _percent(row.more_improvement),
            _interval(row.share, row.share_half_width, ".3f"),
            "" if row.missed is None else f"{row.missed:.3f}",
            f"{row.optimiser_s:.1f} s",
            f"{row.suggestion_s:.2f} s",
        )
    Console(width=WIDTH).print(shown)


def _print_stages(rows: list[StageCost], *, as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    shown = Table(title="what each stage cost a run, in means over seeds")
    for heading in ("problem", "method", "stage"):
        shown.add_column(heading, overflow="fold")
    for heading in ("spent", "share", "executed", "reused", "each"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(
            row.setting,
            row.method,
            row.stage,
            f"{row.spent:.4g}",
            f"{row.share:.0%}",
            f"{row.executed:.1f}",
            f"{row.reused:.1f}",
            "" if row.each is None else f"{row.each:.3g}",
        )
    Console(width=WIDTH).print(shown)


def _print_json(rows: list[Summary] | list[StageCost]) -> None:
    for row in rows:
        typer.echo(json.dumps(asdict(row)))


def _interval(mean: float | None, half_width: float | None, spec: str) -> str:
    if mean is None:
        return ""
    return f"{mean:{spec}}" if half_width is None else f"{mean:{spec}} ± {half_width:{spec}}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:+.0%}"


def main() -> None:
    """Run the command line; expected errors are one line on standard error and exit code 1."""
    try:
        app()
    except EeipuError as error:
        typer.echo(f"eeipu.benchmarks: error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
