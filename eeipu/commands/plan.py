"""`eeipu plan`: look at a search plan, also while another process runs it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from eeipu.commands.options import Commands
from eeipu.errors import ConfigurationError

__all__ = ["app"]

app = Commands(help="Look at a search plan.", no_args_is_help=True)

_COLUMNS = ("trials", "open", "failed", "paid", "runs", "repeats", "transfers", "losses")


@app.callback()
def group() -> None:
    """Look at a search plan."""


@app.command()
def show(
    location: Annotated[Path, typer.Argument(help="The file of the plan.")],
    nodes: Annotated[int, typer.Option(help="Draw no more than this many nodes.")] = 200,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: a line for each study, then for each node.")
    ] = False,
) -> None:
    """Show the studies of a plan with their accounts, and its tree as it is now.

    The file is only read, and who runs the plan is not kept waiting.
    """
    from rich.console import Console
    from rich.table import Table

    from eeipu.stage_tree.drawing import described_nodes, described_studies, drawing_of
    from eeipu.stage_tree.search_plan import SearchPlan

    if not location.is_file():
        raise ConfigurationError(f"there is no plan {str(location)!r}; name the file of a plan.")
    with SearchPlan(location, max_losses=sys.maxsize, read_only=True) as plan:  # no pardon
        if as_json:
            for each in (*described_studies(plan), *described_nodes(plan)):
                typer.echo(json.dumps(each))
            return
        table = Table("study", *_COLUMNS, caption="seconds of workers, by what they were spent on")
        for each in described_studies(plan):
            amounts = [f"{each[f'{name}_s']:.3g}" for name in _COLUMNS[3:]]
            counts = [str(each[name]) for name in _COLUMNS[:3]]
            table.add_row(str(each["study"]), *counts, *amounts)
        console = Console()
        console.print(table)
        console.print(drawing_of(plan, nodes))
