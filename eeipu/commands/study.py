"""`eeipu study`: look at the studies of a storage, also at one that is running."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eeipu.commands.options import AsJson, Commands, Storage, StudyName

__all__ = ["app"]

app = Commands(
    help="Look at the studies of a storage, also while they run. Nothing is written.",
    epilog="For example: eeipu study show tune.db, or eeipu study best tune.db --json. "
    "A page with pictures: eeipu report tune.db",
    no_args_is_help=True,
)

# Each command imports what it prints with when it runs, so that `--help` is there at once.


class Order(StrEnum):
    """The orders of the list of trials."""

    NUMBER = "number"
    BEST = "best"
    CHARGED = "charged"


class State(StrEnum):
    """The states of trials."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    WAITING = "waiting"


@app.command("list")
def list_studies(storage: Storage, as_json: AsJson = False) -> None:
    """List the studies of a storage: trials, best value, and what was spent."""
    from eeipu.commands.studies_shown import print_list

    print_list(storage, as_json=as_json)


@app.command()
def show(
    storage: Storage,
    study: StudyName = None,
    recommended: Annotated[
        bool,
        typer.Option(
            "--recommended",
            help="Fit models, and say which trial they believe to be best, and what to expect of "
            "it. The best value of many may be a lucky one.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how a study stands: its account, its stages, and its best trial."""
    from eeipu.commands.studies_shown import print_study
    from eeipu.report.reading import load_study

    print_study(load_study(storage, study), recommends=recommended, as_json=as_json)


@app.command()
def best(
    storage: Storage,
    study: StudyName = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Show so many trials.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Show the best trial: its value and its hyper-parameters. The exit code is 1 without one.

    With several objectives, these are the trials that no other one is better than.
    """
    from eeipu.commands.studies_shown import print_best

    print_best(storage, study, count, as_json=as_json)


@app.command()
def trials(
    storage: Storage,
    study: StudyName = None,
    sort: Annotated[Order, typer.Option(help="The order of the trials.")] = Order.NUMBER,
    state: Annotated[State | None, typer.Option(help="Only trials in this state.")] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="The last so many, or the first of an order."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List trials: value, what was charged, what each stage cost, and what was free."""
    from eeipu.commands.studies_shown import print_trials

    print_trials(storage, study, sort=sort, state=state, count=count, as_json=as_json)


@app.command()
def export(
    storage: Storage,
    study: StudyName = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", dir_okay=False, help="The file; otherwise standard output."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a table of all trials as CSV: parameters, metrics, cost:STAGE, reused:STAGE, times."""
    from eeipu.commands.studies_shown import print_export

    print_export(storage, study, out, as_json=as_json)
