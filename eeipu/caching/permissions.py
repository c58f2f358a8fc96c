"""The modes of the files and folders of a cache, whatever the umask is.

In a private cache, everything belongs to its user alone. In a shared cache, everything follows the
mode of the cache's directory: whoever may write to the directory may use everything in it.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

__all__ = ["PRIVATE", "WRITABLE_BY_OTHERS", "Modes"]

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Modes:
    """Creates files and folders with given modes.

    Args:
        folder: The mode of folders. Files can be read and written by the same users.
    """

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._file = folder & 0o666
        self._is_private = not folder & 0o077

    def mkdir(self, path: str | Path) -> None:
        """Create a folder if it does not exist."""
        if os.path.isdir(path):
            if not self._is_private:
                _set_mode(str(path), self._folder)
            return
        # The folder is created under another name and renamed once it has its mode. So nobody sees
        # it with a wrong mode, even if this process is killed in between.
        aside = _name_beside(path)
        os.mkdir(aside, self._folder & 0o777)
        try:
            os.chmod(aside, self._folder)
            os.rename(aside, path)
        except OSError:
            os.rmdir(aside)
            if not os.path.isdir(path):  # otherwise another process was faster, which is fine
                raise

    def open(self, path: str | Path, flags: int) -> int:
        """Open a file, create it if `flags` say so, and return its descriptor."""
        is_new = flags & os.O_CREAT and not (flags & os.O_EXCL or os.path.exists(path))
        if is_new and not self._is_private:
            self._create(path)
        descriptor = os.open(path, flags, self._file)
        if not self._is_private:
            _set_mode(descriptor, self._file)
        return descriptor

    def _create(self, path: str | Path) -> None:
        """Create an empty file that has its mode when it appears, as far as that is possible."""
        aside = _name_beside(path)
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._file))
        try:
            os.chmod(aside, self._file)
            with suppress(OSError):  # another process was faster, or there are no hard links here
                os.link(aside, path)
        finally:
            os.unlink(aside)

    def set_mode(self, path: str) -> None:
        """Give its mode to a file or folder that was created by other means."""
        with suppress(FileNotFoundError):  # it was moved or removed
            _set_mode(path, self._folder if os.path.isdir(path) else self._file)


def _name_beside(path: str | Path) -> str:
    """A new hidden name in the folder of a path."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{uuid4().hex}")


def _set_mode(file: int | str, mode: int) -> None:
    """Change the mode of a file or folder if it is this user's and has another mode."""
    status = os.stat(file)
    if stat.S_IMODE(status.st_mode) != mode and status.st_uid == os.geteuid():
        os.chmod(file, mode)


PRIVATE = Modes(0o700)
