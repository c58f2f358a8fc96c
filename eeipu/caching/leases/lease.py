"""Leases: names that only one holder can have at a time, and that become free when it dies.

There are three kinds, for three kinds of place:

- `eeipu.caching.leases.memory`: a dictionary, for a cache in memory.
- `eeipu.caching.leases.file_locks`: files under a kernel lock, for a directory whose file system
  has locks.
- `eeipu.caching.leases.heartbeats`: objects that their holder rewrites every few seconds, for a
  file system without locks.

A holder that was wrongly declared dead (a process that was stopped for a minute, for example) goes
on without knowing it. Leases only save work: no value is ever wrong because a lease failed.
"""

import math
import os
import re
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["LEASE_FILE", "Lease", "Leases", "call_in_forked_children", "wait_for"]

# The file names of leases: those that `eeipu.caching.leases.claims` chooses, with a random suffix
# while `heartbeats` creates the file. A file with another name is not a lease and is left alone.
LEASE_FILE = re.compile(r"(upkeep|[0-9a-f]+)(\.[0-9a-f]{32})?")

# The pause between two attempts to get a lease. It is short at first, because many stages take
# milliseconds, and doubles up to a pause that costs little on a remote file system.
_FIRST_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.25
# After this time, a warning tells the user what the process is waiting for.
_SILENT_WAIT_S = 60.0


class Lease(Protocol):
    """A name that is held."""

    def release(self) -> None:
        """Give the name back."""
        ...


class Leases(Protocol):
    """The names in one place. A name is a path below that place, such as `uses/abc`."""

    def acquire(self, name: str, content: bytes = b"") -> Lease | None:
        """Try to get a name, without waiting.

        Args:
            name: The name.
            content: What other processes can read while the name is held.

        Returns:
            The lease, or `None` if a living holder has the name.

        Raises:
            OSError: The place cannot be written to.
        """
        ...

    def living(self, folder: str, *, clean: bool = False) -> list[bytes]:
        """The contents of all names in a folder whose holders are alive.

        Args:
            folder: The first part of the names.
            clean: Whether to remove the names of dead holders. Otherwise nothing is changed.
        """
        ...


@contextmanager
def wait_for(
    leases: Leases, name: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Hold a name during the `with` block, and wait until it is free if necessary.

    A wait of more than a minute is reported in a warning.

    Args:
        leases: Where the name is.
        name: The name.
        clock: Monotonic seconds.
    """
    wait_s, warn_s = _FIRST_WAIT_S, clock() + _SILENT_WAIT_S
    while (lease := leases.acquire(name)) is None:
        if clock() >= warn_s:
            _warn_of_wait(name)
            warn_s = math.inf
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
    try:
        yield
    finally:
        lease.release()


def _warn_of_wait(name: str) -> None:
    warnings.warn(
        f"still waiting for the cache's {name!r} after {_SILENT_WAIT_S:.0f} s: another process or "
        f"thread holds it. It is running the same stage, or it hangs; the wait ends when it ends.",
        RuntimeWarning,
        stacklevel=4,
    )


def call_in_forked_children(method: Callable[[], None]) -> None:
    """Call a bound method in every process that is forked from this one.

    Only a weak reference is kept, so the method is called only while its object exists.
    """
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (living := reference()) is not None:
            living()

    os.register_at_fork(after_in_child=call)
