"""The stage-output cache: values under content keys, in memory or in a directory.

One entry is one blob: a line of JSON (`checksum`, `size_bytes`, `cost`) and the value as joblib
serialises it. Values are stored as bytes in memory too, so that a stage that changes its input
in place can never change what the cache holds.

Warning:
    Loading an entry unpickles it, and unpickling can run code. Point a cache at a directory that
    only you, and those whose code you would run, can write to.
"""

import hashlib
import io
import json
import os
import threading
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

import fsspec
import joblib
import psutil

from eeipu.errors import CacheMiss, ConfigurationError, MissingExtraError

__all__ = ["IN_MEMORY", "CacheStats", "InMemory", "StageCache"]

# The share of the free memory that a cache takes where the user said nothing: enough for the
# outputs of a few trials, little enough for the pipeline itself to run beside it.
MEMORY_SHARE = 0.25

# Enough for a header: a checksum and two numbers.
_HEADER_BYTES = 512

_SUFFIX = ".stage"


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


class _Store(Protocol):
    """Bytes under keys. `sizes` lists the least recently used key first.

    `read` raises `KeyError` where there is nothing. Reading only the first `size_bytes` is a look
    at an entry and not a use of it.
    """

    def read(self, key: str, size_bytes: int | None = None) -> bytes: ...
    def write(self, key: str, blob: bytes) -> None: ...
    def delete(self, key: str) -> None: ...
    def sizes(self) -> dict[str, int]: ...
    def __contains__(self, key: str) -> bool: ...


class _MemoryStore:
    """A dictionary, in order of use."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self, key: str, size_bytes: int | None = None) -> bytes:
        with self._lock:
            if size_bytes is not None:
                return self._blobs[key][:size_bytes]
            blob = self._blobs.pop(key)
            self._blobs[key] = blob
            return blob

    def write(self, key: str, blob: bytes) -> None:
        with self._lock:
            self._blobs.pop(key, None)
            self._blobs[key] = blob

    def delete(self, key: str) -> None:
        with self._lock:
            self._blobs.pop(key, None)

    def sizes(self) -> dict[str, int]:
        with self._lock:
            return {key: len(blob) for key, blob in self._blobs.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._blobs


class _FileStore:
    """One file an entry, in a directory of any file system that fsspec reaches.

    Local files are marked when they are used; elsewhere an entry's last use is when it was
    written.
    """

    def __init__(self, location: str) -> None:
        self._fs, self._root = fsspec.url_to_fs(location)
        self._is_local = "file" in _protocols(self._fs)
        if self._is_local:
            # Entries are pickles: what others can write here, they can run as this user.
            Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            self._fs.mkdirs(self._root, exist_ok=True)

    def _path(self, key: str) -> str:
        return f"{self._root}/{quote(key, safe='')}{_SUFFIX}"

    def read(self, key: str, size_bytes: int | None = None) -> bytes:
        path = self._path(key)
        try:
            blob: bytes = self._fs.cat_file(path, end=size_bytes)
        except FileNotFoundError:
            raise KeyError(key) from None
        if self._is_local and size_bytes is None:
            # The entry may have gone since, or belong to someone else who shares it.
            with suppress(OSError):
                os.utime(path)
        return blob

    def write(self, key: str, blob: bytes) -> None:
        # A reader sees the old entry or the new one, never half of one.
        path = self._path(key)
        partial = f"{path}.{uuid.uuid4().hex}.partial"
        self._fs.mkdirs(self._root, exist_ok=True)
        try:
            self._fs.pipe_file(partial, blob)
            self._fs.mv(partial, path)
        except BaseException:
            if self._fs.exists(partial):
                self._fs.rm_file(partial)
            raise

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def sizes(self) -> dict[str, int]:
        self._fs.invalidate_cache()
        found = [
            (_changed(info), unquote(Path(path).name.removesuffix(_SUFFIX)), int(info["size"]))
            for path, info in self._fs.find(self._root, detail=True).items()
            if path.endswith(_SUFFIX)
        ]
        return {key: size for _, key, size in sorted(found)}

    def __contains__(self, key: str) -> bool:
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._path(key)))


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _changed(info: dict[str, Any]) -> float:
    """When a file was last written or used; file systems differ in what they call it."""
    stamp = info.get("mtime", info.get("LastModified", info.get("created", 0.0)))
    return float(stamp.timestamp() if hasattr(stamp, "timestamp") else stamp or 0.0)


class StageCache:
    """Stage outputs under content keys.

    Args:
        location: `None` keeps values in this process's memory; a path or an fsspec URL
            (`s3://...`) keeps them in a directory, which outlives the process and can be shared.
        max_bytes: The most bytes to hold; the least recently used entries go first. `None`: no
            bound.

    Raises:
        ConfigurationError: `max_bytes` is not positive, or `location` is no place for a directory.
        MissingExtraError: The file system of `location` needs a library that is not installed.

    >>> cache = StageCache()
    >>> cache.put("a", [1, 2])
    >>> "a" in cache, cache.get("a")
    (True, [1, 2])
    """

    def __init__(
        self, location: str | Path | None = None, max_bytes: int | float | None = None
    ) -> None:
        if not (max_bytes is None or _is_positive(max_bytes)):
            raise ConfigurationError(
                f"max_bytes must be a positive number of bytes, but got {max_bytes!r}."
            )
        self.location = None if location is None else str(location)
        self.max_bytes = max_bytes
        self._store = _open(self.location)
        self._hits = self._misses = 0

    @classmethod
    def in_memory(cls) -> "StageCache":
        """A cache in memory, bounded to a quarter of what is free now."""
        return cls(max_bytes=MEMORY_SHARE * psutil.virtual_memory().available)

    def __repr__(self) -> str:
        return f"StageCache({self.location!r}, max_bytes={self.max_bytes!r})"

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._store

    def get(self, key: str) -> Any:
        """A fresh copy of the value under `key`.

        Raises:
            CacheMiss: There is none, or it is damaged; a damaged entry is dropped with a warning.
        """
        try:
            blob = self._store.read(key)
        except KeyError:
            self._misses += 1
            raise CacheMiss(f"no value under {key!r}") from None
        except OSError as error:  # it may be sound, and in reach again later
            raise self._unusable(key, f"cannot be read ({error!r})") from error
        try:
            value = _loads(blob)
        except Exception as error:  # damaged bytes make pickle raise anything
            with suppress(OSError):
                self._store.delete(key)
            raise self._unusable(key, f"is damaged ({error!r}) and was dropped") from error
        self._hits += 1
        return value

    def _unusable(self, key: str, reason: str) -> CacheMiss:
        self._misses += 1
        message = f"the cache entry {key} {reason}; its stage has to run again"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        return CacheMiss(message)

    def put(self, key: str, value: Any, *, cost: float | None = None) -> None:
        """Keep `value` under `key`, and the `cost` that produced it beside it.

        Raises:
            Exception: Whatever the serialiser or the file system raises; nothing is kept then.
        """
        blob = _dumps(value, cost)
        if self.max_bytes is not None:
            if len(blob) > self.max_bytes:
                warnings.warn(
                    f"a value of {len(blob):,} bytes is larger than the whole cache "
                    f"(max_bytes={self.max_bytes:,.0f}) and was not kept",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return
            self._make_room(key, len(blob), self.max_bytes)
        self._store.write(key, blob)

    def _make_room(self, new_key: str, needed_bytes: int, max_bytes: float) -> None:
        sizes = self._store.sizes()
        sizes.pop(new_key, None)  # it is replaced
        held_bytes = sum(sizes.values())
        for key, size_bytes in sizes.items():
            if held_bytes + needed_bytes <= max_bytes:
                return
            self._store.delete(key)
            held_bytes -= size_bytes

    def cost(self, key: str) -> float | None:
        """The cost that produced the value under `key`; `None` if it is not known."""
        try:
            cost = _header(self._store.read(key, _HEADER_BYTES))["cost"]
        except (KeyError, ValueError, OSError):
            return None
        return None if cost is None else float(cost)

    def discard(self, keys: Iterable[str]) -> None:
        """Drop the values under `keys`, where there are any."""
        for key in keys:
            self._store.delete(key)

    def retain(self, keys: Iterable[str]) -> None:
        """Drop all values but those under `keys`."""
        self.discard(set(self._store.sizes()) - set(keys))

    def clear(self) -> None:
        """Drop all values."""
        self.retain(())

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.sizes())

    def stats(self) -> CacheStats:
        """What the cache holds, and this process's hits and misses."""
        sizes = self._store.sizes()
        return CacheStats(len(sizes), sum(sizes.values()), self._hits, self._misses)

    def verify(self) -> list[str]:
        """The keys of all damaged entries; nothing is unpickled and nothing dropped."""
        return [key for key in self if not self._is_sound(key)]

    def _is_sound(self, key: str) -> bool:
        try:
            _payload(self._store.read(key))
        except ValueError:
            return False
        except KeyError:  # dropped since it was listed
            pass
        return True


