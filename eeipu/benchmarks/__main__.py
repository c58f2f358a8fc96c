"""The command line of the benchmarks: `python -m eeipu.benchmarks`."""

import math
import sys
from collections.abc import Callable, Collection, Sequence
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from eeipu.benchmarks.analysis.pictures import draw
from eeipu.benchmarks.analysis.printing import (
    Style,
    print_reaching,
    print_stages,
    print_summaries,
)
from eeipu.benchmarks.analysis.reaching import reaching as reached_by
from eeipu.benchmarks.analysis.stage_costs import stage_costs
from eeipu.benchmarks.analysis.tables import summaries
from eeipu.benchmarks.problem import CostKind, Preset
from eeipu.benchmarks.registry import REGISTRY, named
from eeipu.benchmarks.runs.options import LARGEST_SEED
from eeipu.benchmarks.runs.results import Result, read, read_all
from eeipu.errors import ConfigurationError, EeipuError

__all__ = ["app", "main"]

app = typer.Typer(help="Compare methods on benchmark problems.", add_completion=False)

# The contender that others are compared with by default: the method that they all build on.
REFERENCE = "ei"

DEFAULT_OUT = Path("comparison")

# The exit code of a process that SIGINT has ended.
INTERRUPTED = 130

Out = Annotated[Path, typer.Option(file_okay=False, help="Directory of the results.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a row.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="A table in Markdown.")]
Against = Annotated[
    str | None,
    typer.Option(help="The contender that others are compared with. Default: ei, if it ran."),
]
Only = Annotated[
    str | None, typer.Option(help="Show only these contenders, comma-separated, in this order.")
]
Data = Annotated[
    str | None,
    typer.Option(help="Your own data: a table for stacking, a folder for segmentation."),
]
Seeds = Annotated[int | None, typer.Option(min=1, help="The number of seeds. Default: all.")]
WarmUp = Annotated[
    int | None, typer.Option(min=2, help="Warm-up trials. Default: as the problem has it.")
]
FirstSeed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="The first seed.")]
Names = Annotated[list[str] | None, typer.Argument(help="Names of problems or groups of them.")]


@app.command("list")
def list_problems() -> None:
    """List all problems with their groups and descriptions."""
    for name, entry in REGISTRY.items():
        typer.echo(f"{name:45} {entry.group:10} {entry.about}")


