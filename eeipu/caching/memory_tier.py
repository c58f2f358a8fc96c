"""Small entries that were read or written lately, in front of a slower place."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace

from eeipu.serialization.entry_format import Entry

__all__ = ["MemoryTier"]

# What reads in well under a millisecond anyway need not be held twice.
LARGEST_ENTRY_BYTES = 2**20


class MemoryTier:
    """The most recently used small entries, as bytes that nobody can change.

    Args:
        max_bytes: How much to hold.
    """

    def __init__(self, max_bytes: float) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, Entry] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str, current: Callable[[str], Hashable]) -> Entry | None:
        """The entry, in memory that is the caller's; `None` if it is not, or no more, held.

        Args:
            key: Its key.
            current: Key -> the signature of what the slower place has under it now.
        """
        entry = self._held.get(key)
        if entry is None:
            return None
        if entry.signature != current(key):
            self.drop(key)
            return None
        with self._lock:
            if key in self._held:  # another thread may have dropped it
                self._held.move_to_end(key)
        first, *others = entry.segments
        return replace(entry, segments=[first, *map(bytearray, others)])

    def put(self, entry: Entry) -> None:
        """Hold an entry, if it is small, in place of the least recently used ones."""
        key, size_bytes = entry.header.key, entry.header.value_bytes
        if size_bytes > min(LARGEST_ENTRY_BYTES, self._max_bytes):
            self.drop(key)
            return
        copied = replace(entry, segments=tuple(map(bytes, entry.segments)))
        with self._lock:
            self._drop(key)
            self._held[key] = copied
            self._held_bytes += size_bytes
            while self._held_bytes > self._max_bytes:
                self._drop(next(iter(self._held)))

    def drop(self, key: str) -> None:
        """Hold an entry no more."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: str) -> None:
        known = self._held.pop(key, None)
        if known is not None:
            self._held_bytes -= known.header.value_bytes
