"""Files that are being written, told from those whose writer has died.

Each is locked by its writer for as long as that lives, however it ends.
"""

import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from eeipu.caching.cache_directory import PRIVATE, Modes

__all__ = ["ABANDONED_S", "Partials"]

# Where no lock tells, age does: what takes longer is not a slow upload. 100 GB at 10 Mbit/s take
# 22 hours.
ABANDONED_S = 24 * 3600.0

# What these files are called; nothing else is removed.
_NAME = re.compile("[0-9a-f]{32}")


class Partials:
    """The unfinished files in a folder.

    Args:
        folder: Where they are.
        mkdir: Makes the folder where there is none.
        modes: Those of the files.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        mkdir: Callable[[Path], None],
        modes: Modes = PRIVATE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._mkdir = mkdir
        self._modes = modes
        self._now = now

    def new(self) -> tuple[str, int]:
        """Path and descriptor of a new file."""
        self._mkdir(self._folder)
        while True:
            path = f"{self._folder}/{uuid.uuid4().hex}"
            descriptor = self._modes.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            with suppress(OSError):  # file systems without locks: `clean` leaves young files
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # `clean` may have taken it, not yet locked, for what a dead writer left.
            if os.fstat(descriptor).st_nlink > 0:
                return path, descriptor
            os.close(descriptor)

    def clean(self) -> int:
        """Remove what dead writers left; the number of files."""
        try:
            paths = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        except (FileNotFoundError, NotADirectoryError):
            return 0
        return sum(map(self._remove_if_dead, paths))

    def _remove_if_dead(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return False
        try:
            if self._has_writer(descriptor):
                return False
            path.unlink(missing_ok=True)
            return True
        except OSError:  # a folder that can only be read
            return False
        finally:
            os.close(descriptor)

    def _has_writer(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return self._now() - os.fstat(descriptor).st_mtime < ABANDONED_S
        return False
