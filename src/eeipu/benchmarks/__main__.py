"""The benchmarks' command line: `python -m eeipu.benchmarks`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from eeipu.benchmarks.comparison import Contender, Outcome, compare, summarize
from eeipu.benchmarks.synthetic import PIPELINES

app = typer.Typer(help="Compare methods on benchmark problems.", add_completion=False)

ALL = "all problems"


@app.command("list")
def list_problems() -> None:
    """The names of all problems."""
    for name in PIPELINES:
        typer.echo(name)


@app.command()
def run(
    problems: Annotated[list[str] | None, typer.Argument(help="Names; none: all.")] = None,
    methods: Annotated[
        str, typer.Option(help="Comma-separated; '+cache' behind a method gives it a cache.")
    ] = "eeipu+cache,eeipu-paper+cache,carbo,ei+cache,ei",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to this.")] = 10,
    n_initial: Annotated[int, typer.Option(min=2, help="Warm-up trials.")] = 11,
    budget_factor: Annotated[
        float, typer.Option(help="The budget, in multiples of what the warm-up costs.")
    ] = 3.0,
    own_warm_up: Annotated[
        bool, typer.Option(help="Let each method choose its warm-up; otherwise all get the same.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Processes at a time.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row.")] = False,
) -> None:
    """Run methods side by side and print what each reached."""
    chosen = problems or list(PIPELINES)
    unknown = sorted(set(chosen) - set(PIPELINES))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no problem; see `list`.")
    try:
        contenders = [Contender.parse(text.strip()) for text in methods.split(",")]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    outcomes = compare(
        chosen,
        contenders,
        range(seeds),
        n_initial=n_initial,
        budget_factor=budget_factor,
        own_warm_up=own_warm_up,
        jobs=jobs,
    )
    _show(outcomes, [*chosen, ALL], contenders, as_json=as_json)


def _show(
    outcomes: list[Outcome], problems: list[str], contenders: list[Contender], *, as_json: bool
) -> None:
    table = Table(title="share: of the gain from the best warm-up trial to the optimum")
    for heading in ("problem", "method", "candidates", "share", "1 - share, geom.", "optimiser"):
        table.add_column(heading, justify="left" if heading in ("problem", "method") else "right")
    for problem in problems:
        for contender in contenders:
            group = [
                outcome
                for outcome in outcomes
                if outcome.contender == contender and problem in (outcome.problem, ALL)
            ]
            summary = summarize(group)
            if as_json:
                row = {"problem": problem, "method": str(contender), **asdict(summary)}
                typer.echo(json.dumps(row))
            table.add_row(
                problem,
                str(contender),
                f"{summary.candidates:.1f}",
                f"{summary.share:.3f} ± {summary.share_half_width:.3f}",
                f"{summary.missed:.3f}",
                f"{summary.optimiser_s:.1f} s",
            )
        table.add_section()
    if not as_json:
        Console(width=140).print(table)


if __name__ == "__main__":
    app()