def _is_positive(value: Any) -> bool:
    return isinstance(value, Real) and float(value) > 0


def _open(location: str | None) -> _Store:
    if location is None:
        return _MemoryStore()
    try:
        return _FileStore(location)
    except ImportError as error:
        raise MissingExtraError(f"a cache at {location!r} cannot be reached: {error}") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the cache location {location!r} cannot be used as a directory: {error}"
        ) from error


def _dumps(value: Any, cost: float | None) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    payload = buffer.getvalue()
    header = {
        "checksum": hashlib.blake2b(payload, digest_size=20).hexdigest(),
        "size_bytes": len(payload),
        "cost": cost,
    }
    return json.dumps(header).encode() + b"\n" + payload


def _header(blob: bytes) -> dict[str, Any]:
    """What the first line of a blob says.

    Raises:
        ValueError: It is not what was written.
    """
    header = json.loads(blob.partition(b"\n")[0])
    if not isinstance(header, dict):
        raise ValueError("its header is not readable")  # noqa: TRY004 - all damage is alike
    return header


def _payload(blob: bytes) -> bytes:
    """The serialised value in a blob.

    Raises:
        ValueError: The blob is not what was written.
    """
    payload = blob.partition(b"\n")[2]
    if hashlib.blake2b(payload, digest_size=20).hexdigest() != _header(blob).get("checksum"):
        raise ValueError("its checksum does not match")
    return payload


def _loads(blob: bytes) -> Any:
    return joblib.load(io.BytesIO(_payload(blob)))
