"""The directory of a cache: whose it is, who may use it, and that it is a cache's at all.

A cache deletes files of its own accord. So it goes only to a directory that it made itself, or
found empty: there it leaves a marker, and it refuses a directory that holds something else.

What is made in a private cache is for its user alone. In a shared one, everything follows the mode
of the directory itself, whatever the umask is: who may write there may use all that is in it.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from eeipu.errors import ConfigurationError

__all__ = ["MARKER", "PRIVATE", "CacheDirectory", "Modes"]

MARKER = "eeipu-cache"

# A later format writes another number, and this version then keeps its hands off.
_MARK = b"A stage-output cache of eeipu, format 1\n"

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

# Members of the group may write, and what is made below is the group's too.
_NEW_SHARED = 0o2770


class Modes:
    """The modes of what is made in a cache, whatever the umask is.

    Args:
        folder: That of folders; files are read and written by the same people.
    """

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._file = folder & 0o666
        self._is_private = not folder & 0o077

    def mkdir(self, path: str | Path) -> None:
        """Make a folder where there is none."""
        if os.path.isdir(path):
            if not self._is_private:
                _settle(str(path), self._folder)
            return
        # Aside: nobody sees it before it has its mode, also if this process is killed meanwhile.
        aside = _aside(path)
        os.mkdir(aside, self._folder & 0o777)
        try:
            os.chmod(aside, self._folder)
            os.rename(aside, path)
        except OSError:
            os.rmdir(aside)
            if not os.path.isdir(path):  # nor was another faster
                raise

    def open(self, path: str | Path, flags: int) -> int:
        """Open a file, which may be new then; its descriptor."""
        is_new = flags & os.O_CREAT and not (flags & os.O_EXCL or os.path.exists(path))
        if is_new and not self._is_private:
            self._make(path)
        descriptor = os.open(path, flags, self._file)
        if not self._is_private:
            _settle(descriptor, self._file)
        return descriptor

    def _make(self, path: str | Path) -> None:
        """Make an empty file that has its mode when others see it, as far as that is possible."""
        aside = _aside(path)
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._file))
        try:
            os.chmod(aside, self._file)
            with suppress(OSError):  # another was faster, or the file system has no links
                os.link(aside, path)
        finally:
            os.unlink(aside)

    def settle(self, path: str) -> None:
        """Give a file or folder, that something else has made, its mode."""
        with suppress(FileNotFoundError):  # moved on, or removed
            _settle(path, self._folder if os.path.isdir(path) else self._file)


def _aside(path: str | Path) -> str:
    """A name of its own beside another."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{uuid4().hex}")


def _settle(file: int | str, mode: int) -> None:
    status = os.stat(file)
    if stat.S_IMODE(status.st_mode) != mode and status.st_uid == os.geteuid():
        os.chmod(file, mode)


PRIVATE = Modes(0o700)


class CacheDirectory:
    """A directory that is a cache's: made where there is none, and marked.

    Args:
        root: The directory.
        shared: Whether others may write to it too.
        durable: Whether what is made in it must survive a power failure.

    Raises:
        ConfigurationError: Others can write to the directory, and it is not `shared`; or it holds
            something, and that is not a cache.
        OSError: It cannot be made, or is empty and cannot be written to.

    Attributes:
        root: The directory.
        durable: Whether what is made in it must survive a power failure.
        modes: Those of what is in it.
    """

    def __init__(self, root: Path, *, shared: bool = False, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self._new = Modes(_NEW_SHARED) if shared else PRIVATE
        self.modes = self._new
        self.mkdir(root)
        if shared:
            self.modes = Modes(stat.S_IMODE(root.stat().st_mode) & 0o2777)  # nothing sticky
        else:
            _check_private(root)
        _mark_as_cache(root, self.modes)

    def mkdir(self, path: Path) -> None:
        """Make a folder for good, and those around it, where there are none."""
        if path.is_dir():
            return
        self.mkdir(path.parent)
        if path == self.root:
            self._new.mkdir(path)
        elif path.is_relative_to(self.root):
            self.modes.mkdir(path)
        else:
            path.mkdir(exist_ok=True)
        with suppress(PermissionError):  # a parent in which we may make folders, and not look
            self.sync(str(path.parent))
        if path == self.root:  # anew, when somebody removed it
            _mark_as_cache(path, self._new)

    def sync(self, folder: str) -> None:
        """Make a change of a folder survive a power failure, if it must."""
        if not self.durable:
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_private(root: Path) -> None:
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


def _mark_as_cache(root: Path, modes: Modes) -> None:
    """Mark an empty directory as a cache's; refuse one that holds what is not a cache.

    Raises:
        ConfigurationError: It is not empty and has no marker, or that of another format.
    """
    said = _said(root)
    # The marker is looked for again after the listing: another process may just have made it.
    if said is None and _holds_something(root) and (said := _said(root)) is None:
        raise ConfigurationError(
            f"the directory {str(root)!r} is not empty, and not a stage cache (it has no file "
            f"{MARKER!r}). A cache removes files: choose a new or an empty directory."
        )
    if said and said != _MARK:
        raise ConfigurationError(
            f"the cache directory {str(root)!r} has another format ({said[:60]!r}); use the "
            f"version of eeipu that made it, or another directory."
        )
    if said is None:
        _write_marker(root / MARKER, modes)
    elif not said:
        with suppress(OSError):  # by now it can only be read; it is a cache all the same
            _write_marker(root / MARKER, modes)


def _holds_something(root: Path) -> bool:
    """Whether there is something else than a marker that is being made."""
    return any(not each.name.startswith(f".{MARKER}.") for each in root.iterdir())


def _said(root: Path) -> bytes | None:
    """What the marker says: nothing, if whoever made it has not finished, or never did."""
    try:
        return (root / MARKER).read_bytes()
    except FileNotFoundError:
        return None


def _write_marker(path: Path, modes: Modes) -> None:
    # The same bytes by everyone, and never truncated: who comes second does no harm.
    descriptor = modes.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(descriptor, _MARK)
    finally:
        os.close(descriptor)
