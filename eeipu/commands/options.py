"""Arguments and options that several commands have."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "Commands", "Storage", "StudyName"]


class Commands(typer.Typer):
    """A group of commands, whose docstrings are paragraphs in their help, wherever lines end."""

    def command(  # type: ignore[override]
        self, name: str | None = None, **options: Any
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """See `typer.Typer.command`."""

        def add(function: Callable[..., None]) -> Callable[..., None]:
            paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
            text = "\n\n".join(" ".join(each.split()) for each in paragraphs)
            # The list of commands has the first paragraph whole, where Typer would cut it.
            made: Callable[..., None] = decorate(help=text, short_help=text.partition("\n")[0])(
                function
            )
            return made

        decorate = partial(super().command, name, **options)
        return add


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
