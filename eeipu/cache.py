"""The cache of stage outputs: values under content keys, in memory, in a directory, or remote.

A cache promises:

- `get` returns the value that was `put`, or raises `CacheMiss`. An entry is written under a
  temporary name, sealed with checksums, synced, and renamed (`eeipu.serialization.entry_format`,
  `eeipu.caching.directory_store`). A damaged entry is put into quarantine with a warning.
- Of several processes that need the same stage's output, one runs the stage. No running trial
  loses an output that it uses, and no study drops an output that another study keeps
  (`eeipu.caching.leases.claims`).

Warning:
    Loading an entry unpickles it, and unpickling runs whatever code the entry names. A cache
    therefore trusts everybody who can write to its location. A new directory is created for its
    user alone, and a directory that others can write to is refused unless `shared=True` says that
    their code may run. This check is not possible on a remote file system, where the permissions
    of the bucket decide. With `trusted=False`, only formats that cannot run code are written and
    loaded (JSON, npy, safetensors, Parquet). Then a stranger can still plant a wrong value, but no
    code.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import fsspec
import psutil

from eeipu.caching.eviction import Eviction
from eeipu.caching.locations import accessing, open_place
from eeipu.caching.memory_tier import MemoryTier
from eeipu.caching.stores import Store, check_key, is_key
from eeipu.errors import CacheFormatError, CacheMiss, ConfigurationError
from eeipu.serialization.entry_format import DamagedEntry, Entry, Header, with_sizes
from eeipu.serialization.pickles import WITH_FILES, deserialize, serialize

__all__ = ["IN_MEMORY", "CacheStats", "InMemory", "StageCache"]

# The share of the free memory that the default cache may use. It holds the outputs of a few trials
# and leaves enough memory for the pipeline itself.
MEMORY_SHARE = 0.25

# Room for thousands of scores and small tables, and little compared to what a stage needs.
MEMORY_TIER_BYTES = 64 * 2**20


class InMemory(Enum):
    """The type of `IN_MEMORY`, the default of `Tuner(cache=...)`."""

    DEFAULT = "an in-memory cache bounded to a quarter of the free memory"

    def open(self) -> "StageCache":
        """A new cache in memory, bounded to a quarter of the memory that is free now."""
        return StageCache(max_bytes=MEMORY_SHARE * psutil.virtual_memory().available)

    def __repr__(self) -> str:
        return "IN_MEMORY"


IN_MEMORY = InMemory.DEFAULT


@dataclass(frozen=True)
class CacheStats:
    """The content of a cache, and the hits and misses of this process.

    Attributes:
        entries: The number of entries.
        size_bytes: The size of all entries.
        hits: How often `get` returned a value.
        misses: How often `get` found no usable value.
    """

    entries: int
    size_bytes: int
    hits: int
    misses: int


class StageCache:
    """Stage outputs under content keys.

    A cache with a location can be pickled. It is opened again in the process that unpickles it.

    Args:
        location: `None` keeps values in this process's memory. A path or an fsspec URL
            (`s3://...`) keeps them in a directory, which outlives the process and can be shared
            by processes and hosts.
        max_bytes: The most bytes of entries to hold, or `None` for no bound. The entries that are
            the cheapest to lose are dropped first (`eeipu.caching.eviction`). Damaged entries,
            which stay in quarantine until `gc`, do not count.
        memory_bytes: The most bytes of this process's memory for copies of small entries.
        compression: `"gzip"`, `"bz2"`, `"xz"`, or `"zstd"`, `"lz4"`, `"snappy"` if their libraries
            are installed. `None` writes values as they are in memory, which is the fastest.
        mmap: Whether values are mapped from local files instead of being read, so that processes
            share the memory. A value may be changed in place; its file does not change. If
            somebody truncates the file in the meantime, this process crashes.
        trusted: Whether entries may be pickles (see the warning of `eeipu.cache`).
        shared: Whether other users may own the directory or write to it. Then new files and
            folders in it get its mode, whatever the umask is. A new directory is writable by its
            group.
        durable: Whether an entry in a directory must survive a power failure as soon as `put`
            returns. Then `put` waits for the disk. Otherwise a power failure may lose the entry,
            but never makes it wrong.
        now: The time, in seconds since 1970.

    Raises:
        ConfigurationError: An argument is out of range; or `location` cannot be a directory, can be
            written to by others, or is empty and cannot be written to by this user.
        MissingExtraError: The file system of `location` needs a library that is not installed.

    Attributes:
        location: The location as a string, or `None` for memory.
        max_bytes: The most bytes of entries to hold, or `None`.
        place: The opened location: the store of the entries and its holders.
        holders: Who computes, uses and keeps which keys (`eeipu.caching.leases.claims.Holders`).

    >>> cache = StageCache()
    >>> cache.put("a", [1, 2])
    [1, 2]
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
        has_tier = self.place.is_slow and not mmap
        self._tier = MemoryTier(self.place.store, memory_bytes if has_tier else 0)
        self._eviction = Eviction(self.place.store, self._tier, self.holders, now)
        self._counts = _Counts()

    def __repr__(self) -> str:
        return f"StageCache({self.location!r}, max_bytes={self.max_bytes!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.location is None:
            raise TypeError(
                "a cache in memory cannot be sent to another process; give it a location."
            )
        return self._open_again, ()

    def __contains__(self, key: object) -> bool:
        try:
            return is_key(key) and self.place.store.contains(str(key))
        except Exception as error:  # file systems raise their own types of errors
            message = f"{self!r} cannot be reached ({error!r}); stages have to run again"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return False

    def __iter__(self) -> Iterator[str]:
        with accessing(self, "listed"):
            return iter(self.place.store.uses())

    def get(self, key: str) -> Any:
        """A fresh copy of the value under `key`.

        Raises:
            CacheMiss: There is no usable value. If an entry is damaged, it is put into quarantine
                with a warning.
        """
        if not is_key(key):
            self._counts.add(hit=False)
            raise CacheMiss(f"no value under {key!r}, which cannot be a key")
        start = time.perf_counter()
        try:
            value = _value_of(self._tier.read(key), self._trusted)
        except KeyError:
            self._counts.add(hit=False)
            raise CacheMiss(f"no value under {key!r}") from None
        except Exception as error:  # file systems raise their own types of errors
            self._counts.add(hit=False)
            message = f"the cache entry {key} {_set_aside(self._tier, key, error)}"
            warnings.warn(f"{message}; its stage has to run again", RuntimeWarning, stacklevel=2)
            raise CacheMiss(message) from error
        self.place.store.hits.add(key, time.perf_counter() - start)
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
        parts: Mapping[str, Any] | None = None,
        observed: Mapping[str, Any] | None = None,
    ) -> Any:
        """Keep a copy of `value` under `key`, and with it what is known about its origin.

        A value for which there is no room is not kept, and a warning says so.

        Args:
            key: The content key, text of at most 240 bytes (`eeipu.caching.stores.check_key`).
            value: The value.
            cost: What computing it cost: measured seconds, or a declared cost.
            stage: The name of the stage that computed it.
            params: The hyper-parameters of the stage.
            versions: The versions of the packages that the stage used.
            parts: Short digests of the parts of the key, by name (`eeipu.fingerprints.parts`).
            observed: What observers found in the value (`eeipu.stages.observing.notes`).

        Returns:
            The value; where paths in it had their files kept with them, one with paths to copies
            of these files, which nobody else may change.

        Raises:
            CacheAccessError: The location cannot be written to, or is full. Nothing is kept.
            CacheFormatError: The cache is not trusted, and all formats for the value can run code.
            ConfigurationError: The key is not a string, or too long.
            Exception: Whatever the serialiser raises. Then nothing is kept.
        """
        check_key(key)
        kind, segments = serialize(value, trusted=self._trusted)
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
            parts={} if parts is None else dict(parts),
            observed={} if observed is None else dict(observed),
        )
        if self.max_bytes is not None and self._compression is None:
            size_bytes = with_sizes(header, segments).file_bytes
            if size_bytes > self.max_bytes:
                _warn_too_large(size_bytes, self.max_bytes)
                return value
        with accessing(self, "written to"):
            pending = self.place.store.prepare(header, segments)
            if self.max_bytes is None:
                pending.commit()
            elif not self._eviction.admit(pending, self.max_bytes):
                _warn_no_room(pending.header.file_bytes, self.max_bytes)
                return value
        kept = Entry(pending.header, segments)
        self._tier.remember(kept)
        return _value_of(kept, self._trusted) if kind == WITH_FILES else value

    def spare(self, keys: Iterable[str]) -> None:
        """Count a hit on entries that nobody had to load, because a later output was loaded."""
        for key in keys:
            self.place.store.hits.add(key, 0.0)

    def cost(self, key: str) -> float | None:
        """What computing the value under `key` cost, or `None` if that is not known."""
        try:
            return self.place.store.header(key).cost
        except Exception:  # the entry is missing, damaged or out of reach
            return None

    def discard(self, keys: Iterable[str]) -> None:
        """Drop the values under `keys`, except those that a running trial uses or a study keeps."""
        unwanted = set(keys)
        if unwanted:
            with accessing(self, "changed"), self.holders.upkeep():
                self._eviction.drop(unwanted - self.holders.kept())

    def retain(self, keys: Iterable[str]) -> None:
        """Drop all values except those under `keys`, and those that are used or kept by others.

        With the keys of the stages of the best trials, this is the rule of the paper: only the
        outputs of the top Q trials stay.
        """
        self.discard(set(self) - set(keys))

    def clear(self) -> None:
        """Drop all values that no running trial uses, even if a study keeps them."""
        with accessing(self, "changed"), self.holders.upkeep():
            self._eviction.drop(set(self.place.store.sizes()) - self.holders.used())
            self.place.store.tidy()

    def stats(self) -> CacheStats:
        """The number and the size of the entries, and this process's hits and misses."""
        with accessing(self, "listed"):
            sizes = self.place.store.sizes()
        return CacheStats(len(sizes), sum(sizes.values()), *self._counts.now())

    def verify(self) -> list[str]:
        """The keys of all damaged entries. Nothing is unpickled and nothing is dropped."""
        return [key for key in self if not _is_sound(self.place.store, key)]

    def gc(self, *, max_bytes: float | None = None, max_idle_s: float | None = None) -> int:
        """Empty the quarantine, remove the files of killed processes, and on request old entries.

        An unfinished upload is removed when it is a day old: a younger one may be another host's
        that is still running.

        Args:
            max_bytes: If given, drop the entries that are the cheapest to lose until at most
                `max_bytes` are held.
            max_idle_s: If given, drop the entries that nobody has used for `max_idle_s` seconds.

        Returns:
            The number of files and entries that were removed.
        """
        store = self.place.store
        with accessing(self, "changed"), self.holders.upkeep():
            removed = store.clean(thoroughly=True) + self.holders.clean()
            entries = len(store.sizes())
            if max_idle_s is not None:
                self._eviction.drop_idle(max_idle_s)
            if max_bytes is not None:
                self._eviction.shrink(max_bytes)
            removed += entries - len(store.sizes())
            store.tidy()
        return removed


