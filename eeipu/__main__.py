"""The command line: `eeipu`, or `python -m eeipu`. Groups of commands are in `eeipu.commands`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import eeipu
from eeipu.commands import cache, plan, study
from eeipu.commands.options import Commands
from eeipu.commands.report import report
from eeipu.commands.run import EPILOG, run
from eeipu.errors import EeipuError

__all__ = ["app", "main"]

app = Commands(
    help="Tune expensive, multi-stage machine-learning pipelines.",
    epilog="To begin: eeipu demo, or eeipu run train.py:pipeline --budget 600. "
    "Each command has --help, and --json for scripts.",
    pretty_exceptions_enable=False,  # a long box of local variables helps nobody
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # boxes take half of the width, and twice the time
)
app.command(epilog=EPILOG)(run)
app.command()(report)
app.add_typer(study.app, name="study")
app.add_typer(cache.app, name="cache")
app.add_typer(plan.app, name="plan")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eeipu {eeipu.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of `eeipu` itself."""


@app.command()
def demo(
    budget: Annotated[float, typer.Option(help="Seconds that each search may take.")] = 30.0,
    seed: Annotated[int, typer.Option(help="The first of the three seeds.")] = 0,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Directory for the picture and a script.")
    ] = Path("demo-result"),
) -> None:
    """Tune a pipeline on handwritten digits: EEIPU with a cache against EI without one.

    Both get the same wall-clock time, with three seeds. On two cores it takes less than two
    minutes. All figures are measured while it runs, and seeds that were lost are printed, too.
    """
    # Imported here because the other commands need neither torch nor the extras.
    import optuna
    from rich.console import Console

    from eeipu.benchmarks.demo import run_demo

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run_demo(budget=budget, seed=seed, out=out, console=Console())


def main() -> None:
    """Run the command line. An expected error is one line on standard error, with exit code 1.

    Errors of the system, such as a folder that may not be read, are expected too.
    """
    try:
        app()
    except (EeipuError, OSError) as error:
        typer.echo(f"eeipu: error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
