"""Copies of small entries in memory, in front of a slower store."""

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace

from eeipu.caching.stores import Store
from eeipu.serialization.entry_format import Entry

__all__ = ["MemoryTier"]

# A larger entry gains little: it is read at the speed of memory if the system has its file cached.
LARGEST_ENTRY_BYTES = 2**20


class MemoryTier:
    """A store's most recently used small entries, as bytes that nobody can change.

    Args:
        store: The store in the background.
        max_bytes: The most bytes of copies to hold. With 0, every call goes to the store.
    """

    def __init__(self, store: Store, max_bytes: float) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, Entry] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    def read(self, key: str) -> Entry:
        """An entry: from memory if it is still the same in the store, otherwise from the store.

        Raises:
            Exception: The same errors as `Store.read`.
        """
        entry = self._current(key)
        if entry is None:
            entry = self._store.read(key)
            self._hold(entry)
        return entry

    def remember(self, entry: Entry) -> None:
        """Hold a copy of an entry that was just written to the store."""
        with suppress(KeyError, OSError):  # another process may have dropped it
            self._hold(replace(entry, signature=self._store.signature(entry.header.key)))

    def delete(self, key: str) -> None:
        """Remove an entry from the store and from memory."""
        self._store.delete(key)
        self._forget(key)

    def quarantine(self, key: str) -> None:
        """Put an entry of the store into quarantine and remove it from memory."""
        self._forget(key)
        self._store.quarantine(key)

    def _current(self, key: str) -> Entry | None:
        entry = self._held.get(key)
        if entry is None:
            return None
        if entry.signature != self._store.signature(key):
            self._forget(key)
            return None
        with self._lock:
            if key in self._held:  # another thread may have dropped it
                self._held.move_to_end(key)
        first, *others = entry.segments
        return replace(entry, segments=[first, *map(bytearray, others)])

    def _hold(self, entry: Entry) -> None:
        """Hold a copy of a small entry, and forget the least recently used ones if need be."""
        key, size_bytes = entry.header.key, entry.header.value_bytes
        if size_bytes > min(LARGEST_ENTRY_BYTES, self._max_bytes):
            self._forget(key)
            return
        copied = replace(entry, segments=tuple(map(bytes, entry.segments)))
        with self._lock:
            self._drop(key)
            self._held[key] = copied
            self._held_bytes += size_bytes
            while self._held_bytes > self._max_bytes:
                self._drop(next(iter(self._held)))

    def _forget(self, key: str) -> None:
        with self._lock:
            self._drop(key)

    def _drop(self, key: str) -> None:
        known = self._held.pop(key, None)
        if known is not None:
            self._held_bytes -= known.header.value_bytes
