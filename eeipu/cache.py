"""The stage-output cache: values under content keys, in memory, in a directory, or remote.

A cache promises that `get` returns what was `put` or nothing: entries are written aside, sealed
with checksums, synced, and renamed into place (`eeipu.serialization.entry_format`,
`eeipu.caching.directory_store`); what is damaged is put into quarantine with a warning. It promises
that a stage runs once, that no running trial loses what it uses, and that no study drops what
another keeps (`eeipu.caching.leases.claims`).

Warning:
    Loading an entry unpickles it, and unpickling runs whatever code the entry names. A cache
    therefore trusts everyone who can write to its location: a new directory is made for its user
    alone, and one that others can write to is refused unless `shared=True` says that their code
    may run. On a remote file system that check is not possible: the bucket's permissions decide.
    With `trusted=False`, only formats that cannot run code are written and loaded (JSON, npy,
    safetensors, Parquet); then a stranger can still plant a wrong value, but no code.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import fsspec
import psutil

from eeipu.caching.eviction import Room
from eeipu.caching.locations import Place, open_place
from eeipu.caching.memory_tier import MemoryTier
from eeipu.errors import CacheFormatError, CacheMiss, ConfigurationError
from eeipu.serialization.entry_format import DamagedEntry, Entry, Header, described
from eeipu.serialization.pickles import dumps, loads

__all__ = ["IN_MEMORY", "CacheStats", "InMemory", "StageCache"]

# The share of the free memory that a cache takes where the user said nothing: enough for the
# outputs of a few trials, little enough for the pipeline itself to run beside it.
MEMORY_SHARE = 0.25

# Thousands of scores and small tables; nothing beside what a stage of a pipeline takes.
MEMORY_TIER_BYTES = 64 * 2**20


class InMemory(Enum):
    """The type of `IN_MEMORY`, the default of `Tuner(cache=...)`."""

    DEFAULT = "an in-memory cache bounded to a quarter of the free memory"

    def __repr__(self) -> str:
        return "IN_MEMORY"


IN_MEMORY = InMemory.DEFAULT


@dataclass(frozen=True)
class CacheStats:
    """What a cache holds, and what this process has asked of it.

    Attributes:
        entries: Number of values held.
        size_bytes: Bytes they take.
        hits: Values that `get` returned.
        misses: Keys that `get` had no usable value for.
    """

    entries: int
    size_bytes: int
    hits: int
    misses: int


class StageCache:
    """Stage outputs under content keys.

    Args:
        location: `None` keeps values in this process's memory; a path or an fsspec URL
            (`s3://...`) keeps them in a directory, which outlives the process and can be shared
            by processes and hosts.
        max_bytes: The most bytes of entries to hold; those that are cheapest to compute again, for
            their bytes and the time nobody wanted them, go first. Damaged entries, which lie in
            quarantine until `gc`, do not count. `None`: no bound.
        memory_bytes: How much of this process's memory may hold copies of small entries.
        compression: `"gzip"`, `"bz2"`, `"xz"`, or `"zstd"`, `"lz4"`, `"snappy"` where their
            libraries are installed; `None` writes values as they lie in memory, which is fastest.
        mmap: Map values from local files instead of reading them, so that processes share the
            memory. A value may be changed in place; the file is not. Somebody who truncates the
            file meanwhile ends this process.
        trusted: Whether entries may be pickles (see the module's warning).
        shared: Whether a directory may belong to, or be written to by, others than this user.
            What is made in it then has its mode, whatever the umask is; a new one is its group's.
        durable: Whether an entry in a directory must survive a power failure from the moment that
            `put` returns, which is to wait for the disk. Otherwise it may be lost, and is never
            wrong.
        now: Seconds since 1970.

    Raises:
        ConfigurationError: An argument is out of range, or `location` is no place for a
            directory, or others can write to it, or it is empty and this user cannot.
        MissingExtraError: The file system of `location` needs a library that is not installed.

    A cache with a location can be pickled: it is opened again where it is loaded.

    Attributes:
        place: Where the entries are.
        holders: Who makes, uses and keeps which keys (`eeipu.caching.leases.claims.Holders`).

    >>> cache = StageCache()
    >>> cache.put("a", [1, 2])
    >>> "a" in cache, cache.get("a")
    (True, [1, 2])
    """

    def __init__(
        self,
        location: str | Path | None = None,
        max_bytes: int | float | None = None,
        *,
        memory_bytes: int | float = MEMORY_TIER_BYTES,
        compression: str | None = None,
        mmap: bool = False,
        trusted: bool = True,
        shared: bool = False,
        durable: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        _check_size("max_bytes", max_bytes)
        _check_compression(compression)
        self.location = None if location is None else str(location)
        self.max_bytes = max_bytes
        self._open_again = partial(
            StageCache,
            location,
            max_bytes,
            memory_bytes=memory_bytes,
            compression=compression,
            mmap=mmap,
            trusted=trusted,
            shared=shared,
            durable=durable,
            now=now,
        )
        self._compression = compression
        self._trusted = trusted
        self._now = now
        self.place = open_place(self.location, shared=shared, mapped=mmap, durable=durable, now=now)
        self.holders = self.place.holders
        self._tier = MemoryTier(memory_bytes if self.place.is_slow and not mmap else 0)
        self._room = Room(self.place.store, self.holders, self._tier, now)
        self._counts = _Counts()

    @classmethod
    def in_memory(cls) -> "StageCache":
        """A cache in memory, bounded to a quarter of what is free now."""
        return cls(max_bytes=MEMORY_SHARE * psutil.virtual_memory().available)

    def __repr__(self) -> str:
        return f"StageCache({self.location!r}, max_bytes={self.max_bytes!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.location is None:
            raise TypeError(
                "a cache in memory cannot be handed to another process; give it a location."
            )
        return self._open_again, ()

    def __contains__(self, key: object) -> bool:
        try:
            return isinstance(key, str) and self.place.store.contains(key)
        except Exception as error:  # file systems raise errors of their own
            message = f"{self!r} cannot be reached ({error!r}); stages have to run again"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self.place.store.uses())

    def get(self, key: str) -> Any:
        """A fresh copy of the value under `key`.

        Raises:
            CacheMiss: There is none, or it is damaged; a damaged entry is put into quarantine
                with a warning.
        """
        start = time.perf_counter()
        try:
            value = _loaded(_read(self.place, self._tier, key), self._trusted)
        except KeyError:
            self._counts.add(hit=False)
            raise CacheMiss(f"no value under {key!r}") from None
        except Exception as error:  # file systems raise errors of their own
            self._counts.add(hit=False)
            message = f"the cache entry {key} {_put_aside(self.place, self._tier, key, error)}"
            warnings.warn(f"{message}; its stage has to run again", RuntimeWarning, stacklevel=2)
            raise CacheMiss(message) from error
        self.place.store.mark(key, time.perf_counter() - start)
        self._counts.add(hit=True)
        return value

    def put(
        self,
        key: str,
        value: Any,
        *,
        cost: float | None = None,
        stage: str | None = None,
        params: Mapping[str, Any] | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """Keep `value` under `key`, and beside it what is known of how it came about.

        Args:
            key: The content key.
            value: What to keep; it is copied.
            cost: What producing it cost, in seconds or declared.
            stage: The name of the stage that produced it.
            params: The stage's hyper-parameters.
            versions: The versions of the packages that the stage used.

        Raises:
            CacheFormatError: The value has no format that cannot run code, and `trusted=False`.
            Exception: Whatever the serialiser or the file system raises; nothing is kept then.
        """
        kind, segments = dumps(value, trusted=self._trusted)
        header = Header(
            key,
            kind,
            (),
            compression=self._compression,
            created_s=int(self._now()),
            cost=cost,
            stage=stage,
            params={} if params is None else dict(params),
            versions={} if versions is None else dict(versions),
        )
        if self.max_bytes is not None and self._compression is None:
            size_bytes = described(header, segments).file_bytes
            if size_bytes > self.max_bytes:
                _warn_too_large(size_bytes, self.max_bytes)
                return
        pending = self.place.store.prepare(header, segments)
        if self.max_bytes is None:
            pending.commit()
        else:
            fits = False
            try:
                with self.holders.upkeep():
                    fits = self._room.make(pending.header, self.max_bytes)
                    if fits:
                        pending.commit()
            finally:
                if not fits:
                    pending.discard()
            if not fits:
                _warn_no_room(pending.header.file_bytes, self.max_bytes)
                return
        _remember(self.place, self._tier, Entry(pending.header, segments))

    def spare(self, keys: Iterable[str]) -> None:
        """Count a hit of entries that need not be loaded, since one made from them was."""
        for key in keys:
            self.place.store.mark(key, 0.0)

    def cost(self, key: str) -> float | None:
        """The cost that produced the value under `key`; `None` if it is not known."""
        try:
            return self.place.store.header(key).cost
        except Exception:  # it is damaged, or out of reach
            return None

    def discard(self, keys: Iterable[str]) -> None:
        """Drop the values under `keys` that no running trial uses and no study keeps."""
        unwanted = set(keys)
        if unwanted:
            with self.holders.upkeep():
                self._room.drop(unwanted - self.holders.kept())

    def retain(self, keys: Iterable[str]) -> None:
        """Drop all values but those under `keys`, and those that are used or kept by others.

        With the keys of the best trials' stages, this is the paper's rule: only the outputs of
        the top Q stay.
        """
        self.discard(set(self.place.store.sizes()) - set(keys))

    def clear(self) -> None:
        """Drop all values but those that a running trial uses; also what studies keep."""
        with self.holders.upkeep():
            self._room.drop(set(self.place.store.sizes()) - self.holders.used())
            self.place.store.tidy()

    def stats(self) -> CacheStats:
        """What the cache holds, and this process's hits and misses."""
        sizes = self.place.store.sizes()
        return CacheStats(len(sizes), sum(sizes.values()), *self._counts.now())

    def verify(self) -> list[str]:
        """The keys of all damaged entries; nothing is unpickled and nothing dropped."""
        return [key for key in self if not _is_sound(self.place, key)]

    def gc(self, *, max_bytes: float | None = None, max_idle_s: float | None = None) -> int:
        """Remove what killed processes left and what is in quarantine, and old entries on request.

        Unfinished uploads go when they are a day old: those of another host may still be running.

        Args:
            max_bytes: Drop what is cheapest to lose until at most so many bytes are held.
            max_idle_s: Drop what nobody has used for so many seconds.

        Returns:
            The number of files and entries that were removed.
        """
        store = self.place.store
        with self.holders.upkeep():
            removed = store.clean(thoroughly=True) + self.holders.clean()
            before = store.uses()
            if max_idle_s is not None:
                kept, oldest_s = self.holders.kept(), self._now() - max_idle_s
                idle = [key for key, use in before.items() if use.used_s < oldest_s]
                self._room.drop(set(idle) - kept)
            if max_bytes is not None:
                self._room.free(sum(store.sizes().values()) - max_bytes)
            removed += len(before) - len(store.sizes())
            store.tidy()
        return removed


class _Counts:
    """Hits and misses, counted by several threads."""

    def __init__(self) -> None:
        self._hits = self._misses = 0
        self._lock = threading.Lock()

    def add(self, *, hit: bool) -> None:
        with self._lock:
            self._hits += hit
            self._misses += not hit

    def now(self) -> tuple[int, int]:
        with self._lock:
            return self._hits, self._misses


def _check_size(name: str, size_bytes: Any) -> None:
    if not (size_bytes is None or (isinstance(size_bytes, Real) and float(size_bytes) > 0)):
        raise ConfigurationError(
            f"{name} must be a positive number of bytes, but got {size_bytes!r}."
        )


def _check_compression(name: str | None) -> None:
    known = set(fsspec.available_compressions()) - {None, "zip", "lzma"}
    if name is not None and name not in known:
        raise ConfigurationError(
            f"compression must be one of {sorted(known)} or None, but got {name!r}; "
            f"others need their library installed."
        )


def _read(place: Place, tier: MemoryTier, key: str) -> Entry:
    """An entry from the memory tier, if that has what the store has, or from the store."""
    entry = tier.get(key, place.store.signature)
    if entry is None:
        entry = place.store.read(key)
        tier.put(entry)
    return entry


def _remember(place: Place, tier: MemoryTier, entry: Entry) -> None:
    """Have the memory tier hold what was just written."""
    with suppress(KeyError, OSError):  # another may have dropped it
        tier.put(replace(entry, signature=place.store.signature(entry.header.key)))


def _loaded(entry: Entry, trusted: bool) -> Any:
    try:
        return loads(entry.header.kind, entry.segments, trusted=trusted)
    except (CacheFormatError, MemoryError):
        raise
    except Exception as error:  # whatever the value's own types raise
        raise DamagedEntry(f"it does not load: {error!r}") from error


def _put_aside(place: Place, tier: MemoryTier, key: str, error: Exception) -> str:
    """Take an entry that cannot be used out of the way, if it is at fault; what became of it."""
    if isinstance(error, CacheFormatError):
        return f"is not loaded: {error}"
    if isinstance(error, PermissionError):  # the value may well be sound
        return f"may not be read ({error}); chmod it to 0600 if it is yours"
    if not isinstance(error, DamagedEntry | IsADirectoryError):
        return f"cannot be read ({error!r})"  # it may be in reach again later
    tier.drop(key)
    try:
        place.store.quarantine(key)
    except OSError:
        return f"is damaged ({error!r})"
    return f"is damaged ({error!r}) and was dropped, into quarantine"


def _is_sound(place: Place, key: str) -> bool:
    try:
        place.store.read(key)
    except (DamagedEntry, OSError):
        return False
    except KeyError:  # dropped since it was listed
        pass
    return True


def _warn_too_large(size_bytes: int, max_bytes: float) -> None:
    warnings.warn(
        f"a value of {size_bytes:,} bytes is larger than the whole cache "
        f"(max_bytes={max_bytes:,.0f}) and was not kept",
        RuntimeWarning,
        stacklevel=3,
    )


def _warn_no_room(size_bytes: int, max_bytes: float) -> None:
    warnings.warn(
        f"a value of {size_bytes:,} bytes was not kept: what running trials use and studies keep "
        f"leaves no room for it within max_bytes={max_bytes:,.0f}",
        RuntimeWarning,
        stacklevel=3,
    )
