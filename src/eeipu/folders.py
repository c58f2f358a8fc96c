"""The directory of a cache: whose it is, and that it is a cache's at all.

A cache deletes files of its own accord. So it goes only to a directory that it made itself, or
found empty: there it leaves a marker, and it refuses a directory that holds something else.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from eeipu.errors import ConfigurationError

__all__ = ["MARKER", "check_private", "mark_as_cache"]

MARKER = "eeipu-cache"

# A later format writes another number, and this version then keeps its hands off.
_MARK = b"A stage-output cache of eeipu, format 1\n"

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check_private(root: Path) -> None:
    """Refuse a directory that others than this user can write to.

    Raises:
        ConfigurationError: It belongs to somebody else, or its mode lets others write.
    """
    status = root.stat()
    problem = None
    if status.st_uid != os.geteuid():
        problem = f"belongs to the user {status.st_uid}, not to {os.geteuid()}"
    elif status.st_mode & _WRITABLE_BY_OTHERS:
        problem = f"can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    if problem is not None:
        raise ConfigurationError(
            f"the cache directory {str(root)!r} {problem}. Loading an entry can run the code of "
            f"whoever wrote it: choose another directory, chmod it to 0700, or, if you would run "
            f"their code, say so with StageCache(..., shared=True)."
        )


def mark_as_cache(root: Path) -> None:
    """Mark an empty directory as a cache's; refuse one that holds what is not a cache.

    Raises:
        ConfigurationError: It is not empty and has no marker, or that of another format.
    """
    said = _said(root)
    # The marker is looked for again after the listing: another process may just have made it.
    if said is None and any(root.iterdir()) and (said := _said(root)) is None:
        raise ConfigurationError(
            f"the directory {str(root)!r} is not empty, and not a stage cache (it has no file "
            f"{MARKER!r}). A cache removes files: choose a new or an empty directory."
        )
    if said and said != _MARK:
        raise ConfigurationError(
            f"the cache directory {str(root)!r} has another format ({said[:60]!r}); use the "
            f"version of eeipu that made it, or another directory."
        )
    if not said:
        _write_marker(root / MARKER)


def _said(root: Path) -> bytes | None:
    """What the marker says: nothing, if whoever made it has not finished, or never did."""
    try:
        return (root / MARKER).read_bytes()
    except FileNotFoundError:
        return None


def _write_marker(path: Path) -> None:
    # The same bytes by everyone, and never truncated: who comes second does no harm.
    with suppress(OSError):  # an empty directory that can only be read is an empty cache
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, _MARK)
        finally:
            os.close(descriptor)
