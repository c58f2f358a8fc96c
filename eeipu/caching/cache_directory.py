"""The directory of a cache: created, marked as a cache's, and refused if it is anything else.

A cache deletes files on its own. It therefore only uses a directory that it created itself, or that
was empty. There it leaves a marker file. It refuses any other directory.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from eeipu.caching.permissions import PRIVATE, WRITABLE_BY_OTHERS, Modes
from eeipu.errors import ConfigurationError

__all__ = ["MARKER", "CacheDirectory"]

MARKER = "eeipu-cache"

# A later format will have another number, so that this version refuses the directory.
_MARK = b"A stage-output cache of eeipu, format 1\n"

# Members of the group may write, and new files and folders belong to the group.
_NEW_SHARED = 0o2770


class CacheDirectory:
    """A directory that belongs to a cache. It is created if it does not exist, and marked.

    Args:
        root: The directory.
        shared: Whether other users may write to it.
        durable: Whether new folders and files must survive a power failure.

    Raises:
        ConfigurationError: Other users can write to the directory and it is not `shared`, or it is
            not empty and not a cache.
        OSError: It cannot be created, or is empty and cannot be written to.

    Attributes:
        root: The directory.
        durable: Whether new folders and files must survive a power failure.
        modes: The modes of the files and folders in it.
    """

    def __init__(self, root: Path, *, shared: bool = False, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self._new = Modes(_NEW_SHARED) if shared else PRIVATE
        self.modes = self._new
        self.mkdir(root)
        if shared:
            self.modes = Modes(stat.S_IMODE(root.stat().st_mode) & 0o2777)  # no sticky bit
        else:
            _check_private(root)
        _mark_as_cache(root, self.modes)

    def mkdir(self, path: Path) -> None:
        """Create a folder and its parents if they do not exist, so that they last."""
        if path.is_dir():
            return
        self.mkdir(path.parent)
        if path == self.root:
            self._new.mkdir(path)
        elif path.is_relative_to(self.root):
            self.modes.mkdir(path)
        else:
            path.mkdir(exist_ok=True)
        with suppress(PermissionError):  # the parent may be a folder that we cannot open
            self.sync(str(path.parent))
        if path == self.root:  # somebody may have removed the whole cache since it was opened
            _mark_as_cache(path, self._new)

    def sync(self, folder: str) -> None:
        """Write a folder's list of files to the disk, if the cache is durable."""
        if not self.durable:
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_private(root: Path) -> None:
    """Refuse a directory that other users can write to.

    Raises:
        ConfigurationError: It belongs to another user, or its mode lets others write.
    """
    status = root.stat()
    problem = None
    if status.st_uid != os.geteuid():
        problem = f"belongs to the user {status.st_uid}, not to {os.geteuid()}"
    elif status.st_mode & WRITABLE_BY_OTHERS:
        problem = f"can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    if problem is not None:
        raise ConfigurationError(
            f"the cache directory {str(root)!r} {problem}. Loading an entry can run the code of "
            f"whoever wrote it: choose another directory, chmod it to 0700, or, if you trust "
            f"the others to run their code, pass StageCache(..., shared=True)."
        )


def _mark_as_cache(root: Path, modes: Modes) -> None:
    """Write the marker into an empty directory; refuse a directory that is not a cache.

    Raises:
        ConfigurationError: It is not empty and has no marker, or the marker of another format.
    """
    found = _read_marker(root)
    # The marker is read again after the listing, because another process may just have written it.
    if found is None and _is_occupied(root) and (found := _read_marker(root)) is None:
        raise ConfigurationError(
            f"the directory {str(root)!r} is not empty, and not a stage cache (it has no file "
            f"{MARKER!r}). A cache removes files: choose a new or an empty directory."
        )
    if found and found != _MARK:
        raise ConfigurationError(
            f"the cache directory {str(root)!r} has another format ({found[:60]!r}); use the "
            f"version of eeipu that created it, or another directory."
        )
    if found is None:
        _write_marker(root / MARKER, modes)
    elif not found:
        with suppress(OSError):  # the directory may be read-only by now, but it is a cache
            _write_marker(root / MARKER, modes)


def _is_occupied(root: Path) -> bool:
    """Whether a directory holds anything but a marker that is just being created."""
    return any(not each.name.startswith(f".{MARKER}.") for each in root.iterdir())


def _read_marker(root: Path) -> bytes | None:
    """The content of the marker: `None` without a marker, empty if its writer did not finish."""
    try:
        return (root / MARKER).read_bytes()
    except FileNotFoundError:
        return None


def _write_marker(path: Path, modes: Modes) -> None:
    # All processes write the same bytes and never truncate, so it does not matter who is second.
    descriptor = modes.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, _MARK)
    finally:
        os.close(descriptor)
