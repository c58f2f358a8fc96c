"""Leases in memory, between the threads of one process."""

import threading

from eeipu.caching.leases.lease import Lease

__all__ = ["MemoryLeases"]


class MemoryLeases:
    """Leases in a dictionary. Their holders die with the process, and so does the dictionary."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def acquire(self, name: str, content: bytes = b"") -> Lease | None:
        """See `Leases`."""
        with self._lock:
            if name in self._held:
                return None
            self._held[name] = content
        return _MemoryLease(self._held, name)

    def living(self, folder: str, *, clean: bool = False) -> list[bytes]:  # noqa: ARG002
        """See `Leases`; no holder here can be dead."""
        with self._lock:
            return [
                content for name, content in self._held.items() if name.startswith(f"{folder}/")
            ]


class _MemoryLease:
    def __init__(self, held: dict[str, bytes], name: str) -> None:
        self._held = held
        self._name = name

    def release(self) -> None:
        self._held.pop(self._name, None)
