"""The identity of a process, and whether that process still runs.

The number of a process that has ended is given to another one sooner or later. Host, number and
time of creation together name one process for ever.
"""

import os
import socket
from dataclasses import dataclass

__all__ = ["ProcessIdentity"]

# Systems compute the time of creation from the moment at which they started. Linux gives that in
# whole seconds, so that it jumps by one when the clock is set by the smallest amount.
TOLERANCE_S = 2.5


@dataclass(frozen=True)
class ProcessIdentity:
    """One process on one host.

    `str(identity)` is the form in which trials, lease files and folders name a process, and
    `ProcessIdentity.parse` reads it.

    Attributes:
        host: The name of the host.
        pid: The number of the process there.
        created_s: When the process began, in seconds since 1970.
    """

    host: str
    pid: int
    created_s: float

    @classmethod
    def here(cls) -> "ProcessIdentity":
        """The identity of this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity":
        """The identity of a process that runs on this host.

        Args:
            pid: The number of the process.

        Raises:
            psutil.NoSuchProcess: No process has this number.
        """
        import psutil  # here, as whoever only reads leases needs none of it

        return cls(socket.gethostname(), pid, psutil.Process(pid).create_time())

    @classmethod
    def parse(cls, text: str) -> "ProcessIdentity":
        """The identity that `str` has written.

        Raises:
            ValueError: The text does not name a process.
        """
        host, pid, created_s = text.rsplit(":", 2)
        return cls(host, int(pid), float(created_s))

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.created_s:.2f}"

    def is_alive(self) -> bool | None:
        """Whether the process still runs; `None` on another host, where this cannot be seen.

        A process that was killed, and whose parent has not asked for its exit code yet, is dead.
        """
        if self.host != socket.gethostname():
            return None
        import psutil

        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.created_s) < TOLERANCE_S
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
