"""`eeipu report`: a study as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from eeipu.report.page.document import write_report
from eeipu.report.reading import load_study
from eeipu.studies.storages import using_storage

__all__ = ["report"]


@using_storage()
def report(
    storage: Annotated[
        str,
        typer.Argument(
            metavar="STORAGE",
            help="The storage as the tuner was given it, such as sqlite:///tune.db; or the path "
            "of a file of SQLite or of a journal.",
        ),
    ],
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="NAME", help="The study; not needed if there is only one."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", dir_okay=False, help="The file to write.")
    ] = Path("report.html"),
    models: Annotated[
        bool,
        typer.Option(
            help="Fit models: importance of hyper-parameters, and how well values are predicted."
        ),
    ] = True,
) -> None:
    """Write one HTML page about a study, which needs no network: pictures, best trials, failures.

    The study may be running. The pipeline's code is not needed.
    """
    write_report(load_study(storage, study), out, models=models)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