class _Counts:
    """Hits and misses, which several threads can count."""

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


def _value_of(entry: Entry, trusted: bool) -> Any:
    try:
        return deserialize(entry.header.kind, entry.segments, trusted=trusted)
    except (CacheFormatError, MemoryError):
        raise
    except Exception as error:  # the types of the value's parts may raise anything
        raise DamagedEntry(f"it does not load: {error!r}") from error


def _set_aside(tier: MemoryTier, key: str, error: Exception) -> str:
    """Put an entry into quarantine if it is damaged, and describe the problem for a warning."""
    if isinstance(error, CacheFormatError):
        return f"is not loaded: {error}"
    if isinstance(error, PermissionError):  # the value may well be sound
        return f"may not be read ({error}); chmod it to 0600 if it is yours"
    if not isinstance(error, DamagedEntry | IsADirectoryError):
        return f"cannot be read ({error!r})"  # it may be readable again later
    try:
        tier.quarantine(key)
    except OSError:
        return f"is damaged ({error!r})"
    return f"is damaged ({error!r}) and was dropped, into quarantine"


def _is_sound(store: Store, key: str) -> bool:
    try:
        store.read(key)
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
        f"a value of {size_bytes:,} bytes was not kept: the entries that running trials use and "
        f"studies keep leave no room for it within max_bytes={max_bytes:,.0f}",
        RuntimeWarning,
        stacklevel=3,
    )
