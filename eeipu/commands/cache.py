"""`eeipu cache`: list the entries of a cache and what they have saved, check them, drop them."""

import json
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eeipu.commands.options import AsJson, Commands
from eeipu.counts import counted
from eeipu.errors import CacheMiss, ConfigurationError

if TYPE_CHECKING:
    from eeipu.cache import StageCache
    from eeipu.caching.inventory import StoredOutput

__all__ = ["app"]

app = Commands(help="Inspect a cache in a directory or URL, and clean it up.", no_args_is_help=True)

Location = Annotated[str, typer.Argument(help="The directory or fsspec URL of the cache.")]
Shared = Annotated[
    bool,
    typer.Option(
        "--shared", help="Allow a directory that other users can write to; their code may run here."
    ),
]

# Enough characters to identify an entry, without taking the room of the other columns.
_SHOWN_OF_KEY = 12
_MOST_OF_STAGE = 16
_NUMBERS = ("bytes", "age", "hits", "saved")
_PARAMETERS, _LEAST_OF_PARAMETERS, _GAP = 2, 10, "  "

_DAY_S = 24 * 3600.0


@app.command("ls")
def list_entries(location: Location, shared: Shared = False, as_json: AsJson = False) -> None:
    """List the entries, the most recently used one last."""
    entries = _entries(location, shared)
    if as_json:
        _print_json(map(_described, entries))
        return
    from rich.filesize import decimal

    heads = ("key", "stage", "parameters", "bytes", "age", "hits", "saved", "kept")
    for line in _aligned([heads, *map(_row, entries)], set(map(heads.index, _NUMBERS))):
        typer.echo(line)
    whole = decimal(sum(e.size_bytes for e in entries))
    saved = _seconds(sum(e.saved for e in entries))
    typer.echo(f"{counted(len(entries), 'entry', 'entries')}, {whole}, {saved} saved")


@app.command()
def show(
    location: Location,
    key: Annotated[str, typer.Argument(help="The key, or the beginning of the key.")],
    shared: Shared = False,
    as_json: AsJson = False,
) -> None:
    """Show everything that is known about one entry, without loading its value."""
    found = _with_key(_entries(location, shared), key)
    described = {**_described(found), "parts": found.parts, "observed": found.observed}
    if as_json:
        _print_json([described])
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column(style="dim"), Column(overflow="fold"), show_header=False, box=None)
    for name, value in described.items():
        table.add_row(name, json.dumps(value))
    Console().print(table)


@app.command()
def why(
    location: Location,
    key: Annotated[
        str | None,
        typer.Argument(
            help="The key, or its beginning. By default, the last entry of each stage is explained."
        ),
    ] = None,
    shared: Shared = False,
    as_json: AsJson = False,
) -> None:
    """Say why an entry was made although there were others, by what differs from the nearest one.

    `Pipeline.explain` says the same of a run that has not begun.
    """
    from eeipu.explanation import explain_entry

    entries = _entries(location, shared)
    if key is not None:
        asked = [_with_key(entries, key)]
    else:
        last = {entry.stage: entry for entry in sorted(entries, key=lambda each: each.created_s)}
        asked = list(last.values())
    looks = [explain_entry(entry, entries) for entry in asked]
    if as_json:
        _print_json(look.as_json() for look in looks)
        return
    for look in looks:
        typer.echo(f"{look.stage} {look.key[:_SHOWN_OF_KEY]} was made; {look.reason}")


@app.command()
def verify(location: Location, shared: Shared = False, as_json: AsJson = False) -> None:
    """Read and check every entry; the exit code is 1 if any is damaged. Nothing is dropped."""
    cache = _open(location, shared)
    damaged = cache.verify()
    if as_json:
        _print_json({"damaged": key} for key in damaged)
    else:
        for key in damaged:
            typer.echo(f"damaged: {key}")
        whole = counted(cache.stats().entries, "entry", "entries")
        typer.echo(f"{len(damaged)} of {whole} {'is' if len(damaged) == 1 else 'are'} damaged")
    if damaged:
        raise typer.Exit(1)


@app.command()
def gc(
    location: Location,
    max_bytes: Annotated[
        float | None,
        typer.Option(
            help="Drop the entries that are cheapest to lose until the rest has this size."
        ),
    ] = None,
    idle_days: Annotated[
        float | None, typer.Option(help="Drop entries that were not used for this number of days.")
    ] = None,
    shared: Shared = False,
    as_json: AsJson = False,
) -> None:
    """Remove files of killed processes and damaged entries; on request, drop old entries.

    Entries that a running trial uses or a study keeps are never dropped.
    """
    cache = _open(location, shared)
    max_idle_s = None if idle_days is None else idle_days * _DAY_S
    removed = cache.gc(max_bytes=max_bytes, max_idle_s=max_idle_s)
    _report(cache, removed, as_json)


