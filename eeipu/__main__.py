"""The command line: `eeipu`, or `python -m eeipu`. Groups of commands are in `eeipu.commands`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import eeipu
from eeipu.commands import cache
from eeipu.errors import EeipuError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Tune expensive, multi-stage machine-learning pipelines.",
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(cache.app, name="cache")


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
    budget: Annotated[float, typer.Option(help="Seconds that each search may take.")] = 45.0,
    seed: Annotated[int, typer.Option(help="The seed of both searches.")] = 0,
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory for the picture.")] = Path(
        "demo-result"
    ),
) -> None:
    """Tune a pipeline on handwritten digits twice: EEIPU with a cache, and EI without one.

    It takes at most three minutes on two cores. All figures are measured while it runs.
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
