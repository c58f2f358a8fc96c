"""Leases: names that one holder has at a time, and that are free again when the holder dies.

Three kinds, for three kinds of place:

- `LocalLeases`: a dictionary, for a cache in memory;
- `FileLeases`: files under a kernel lock (`flock`), for directories. The kernel drops the lock
  when the last process that has the file open ends, however it ends. NFS version 4 and Linux's
  version 3 with a lock daemon carry such locks between hosts.
- `BeatingLeases`: objects created on the condition that there is none, which their holder
  rewrites every `BEAT_S` seconds, for file systems without locks. A holder on this host is dead
  when its process is; one on another host when its object has not changed for `EXPIRY_S` seconds
  of the *observer's* monotonic clock, so that no two clocks are ever compared.

A holder that was declared dead and is not (a process stopped for a minute) goes on without
knowing. Leases save work; nothing relies on them for a right value.
"""

import errno
import fcntl
import json
import math
import os
import re
import tempfile
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from eeipu.caching.cache_directory import PRIVATE, Modes
from eeipu.caching.leases.processes import ProcessIdentity

__all__ = [
    "BeatingLeases",
    "FileLeases",
    "Lease",
    "Leases",
    "LocalLeases",
    "has_locks",
    "wait_for",
]

# How file systems say that they have no locks, or no lock server.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}

# The names that `eeipu.caching.leases.claims` gives, also while `_link` makes them: no other file
# is a lease.
_NAME = re.compile(r"(upkeep|[0-9a-f]+)(\.[0-9a-f]{32})?")

# A tenth of what a stage that is worth caching takes, and a request every so often.
BEAT_S = 10.0
# Five missed beats: a process that swaps or waits for a slow server is not dead yet.
EXPIRY_S = 60.0

# Between two looks at a lease that somebody else has: short at first, for work of milliseconds.
_FIRST_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.25
# Who waits longer wants to know for what.
_SILENT_WAIT_S = 60.0


class Lease(Protocol):
    """A name that is held."""

    def release(self) -> None:
        """Give the name back."""
        ...


class Leases(Protocol):
    """Names in one place. Names are paths below that place, such as `uses/abc`."""

    def acquire(self, name: str, content: bytes = b"") -> Lease | None:
        """Hold a name and say something about it; `None` while another holder lives.

        Raises:
            OSError: The place does not let us.
        """
        ...

    def living(self, folder: str, *, clean: bool = False) -> list[bytes]:
        """What the living holders of names in a folder say.

        Args:
            folder: The beginning of the names.
            clean: Whether the names of dead holders are removed; else nothing is changed.
        """
        ...


