"""Arguments and options that several commands have."""

from typing import Annotated

import typer

__all__ = ["AsJson", "Storage", "StudyName"]

Storage = Annotated[
    str,
    typer.Argument(
        metavar="STORAGE",
        help="The storage as the tuner was given it, such as sqlite:///tune.db; or the path of a "
        "file of SQLite or of a journal.",
    ),
]
StudyName = Annotated[
    str | None,
    typer.Option("--study", metavar="NAME", help="The study; not needed where there is only one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object on each line.")]