@app.command()
def clear(
    location: Location,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    shared: Shared = False,
    as_json: AsJson = False,
) -> None:
    """Drop all entries, also those that studies keep, except those that running trials use."""
    cache = _open(location, shared)
    before = cache.stats()
    from rich.filesize import decimal

    if not yes:
        typer.confirm(
            f"Drop {counted(before.entries, 'entry', 'entries')} ({decimal(before.size_bytes)}) "
            f"of {location}?",
            abort=True,
        )
    cache.clear()
    _report(cache, before.entries - cache.stats().entries, as_json)


def _open(location: str, shared: bool) -> "StageCache":
    """Open an existing cache, to change it."""
    from eeipu.cache import StageCache

    _check_there(location)
    return StageCache(location, shared=shared)


def _entries(location: str, shared: bool) -> "list[StoredOutput]":
    """What is known of the entries of an existing cache, without what would load them."""
    from eeipu.caching.inventory import inventory
    from eeipu.caching.locations import open_place

    _check_there(location)
    return inventory(open_place(location, shared=shared))


def _check_there(location: str) -> None:
    """A location without a cache is an error: no directory is made."""
    from eeipu.caching.locations import is_occupied

    if not is_occupied(location):
        raise ConfigurationError(f"there is no cache at {location!r}; check the path.")


def _with_key(entries: "Iterable[StoredOutput]", key: str) -> "StoredOutput":
    """The one entry whose key begins with some characters."""
    found = [each for each in entries if each.key.startswith(key)]
    if len(found) != 1:
        what = "no key begins" if not found else f"{len(found)} keys begin"
        raise CacheMiss(f"{what} with {key!r}; `eeipu cache ls` lists them.")
    return found[0]


def _report(cache: "StageCache", removed: int, as_json: bool) -> None:
    stats = cache.stats()
    if as_json:
        said = {"removed": removed, "entries": stats.entries, "size_bytes": stats.size_bytes}
        _print_json([said])
        return
    from rich.filesize import decimal

    left, are = counted(stats.entries, "entry", "entries"), "is" if stats.entries == 1 else "are"
    typer.echo(f"removed {removed}; {left} ({decimal(stats.size_bytes)}) {are} left")


def _print_json(objects: Iterable[dict[str, Any]]) -> None:
    for each in objects:
        typer.echo(json.dumps(each))


def _described(entry: "StoredOutput") -> dict[str, Any]:
    stamps = {
        "created": datetime.fromtimestamp(entry.created_s).astimezone().isoformat(),
        "used": datetime.fromtimestamp(int(entry.used_s)).astimezone().isoformat(),
    }
    described = {**asdict(entry), **stamps, "saved": entry.saved}
    del described["parts"], described["observed"]  # which have digests in them
    return described


def _row(entry: "StoredOutput") -> list[str]:
    from rich.filesize import decimal

    return [
        entry.key[:_SHOWN_OF_KEY],
        _cut(entry.stage or "-", _MOST_OF_STAGE),
        ", ".join(f"{n}={_short(v)}" for n, v in entry.params.items()) or "-",
        decimal(entry.size_bytes),
        _seconds(max(0.0, datetime.now().timestamp() - entry.created_s)),
        str(entry.hits),
        _seconds(entry.saved),
        "yes" if entry.is_kept else "",
    ]


def _aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> list[str]:
    """Rows as lines no wider than the terminal: the parameters are cut, `show` has all of them.

    Rich's tables do it too, and take longer to load than the entries to read.

    Args:
        rows: The heads, and the rows.
        right: The columns that are aligned to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    others = sum(widths) - widths[_PARAMETERS] + len(_GAP) * (len(widths) - 1)
    room = max(_LEAST_OF_PARAMETERS, shutil.get_terminal_size().columns - others)
    widths[_PARAMETERS] = min(widths[_PARAMETERS], room)
    lines = []
    for row in rows:
        cells = [_cut(cell, width) for cell, width in zip(row, widths, strict=True)]
        sides = [
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(_GAP.join(sides).rstrip())
    return lines


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _seconds(seconds: float) -> str:
    """A duration as text, in the largest unit of which there are two or more."""
    for unit, size in (("d", _DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"