@app.command()
def run(
    problems: Names = None,
    methods: Annotated[
        str, typer.Option(help="Comma-separated; '+cache' after a method gives it a cache.")
    ] = "eeipu+cache,eeipu-paper+cache,carbo,ei+cache,ei",
    seeds: Annotated[int, typer.Option(min=1, help="The number of seeds.")] = 10,
    first_seed: FirstSeed = 0,
    preset: Annotated[Preset, typer.Option(help="The size of the problems.")] = "cpu",
    cost: Annotated[CostKind | None, typer.Option(help="Default: as the problem has it.")] = None,
    n_initial: WarmUp = None,
    budget: Annotated[
        float | None, typer.Option(help="In units of cost. Default: as the problem has it.")
    ] = None,
    budget_factor: Annotated[
        float | None, typer.Option(help="The budget, as a multiple of the cost of the warm-up.")
    ] = None,
    own_warm_up: Annotated[
        bool, typer.Option(help="Let each method choose its warm-up; otherwise all have the same.")
    ] = False,
    data: Data = None,
    jobs: Annotated[int, typer.Option(min=1, help="The number of runs at a time.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="The number of threads of each run.")] = 1,
    again: Annotated[bool, typer.Option(help="Make also runs whose results exist.")] = False,
    out: Out = DEFAULT_OUT,
    against: Against = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Run methods side by side, write a result file for each run, and print a table.

    Without names, the problems are those of the group 'synthetic'. Runs whose results exist are
    not made again, so the same command resumes a comparison that was stopped.
    """
    # Imported here because the other commands do not need torch.
    from eeipu.benchmarks.runs.campaign import comparison, run_all

    style = _style(as_json=as_json, as_markdown=as_markdown)
    all_options = comparison(
        problems or ["synthetic"],
        methods.split(","),
        range(first_seed, first_seed + seeds),
        preset=preset,
        cost=cost,
        n_initial=n_initial,
        budget=budget,
        budget_factor=budget_factor,
        own_warm_up=own_warm_up,
        data=data,
    )
    reference = _reference(against, {options.contender for options in all_options})
    on_done = _counting(len(all_options))
    try:
        run_all(all_options, out, jobs=jobs, threads=threads, again=again, on_done=on_done)
    except KeyboardInterrupt:
        typer.echo("stopped by Ctrl-C; the same command goes on.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    results = [read(options.path(out)) for options in all_options]
    _note_mixtures(results)
    print_summaries(summaries(results, against=reference), style, against=reference)


def _counting(total: int) -> Callable[[Path], None]:
    """A function that prints each result file with a running number, such as `3/40`."""
    numbers = count(1)

    def tell(path: Path) -> None:
        typer.echo(f"{next(numbers)}/{total} {path}", err=True)

    return tell


@app.command()
def table(
    problems: Names = None,
    methods: Only = None,
    seeds: Seeds = None,
    first_seed: FirstSeed = 0,
    out: Out = DEFAULT_OUT,
    against: Against = None,
    stages: Annotated[
        bool, typer.Option(help="Show instead what each stage cost and gained.")
    ] = False,
    reaching: Annotated[
        bool,
        typer.Option(
            help="Show instead the budget that reaches what the reference has at its end."
        ),
    ] = False,
    charge_suggestions: Annotated[
        bool, typer.Option(help="Charge suggestions too, one unit of cost for each second.")
    ] = False,
    anytime: Annotated[
        bool, typer.Option(help="Show improvements averaged over the budget, not those at its end.")
    ] = False,
    recommended: Annotated[
        bool,
        typer.Option(help="Count the configuration that a model believes best, for all methods."),
    ] = False,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Print a table of results: means over seeds with 95 % intervals."""
    style = _style(as_json=as_json, as_markdown=as_markdown)
    chosen_tables = {"--stages": stages, "--anytime": anytime, "--reaching": reaching}
    given = [name for name, is_given in chosen_tables.items() if is_given]
    if len(given) > 1:
        raise ConfigurationError(f"{' and '.join(given)} exclude each other; pass one.")
    results = _results(problems, out, seeds, first_seed)
    if charge_suggestions:
        results = [result.with_suggestions_charged for result in results]
    chosen = _chosen(methods, results, out)
    if recommended:
        from eeipu.benchmarks.analysis.recommendation import as_recommended  # loads torch

        results = [as_recommended(result) for result in results]
    reference = _reference(against, {result.options.contender for result in results})
    if stages:
        print_stages(stage_costs(_only(results, chosen)), style)
    elif reaching:
        if reference is None:
            raise ConfigurationError("--reaching needs a contender to compare with; add --against.")
        print_reaching(
            reached_by(results, against=reference, methods=chosen), style, against=reference
        )
    else:
        rows = summaries(results, against=reference, methods=chosen, anytime=anytime)
        print_summaries(rows, style, against=reference, anytime=anytime)
    if style == "markdown":
        for note in _mixtures(_only(results, chosen)):
            typer.echo(f"\n{note[0].upper()}{note[1:]}.")


@app.command()
def plot(
    problems: Names = None,
    methods: Only = None,
    seeds: Seeds = None,
    first_seed: FirstSeed = 0,
    out: Out = DEFAULT_OUT,
    figures: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Directory of the pictures. Default: 'figures' among the results."
        ),
    ] = None,
) -> None:
    """Draw results: curves over budget and trials, cost of each stage, time of suggestions."""
    results = _results(problems, out, seeds, first_seed)
    chosen = _chosen(methods, results, out)
    for path in draw(_only(results, chosen), figures or out / "figures"):
        typer.echo(path)


def _style(*, as_json: bool, as_markdown: bool) -> Style:
    if as_json and as_markdown:
        raise ConfigurationError("--json and --markdown exclude each other; pass one.")
    return "json" if as_json else "markdown" if as_markdown else "terminal"


def _results(
    problems: list[str] | None, out: Path, seeds: int | None, first_seed: int
) -> list[Result]:
    """The results of the chosen problems and seeds."""
    chosen = named(problems) if problems else list(REGISTRY)
    end = math.inf if seeds is None else first_seed + seeds
    found = [
        result
        for result in read_all(out, leave_out=REGISTRY.keys() - chosen)
        if first_seed <= result.options.seed < end
    ]
    if not found:
        of = f" of {problems}" if problems else ""
        raise ConfigurationError(f"there are no results{of} with these seeds in {str(out)!r}.")
    _note_mixtures(found)
    return found


def _note_mixtures(results: Sequence[Result]) -> None:
    """Warn on standard error where means are over results that may not be comparable."""
    for note in _mixtures(results):
        typer.echo(f"note: {note}", err=True)


def _mixtures(results: Sequence[Result]) -> list[str]:
    """Notes on results that may differ in more than the contender and the seed."""
    notes = []
    if len({result.code for result in results}) > 1:
        notes.append("several versions of eeipu made these results; see `code` in their files")
    machines = [result.hardware for result in results if result.options.cost == "measured"]
    if any(each != machines[0] for each in machines):
        notes.append(
            "these seconds are of several machines or numbers of threads; see `hardware` in their "
            "files"
        )
    return notes


def _chosen(methods: str | None, results: Sequence[Result], out: Path) -> list[str] | None:
    """The names of the chosen contenders, in the order in which they were given."""
    if methods is None:
        return None
    ran = {result.options.contender for result in results}
    contenders = list(dict.fromkeys(_name(text, ran) for text in methods.split(",")))
    for contender in contenders:
        if contender not in ran:
            raise ConfigurationError(f"there are no results of {contender!r} in {str(out)!r}.")
    return contenders


def _name(text: str, ran: Collection[str]) -> str:
    """The canonical name of a contender; only a name that no run has is parsed (loads torch)."""
    if text in ran:
        return text
    from eeipu.benchmarks.contenders import Contender

    return str(Contender.parse(text))


def _only(results: Sequence[Result], chosen: list[str] | None) -> list[Result]:
    """The results of the chosen contenders, in the order of the choice."""
    if chosen is None:
        return list(results)
    found = [result for result in results if result.options.contender in chosen]
    return sorted(found, key=lambda result: chosen.index(result.options.contender))


def _reference(against: str | None, contenders: Collection[str]) -> str | None:
    """The contender to compare others with; `None` if none was named and `ei` did not run."""
    if against is None:
        return REFERENCE if REFERENCE in contenders else None
    reference = _name(against, contenders)
    if reference not in contenders:
        raise ConfigurationError(
            f"--against {reference!r} did not run here; name one of {sorted(contenders)}."
        )
    return reference


def main() -> None:
    """Run the command line. An expected error is one line on standard error, with exit code 1."""
    try:
        app()
    except EeipuError as error:
        typer.echo(f"eeipu.benchmarks: error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
