"""Leases as objects that their holder keeps rewriting, for file systems without locks.

A lease is an object that is created only if there is none yet. Its holder rewrites it every
`BEAT_S` seconds. A holder on this host is dead when its process is. A holder on another host is
dead when its object has not changed for `EXPIRY_S` seconds of the *observer's* monotonic clock, so
that the clocks of two hosts are never compared.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from eeipu.caching.leases.lease import LEASE_FILE, Lease, call_in_forked_children
from eeipu.caching.leases.processes import ProcessIdentity

__all__ = ["HeartbeatLeases"]

# One request in this time is cheap, and stages that are worth caching take longer.
BEAT_S = 10.0
# More than five missed beats: a process that swaps, or waits for a slow server, is not dead yet.
EXPIRY_S = 60.0


class HeartbeatLeases:
    """Leases on a file system without locks.

    Args:
        fs: The fsspec file system.
        root: The cache's path in it.
        beat_s: Seconds between two heartbeats.
        expiry_s: Seconds without a heartbeat after which a holder on another host is dead.
        clock: Monotonic seconds.
        set_mode: Gives a new file or folder its mode. By default nothing is done, because remote
            file systems have no modes.
    """

    def __init__(
        self,
        fs: Any,
        root: str,
        *,
        beat_s: float = BEAT_S,
        expiry_s: float = EXPIRY_S,
        clock: Callable[[], float] = time.monotonic,
        set_mode: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._fs = fs
        self._set_mode = set_mode
        self._root = root
        self._beat_s = beat_s
        self._expiry_s = expiry_s
        self._clock = clock
        self._held: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._heart: threading.Thread | None = None
        call_in_forked_children(self._forget)

    def acquire(self, name: str, content: bytes = b"") -> Lease | None:
        """See `Leases`."""
        path = f"{self._root}/{name}"
        holder = {
            "token": uuid.uuid4().hex,
            "process": str(ProcessIdentity.here()),
            "content": content.decode(),
        }
        if not self._create(path, holder):
            if not self._is_dead(path, self._read(path)):
                return None
            # Another process may find the same dead holder and do the same just now, so that both
            # believe that they hold the name. Then work is done twice; values stay right.
            self._remove(path)
            if not self._create(path, holder):
                return None
        with self._lock:
            self._held[path] = holder
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, daemon=True)
                self._heart.start()
        return _HeartbeatLease(self, path, holder["token"])

    def release(self, path: str, token: str) -> None:
        """Give back a name, unless this holder was declared dead and another has the name now."""
        with self._lock:
            if self._held.get(path, {}).get("token") != token:
                return
            del self._held[path]
            if self._is_held_by(path, token):
                self._remove(path)

    def _is_held_by(self, path: str, token: str) -> bool:
        body = self._read(path)
        return body is not None and bool(json.loads(body)["token"] == token)

    def _forget(self) -> None:
        # This runs in a forked child. The leases, the thread and the lock are its parent's.
        self._held = {}
        self._heart = None
        self._lock = threading.Lock()

    def living(self, folder: str, *, clean: bool = False) -> list[bytes]:
        """See `Leases`."""
        self._fs.invalidate_cache()
        found = []
        listed = self._fs.find(f"{self._root}/{folder}", maxdepth=1)
        for path in (each for each in listed if LEASE_FILE.fullmatch(each.rpartition("/")[2])):
            body = self._read(path)
            if self._is_dead(path, body):
                if clean:
                    self._remove(path)
            elif body is not None:
                found.append(str(json.loads(body)["content"]).encode())
        return found

    def _create(self, path: str, holder: dict[str, Any]) -> bool:
        body = json.dumps(holder).encode()
        folder = path.rpartition("/")[0]
        self._fs.makedirs(folder, exist_ok=True)
        self._set_mode(folder)
        try:
            if "file" in self._fs.protocol:
                _link(path, body, self._set_mode)
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
        if body is None:  # released since the folder was listed
            return False
        try:
            is_alive = ProcessIdentity.parse(json.loads(body)["process"]).is_alive()
        except ValueError:  # the file system shows half-written objects
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
            with self._lock:  # so that a lease is not rewritten after its release
                for path, holder in list(self._held.items()):
                    with suppress(Exception):  # the next heartbeat may succeed
                        self._rewrite(path, {**holder, "beats": beats})

    def _rewrite(self, path: str, holder: dict[str, Any]) -> None:
        if self._is_held_by(path, holder["token"]):
            self._fs.pipe_file(path, json.dumps(holder).encode())
        else:
            del self._held[path]  # this process was declared dead


def _link(path: str, body: bytes, set_mode: Callable[[str], None]) -> None:
    """Create a file with its whole content in one step, or fail if it exists; also on NFS."""
    whole = Path(f"{path}.{uuid.uuid4().hex}")
    whole.write_bytes(body)
    set_mode(str(whole))
    try:
        Path(path).hardlink_to(whole)
    finally:
        whole.unlink(missing_ok=True)


class _HeartbeatLease:
    def __init__(self, leases: HeartbeatLeases, path: str, token: str) -> None:
        self._leases = leases
        self._path = path
        self._token = token

    def release(self) -> None:
        self._leases.release(self._path, self._token)