@contextmanager
def wait_for(
    leases: Leases, name: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Hold a name, waiting for it if need be; a wait of a minute is told in a warning."""
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
        f"thread holds it, at work on the same stage or stuck; the place is free when it ends.",
        RuntimeWarning,
        stacklevel=4,
    )


def _call_in_children(forget: Callable[[], None]) -> None:
    """Have a method called in every process forked from this one while its object lives."""
    method = weakref.WeakMethod(forget)

    def call() -> None:
        if (living := method()) is not None:
            living()

    os.register_at_fork(after_in_child=call)


class LocalLeases:
    """Leases among the threads of one process."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def acquire(self, name: str, content: bytes = b"") -> Lease | None:
        """See `Leases`."""
        with self._lock:
            if name in self._held:
                return None
            self._held[name] = content
        return _LocalLease(self._held, name)

    def living(self, folder: str, *, clean: bool = False) -> list[bytes]:  # noqa: ARG002
        """See `Leases`; a holder here dies with its place."""
        with self._lock:
            return [said for name, said in self._held.items() if name.startswith(f"{folder}/")]


class _LocalLease:
    def __init__(self, held: dict[str, bytes], name: str) -> None:
        self._held = held
        self._name = name

    def release(self) -> None:
        self._held.pop(self._name, None)


class FileLeases:
    """Leases in a directory whose file system has locks."""

    def __init__(self, root: Path, modes: Modes = PRIVATE) -> None:
        self._root = root
        self._modes = modes
        self._held: set[_FileLease] = set()
        _call_in_children(self._forget)

    def _forget(self) -> None:
        # The kernel keeps a lock until the last process that has the file open ends: a forked
        # child that outlives the holder must not be one.
        for lease in self._held:
            lease.forget()
        self._held.clear()

    def acquire(self, name: str, content: bytes = b"") -> Lease | None:
        """See `Leases`."""
        path = self._root / name
        self._modes.mkdir(path.parent)
        descriptor = self._modes.open(path, os.O_RDWR | os.O_CREAT)
        try:
            if _is_ours(descriptor):
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
        paths = [path for path in listed if _NAME.fullmatch(path.name)]
        return [said for path in paths if (said := _said(path, clean)) is not None]


def has_locks(root: Path) -> bool:
    """Whether the file system of a directory has locks, as far as this user can tell."""
    try:
        with tempfile.TemporaryFile(dir=root) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True


class _FileLease:
    def __init__(
        self, path: Path, descriptor: int, released: Callable[["_FileLease"], None]
    ) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self._released = released

    def release(self) -> None:
        if self._descriptor is None:  # its holder is the process that this one was forked from
            return
        with suppress(OSError):
            self._path.unlink()  # while it is still held, so that it is certainly ours
        # Not by closing alone: a process that was forked just now may have the file open.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._released(self)
        self.forget()

    def forget(self) -> None:
        """Close the file; the lock stays with the other processes that have it open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _is_ours(descriptor: int) -> bool:
    """Lock an open file; whether nobody else has it locked, and it still has its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Its last holder may have removed the file since it was opened: then this lock is on a file
    # without a name, and somebody else may hold the name.
    return os.fstat(descriptor).st_nlink > 0


def _said(path: Path, clean: bool) -> bytes | None:
    """What a lease file's holder says; `None` if the holder is dead: then `clean` removes it."""
    try:
        descriptor = os.open(path, os.O_RDWR)  # NFS locks only what is open for writing
    except OSError:  # released since it was listed
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


class BeatingLeases:
    """Leases as objects of a file system without locks, kept alive by rewriting them.

    Args:
        fs: The fsspec file system.
        root: The cache's place in it.
        beat_s: Seconds between two signs of life.
        expiry_s: Seconds without one after which a holder on another host is dead.
        clock: Seconds that only grow.
        settle: Gives a new file or folder its mode, where there are modes.
    """

    def __init__(
        self,
        fs: Any,
        root: str,
        *,
        beat_s: float = BEAT_S,
        expiry_s: float = EXPIRY_S,
        clock: Callable[[], float] = time.monotonic,
        settle: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._fs = fs
        self._settle = settle
        self._root = root
        self._beat_s = beat_s
        self._expiry_s = expiry_s
        self._clock = clock
        self._held: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._heart: threading.Thread | None = None
        _call_in_children(self._forget)

    def acquire(self, name: str, content: bytes = b"") -> Lease | None:
        """See `Leases`."""
        path = f"{self._root}/{name}"
        said = {
            "token": uuid.uuid4().hex,
            "process": str(ProcessIdentity.here()),
            "content": content.decode(),
        }
        if not self._create(path, said):
            if not self._is_dead(path, self._read(path)):
                return None
            # Between the look and the removal another may do the same, and both may believe to
            # hold the name: then work is done twice, which is why values never rely on a lease.
            self._remove(path)
            if not self._create(path, said):
                return None
        with self._lock:
            self._held[path] = said
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, daemon=True)
                self._heart.start()
        return _BeatingLease(self, path, said["token"])

    def release(self, path: str, token: str) -> None:
        """Give back what `acquire` held, unless it was taken for dead and another holds it."""
        with self._lock:
            if self._held.get(path, {}).get("token") != token:
                return
            del self._held[path]
            if self._is_still(path, token):
                self._remove(path)

    def _is_still(self, path: str, token: str) -> bool:
        body = self._read(path)
        return body is not None and bool(json.loads(body)["token"] == token)

    def _forget(self) -> None:
        # Called in a forked child: the leases are its parent's, and so are the thread and the lock.
        self._held = {}
        self._heart = None
        self._lock = threading.Lock()

    def living(self, folder: str, *, clean: bool = False) -> list[bytes]:
        """See `Leases`."""
        self._fs.invalidate_cache()
        found = []
        listed = self._fs.find(f"{self._root}/{folder}", maxdepth=1)
        for path in (each for each in listed if _NAME.fullmatch(each.rpartition("/")[2])):
            body = self._read(path)
            if self._is_dead(path, body):
                if clean:
                    self._remove(path)
            elif body is not None:
                found.append(str(json.loads(body)["content"]).encode())
        return found

    def _create(self, path: str, said: dict[str, Any]) -> bool:
        body = json.dumps(said).encode()
        folder = path.rpartition("/")[0]
        self._fs.makedirs(folder, exist_ok=True)
        self._settle(folder)
        try:
            if "file" in self._fs.protocol:
                _link(path, body, self._settle)
            else:
                self._fs.pipe_file(path, body, mode="create")
        except FileExistsError:
            return False
        return True

    def _read(self, path: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(path))
        except FileNotFoundError:
            return None

    def _remove(self, path: str) -> None:
        self._seen.pop(path, None)
        with suppress(FileNotFoundError):
            self._fs.rm_file(path)

    def _is_dead(self, path: str, body: bytes | None) -> bool:
        if body is None:  # given back since it was listed
            return False
        try:
            is_alive = ProcessIdentity.parse(json.loads(body)["process"]).is_alive()
        except ValueError:  # a file system that shows half-written objects
            is_alive = None
        if is_alive is not None:
            return not is_alive
        seen, since = self._seen.get(path, (None, 0.0))
        if seen != body:
            self._seen[path] = (body, self._clock())
            return False
        return self._clock() - since > self._expiry_s

    def _beat(self) -> None:
        beats = 0
        while True:
            time.sleep(self._beat_s)
            beats += 1
            with self._lock:  # so that what is given back meanwhile is not written again
                for path, said in list(self._held.items()):
                    with suppress(Exception):  # the next beat may get through
                        if not self._is_still(path, said["token"]):
                            del self._held[path]  # taken for dead: another may hold it
                            continue
                        self._fs.pipe_file(path, json.dumps({**said, "beats": beats}).encode())


def _link(path: str, body: bytes, settle: Callable[[str], None]) -> None:
    """Make a file with all that is in it at once, or fail where there is one, also on NFS."""
    whole = Path(f"{path}.{uuid.uuid4().hex}")
    whole.write_bytes(body)
    settle(str(whole))
    try:
        Path(path).hardlink_to(whole)
    finally:
        whole.unlink(missing_ok=True)


class _BeatingLease:
    def __init__(self, leases: BeatingLeases, path: str, token: str) -> None:
        self._leases = leases
        self._path = path
        self._token = token

    def release(self) -> None:
        self._leases.release(self._path, self._token)
