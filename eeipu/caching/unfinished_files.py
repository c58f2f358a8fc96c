"""Files that are being written, and how to recognise those whose writer has died.

A writer locks its file. The kernel drops the lock when the writer ends, whatever the reason.
"""

import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from eeipu.caching.permissions import PRIVATE, Modes

__all__ = ["ABANDONED_S", "UnfinishedFiles"]

# Where there are no locks, a file of this age is abandoned. Even a slow upload is faster: 100 GB at
# 10 Mbit/s take 22 hours.
ABANDONED_S = 24 * 3600.0

# The names of these files. A file with another name is left alone.
_NAME = re.compile("[0-9a-f]{32}")


class UnfinishedFiles:
    """The unfinished files in one folder.

    Args:
        folder: The folder.
        mkdir: Creates the folder if it does not exist.
        modes: The modes of the files.
        now: The time, in seconds since 1970.
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
        """Create a file, locked by this process, and return its path and its descriptor."""
        self._mkdir(self._folder)
        while True:
            path = f"{self._folder}/{uuid.uuid4().hex}"
            descriptor = self._modes.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            with suppress(OSError):  # a file system without locks; `clean` spares young files there
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Before it was locked, `clean` may have taken it for a dead writer's and removed it.
            if os.fstat(descriptor).st_nlink > 0:
                return path, descriptor
            os.close(descriptor)

    def clean(self) -> int:
        """Remove the files of dead writers, and return their number."""
        try:
            paths = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        except (FileNotFoundError, NotADirectoryError):
            return 0
        return sum(map(self._remove_if_abandoned, paths))

    def _remove_if_abandoned(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return False
        try:
            if self._has_writer(descriptor):
                return False
            path.unlink(missing_ok=True)
            return True
        except OSError:  # the folder is read-only
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
