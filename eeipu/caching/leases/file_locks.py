"""Leases as files under a kernel lock (`flock`), for directories whose file system has locks.

The kernel drops the lock when the last process that has the file open ends, whatever the reason.
NFS version 4, and Linux's NFS version 3 with a lock daemon, carry such locks between hosts.
"""

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from eeipu.caching.leases.lease import LEASE_FILE, Lease, call_in_forked_children
from eeipu.caching.permissions import PRIVATE, Modes

__all__ = ["FileLeases", "has_locks"]

# The errors by which a file system reports that it has no locks, or no lock server.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def has_locks(root: Path) -> bool:
    """Whether the file system of a directory has locks, as far as this user can find out."""
    try:
        with tempfile.TemporaryFile(dir=root) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True


class FileLeases:
    """Leases in a directory whose file system has locks.

    Args:
        root: The cache's directory.
        modes: The modes of new files and folders.
    """

    def __init__(self, root: Path, modes: Modes = PRIVATE) -> None:
        self._root = root
        self._modes = modes
        self._held: set[_FileLease] = set()
        call_in_forked_children(self._forget)

    def _forget(self) -> None:
        # The kernel keeps a lock until the last process that has the file open ends. A forked
        # child that outlives the holder must therefore close the file.
        for lease in self._held:
            lease.forget()
        self._held.clear()

    def acquire(self, name: str, content: bytes = b"") -> Lease | None:
        """See `Leases`."""
        path = self._root / name
        self._modes.mkdir(path.parent)
        descriptor = self._modes.open(path, os.O_RDWR | os.O_CREAT)
        try:
            if _lock(descriptor):
                os.write(descriptor, content)
                lease = _FileLease(path, descriptor, self._held.discard)
                self._held.add(lease)
                return lease
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def living(self, folder: str, *, clean: bool = False) -> list[bytes]:
        """See `Leases`."""
        try:
            listed = sorted((self._root / folder).iterdir())
        except FileNotFoundError:
            return []
        paths = [path for path in listed if LEASE_FILE.fullmatch(path.name)]
        contents = [_living_content(path, clean) for path in paths]
        return [content for content in contents if content is not None]


class _FileLease:
    def __init__(
        self, path: Path, descriptor: int, released: Callable[["_FileLease"], None]
    ) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self._released = released

    def release(self) -> None:
        if self._descriptor is None:  # this is a forked child; the lease is its parent's
            return
        with suppress(OSError):
            self._path.unlink()  # before unlocking, while the file is certainly ours
        # Closing the file is not enough: a process that was just forked may have it open.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._released(self)
        self.forget()

    def forget(self) -> None:
        """Close the file. Other processes that have it open keep the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> bool:
    """Lock an open file; return False if another process has locked it or removed it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # The previous holder may have removed the file after we opened it. Then our lock is on a file
    # without a name, and somebody else may hold the name.
    return os.fstat(descriptor).st_nlink > 0


def _living_content(path: Path, clean: bool) -> bytes | None:
    """The content of a lease file, or `None` if its holder is dead.

    Args:
        path: The file.
        clean: Whether to remove the file of a dead holder.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)  # NFS only locks files that are open for writing
    except OSError:  # released since the folder was listed
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if clean:
            with suppress(OSError):
                path.unlink()
        return None
    except BlockingIOError:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
