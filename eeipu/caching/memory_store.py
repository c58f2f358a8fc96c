"""Entries in a dictionary, as bytes that nobody can change."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from eeipu.caching.stores import Pending, Use
from eeipu.serialization.entry_format import Entry, Header, Segment, with_sizes

__all__ = ["MemoryStore"]


class MemoryStore:
    """Entries in this process's memory.

    Args:
        now: The time, in seconds since 1970.

    Attributes:
        hits: The hits of the entries.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self.hits = _UseLog(now)

    def contains(self, key: str) -> bool:
        """See `Store`."""
        return key in self._entries

    def header(self, key: str) -> Header:
        """See `Store`."""
        return self._entries[key].header

    def read(self, key: str) -> Entry:
        """See `Store`."""
        entry = self._entries[key]
        # The first segment, a pickle, is only read. The others become the memory of arrays.
        first, *others = entry.segments
        return replace(entry, segments=[first, *map(bytearray, others)])

    def signature(self, key: str) -> Hashable:
        """See `Store`."""
        return self._entries[key].signature

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """See `Store`."""
        # A new object is different from every other, which makes it a signature.
        entry = Entry(with_sizes(header, segments), tuple(map(bytes, segments)), object())
        return _PendingEntry(entry, self._place)

    def _place(self, entry: Entry) -> None:
        key = entry.header.key
        with self._lock:
            self.hits.start(key, entry.header.file_bytes)
            self._entries[key] = entry

    def sizes(self) -> dict[str, int]:
        """See `Store`."""
        return {key: use.size_bytes for key, use in self.hits.uses().items()}

    def uses(self) -> dict[str, Use]:
        """See `Store`."""
        return self.hits.uses()

    def delete(self, key: str) -> None:
        """See `Store`."""
        with self._lock:
            self._entries.pop(key, None)
            self.hits.forget(key)

    def quarantine(self, key: str) -> None:
        """See `Store`; the entry is removed, because nobody could look at it later."""
        self.delete(key)

    def clean(self, *, thoroughly: bool = False) -> int:  # noqa: ARG002 - there are no files
        """See `Store`."""
        return 0

    def tidy(self) -> None:
        """See `Store`; there are no folders."""


class _UseLog:
    """The sizes, last uses and hits of the entries in memory, in the order of their last use."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._uses: dict[str, Use] = {}
        self._loading_s: dict[str, float] = {}
        self._now = now
        self._lock = threading.Lock()

    def start(self, key: str, size_bytes: int) -> None:
        """Note a new entry, which has no hits yet."""
        with self._lock:
            self._forget(key)
            self._uses[key] = Use(size_bytes, self._now())

    def add(self, key: str, load_s: float) -> None:
        """See `Hits`."""
        with self._lock:
            former = self._uses.pop(key, None)
            if former is None:  # another thread dropped the entry
                return
            self._uses[key] = Use(former.size_bytes, self._now(), former.hits + 1)
            self._loading_s[key] = self._loading_s.get(key, 0.0) + load_s

    def load_s(self, key: str) -> float | None:
        """See `Hits`."""
        with self._lock:
            use = self._uses.get(key)
            return self._loading_s[key] / use.hits if use is not None and use.hits > 0 else None

    def uses(self) -> dict[str, Use]:
        """All uses by key, the least recent first."""
        with self._lock:
            return dict(self._uses)

    def forget(self, key: str) -> None:
        """Remove what is known of an entry."""
        with self._lock:
            self._forget(key)

    def _forget(self, key: str) -> None:
        self._uses.pop(key, None)
        self._loading_s.pop(key, None)


class _PendingEntry:
    def __init__(self, entry: Entry, place: Callable[[Entry], None]) -> None:
        self._entry = entry
        self._place = place
        self.header = entry.header

    def commit(self) -> None:
        self._place(self._entry)

    def discard(self) -> None:
        """Nothing was written."""
