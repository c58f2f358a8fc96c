"""`eeipu report`: a study as one HTML page, in a file or served while the study runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from eeipu.commands.options import AsJson, Storage, StudyName

__all__ = ["report"]


def report(
    storage: Storage,
    study: StudyName = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", dir_okay=False, help="The file to write.")
    ] = Path("report.html"),
    models: Annotated[
        bool,
        typer.Option(
            help="Fit models: importance of hyper-parameters, and how well values are predicted."
        ),
    ] = True,
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="The cache, to show which outputs it has; by default the one that the study used.",
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Write no file, but serve the page on this machine alone; it follows the study "
            "until Ctrl-C.",
        ),
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="With --watch: the port; 0 takes a free one.")
    ] = 8400,
    every: Annotated[
        float, typer.Option(min=1.0, help="With --watch: look again after so many seconds.")
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Make one HTML page about a study: pictures, best trials, the account, failures.

    The page needs no network. The study may be running, and is not held up: its storage is only
    read. The pipeline's code is not needed.
    """
    from eeipu.report.page.document import write_report
    from eeipu.report.reading import load_study
    from eeipu.studies.storages import using_storage

    with using_storage():
        if watch:
            from eeipu.report.page.live import LiveReport, serve

            live = LiveReport(storage, study, models=models, cache=cache, every_s=every)
            with serve(live, port) as server:
                address = f"http://127.0.0.1:{server.server_port}/"
                said = json.dumps({"url": address}) if as_json else f"{address}  (Ctrl-C ends it)"
                typer.echo(said)
                server.serve_until_interrupted()
            return
        write_report(load_study(storage, study), out, models=models, cache=cache)
    size_bytes = out.stat().st_size
    if as_json:
        typer.echo(json.dumps({"file": str(out), "size_bytes": size_bytes}))
    else:
        typer.echo(f"wrote {out} ({size_bytes / 1e6:.1f} MB)")
