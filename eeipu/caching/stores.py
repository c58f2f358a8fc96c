"""Where entries are kept: what the cache asks of a place, and the simplest one, memory."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Protocol

from eeipu.serialization.entry_format import Entry, Header, Segment, Use, described

__all__ = ["MemoryStore", "Pending", "Store"]


class Pending(Protocol):
    """An entry that is written, and that nobody sees yet."""

    header: Header

    def commit(self) -> None:
        """Let it take the place of what was under its key."""
        ...

    def discard(self) -> None:
        """Undo the writing."""
        ...


class Store(Protocol):
    """Entries under keys. Whatever reads raises `KeyError` where there is nothing."""

    def read(self, key: str) -> Entry:
        """An entry, in memory that is the caller's.

        Raises:
            DamagedEntry: It is not what was written.
            OSError: It cannot be read.
        """
        ...

    def header(self, key: str) -> Header:
        """What an entry says about itself; raises as `read` does."""
        ...

    def contains(self, key: str) -> bool:
        """Whether there is an entry now."""
        ...

    def signature(self, key: str) -> Hashable:
        """What changes when the entry under a key is replaced."""
        ...

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """Write an entry, as far as nobody sees it."""
        ...

    def mark(self, key: str, load_s: float) -> None:
        """Remember that an entry was loaded, and how long that took."""
        ...

    def load_s(self, key: str) -> float | None:
        """What loading an entry took, on average; `None`: not known."""
        ...

    def sizes(self) -> dict[str, int]:
        """Key -> bytes."""
        ...

    def uses(self) -> dict[str, Use]:
        """Key -> when and how often it was used, the least recently used first."""
        ...

    def delete(self, key: str) -> None:
        """Drop an entry, where there is one."""
        ...

    def quarantine(self, key: str) -> None:
        """Put a damaged entry aside, where nobody takes it for sound."""
        ...

    def clean(self, *, thoroughly: bool = False) -> int:
        """Remove what killed processes left; the number of files.

        Args:
            thoroughly: Look also where that takes a listing of the whole cache, and remove the
                damaged entries that were put aside.
        """
        ...

    def tidy(self) -> None:
        """Remove empty folders. During `Holders.upkeep`."""
        ...


class MemoryStore:
    """A dictionary, in order of use. Values are bytes, so that nobody can change them."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._entries: dict[str, Entry] = {}
        self._uses: dict[str, Use] = {}
        self._loading_s: dict[str, float] = {}
        self._now = now
        self._lock = threading.Lock()

    def read(self, key: str) -> Entry:
        """See `Store`."""
        entry = self._entries[key]
        # The pickle is only read, but arrays live in the other segments from now on.
        first, *others = entry.segments
        return replace(entry, segments=[first, *map(bytearray, others)])

    def header(self, key: str) -> Header:
        """See `Store`."""
        return self._entries[key].header

    def contains(self, key: str) -> bool:
        """See `Store`."""
        return key in self._entries

    def signature(self, key: str) -> Hashable:
        """See `Store`."""
        return self._entries[key].signature

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """See `Store`."""
        # An object of its own is like no other.
        entry = Entry(described(header, segments), tuple(map(bytes, segments)), object())
        return _InMemory(self, entry)

    def keep(self, entry: Entry) -> None:
        """Put a prepared entry in its place."""
        key = entry.header.key
        with self._lock:
            self._forget(key)
            self._uses[key] = Use(entry.header.file_bytes, self._now())
            self._entries[key] = entry

    def mark(self, key: str, load_s: float) -> None:
        """See `Store`."""
        with self._lock:
            former = self._uses.pop(key, None)
            if former is None:  # dropped by another thread
                return
            self._uses[key] = Use(former.size_bytes, self._now(), former.hits + 1)
            self._loading_s[key] = self._loading_s.get(key, 0.0) + load_s

    def load_s(self, key: str) -> float | None:
        """See `Store`."""
        with self._lock:
            use = self._uses.get(key)
            return self._loading_s[key] / use.hits if use is not None and use.hits > 0 else None

    def sizes(self) -> dict[str, int]:
        """See `Store`."""
        with self._lock:
            return {key: use.size_bytes for key, use in self._uses.items()}

    def uses(self) -> dict[str, Use]:
        """See `Store`."""
        with self._lock:
            return dict(self._uses)

    def delete(self, key: str) -> None:
        """See `Store`."""
        with self._lock:
            self._entries.pop(key, None)
            self._forget(key)

    def _forget(self, key: str) -> None:
        self._uses.pop(key, None)
        self._loading_s.pop(key, None)

    def quarantine(self, key: str) -> None:
        """See `Store`; what memory holds cannot be looked at later."""
        self.delete(key)

    def clean(self, *, thoroughly: bool = False) -> int:  # noqa: ARG002 - memory leaves nothing
        """See `Store`."""
        return 0

    def tidy(self) -> None:
        """See `Store`; there are no folders."""


class _InMemory:
    def __init__(self, store: MemoryStore, entry: Entry) -> None:
        self._store = store
        self._entry = entry
        self.header = entry.header

    def commit(self) -> None:
        self._store.keep(self._entry)

    def discard(self) -> None:
        """There is nothing to undo."""
