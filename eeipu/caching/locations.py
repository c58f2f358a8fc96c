"""Opening the location of a cache: memory, a directory, or a remote file system."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eeipu.caching.directory_store import DirectoryStore
from eeipu.caching.leases.claims import Holders
from eeipu.caching.leases.file_locks import FileLeases, has_locks
from eeipu.caching.leases.heartbeats import HeartbeatLeases
from eeipu.caching.leases.local_files import LocalFiles
from eeipu.caching.leases.memory import MemoryLeases
from eeipu.caching.leases.pins import FilePins, MemoryPins
from eeipu.caching.memory_store import MemoryStore
from eeipu.caching.remote_store import RemoteStore
from eeipu.caching.stores import Store
from eeipu.errors import CacheAccessError, ConfigurationError, EeipuError, MissingExtraError

__all__ = ["Place", "accessing", "is_occupied", "open_place"]

Now = Callable[[], float]

# What fsspec may take for something else than a path: "s3://...", "local:...", chained URLs.
_MAYBE_URL = re.compile(r"[A-Za-z][\w+.-]*:|.*::")


@dataclass(frozen=True)
class Place:
    """An opened location.

    Attributes:
        store: The entries.
        holders: The claims on entries, their uses and their pins.
        is_slow: Whether reading an entry takes longer than copying it in memory.
    """

    store: Store
    holders: Holders
    is_slow: bool = True


def open_place(
    location: str | None,
    *,
    shared: bool = False,
    mapped: bool = False,
    durable: bool = True,
    now: Now = time.time,
) -> Place:
    """Open a location.

    Args:
        location: `None` for memory, a path, or an fsspec URL.
        shared: Whether other users may write to a directory.
        mapped: Whether values are mapped from their files, if these are local.
        durable: Whether entries in a directory must survive a power failure.
        now: The time, in seconds since 1970.

    Raises:
        ConfigurationError: The location cannot be a cache's directory, is not private, or cannot be
            reached.
        MissingExtraError: Its file system needs a library that is not installed.
    """
    if location is None:
        return Place(MemoryStore(now), Holders(MemoryLeases(), MemoryPins(), now), is_slow=False)
    with _reaching(location):
        fs, root = _file_system(location)
        if fs is None:
            store = DirectoryStore(
                Path(root), shared=shared, mapped=mapped, durable=durable, now=now
            )
            return Place(store, _directory_holders(store, now))
        pins = FilePins(fs, f"{root}/pins")
        return Place(RemoteStore(fs, root, now), Holders(HeartbeatLeases(fs, root), pins, now))


def is_occupied(location: str) -> bool:
    """Whether there is anything at a location. Nothing is created.

    Raises:
        ConfigurationError: The location cannot be reached.
        MissingExtraError: Its file system needs a library that is not installed.
    """
    with _reaching(location):
        fs, root = _file_system(location)
        if fs is None:
            return os.path.isfile(root) or (os.path.isdir(root) and bool(os.listdir(root)))
        return bool(fs.exists(root) and fs.ls(root))


def _file_system(location: str) -> tuple[Any, str]:
    """The fsspec file system of a location, `None` for this machine's, and the path in it."""
    if _MAYBE_URL.match(location) is None:
        return None, str(Path(os.path.expanduser(location)).absolute())
    import fsspec  # which takes longer than to open a directory

    fs, root = fsspec.url_to_fs(location)
    return (None if "file" in fs.protocol else fs), root


@contextmanager
def _reaching(location: str) -> Iterator[None]:
    """Say which location it is that cannot be used, and what to do about it."""

    def unusable(said: str) -> EeipuError:
        return ConfigurationError(
            f"the cache location {location!r} cannot be used as a directory: {said}; "
            f"{_remedy(location)}"
        )

    with _explained(unusable):
        try:
            yield
        except ImportError as error:
            missing = f"a cache at {location!r} cannot be reached: {error}"
            raise MissingExtraError(missing) from error


@contextmanager
def accessing(cache: object, what: str) -> Iterator[None]:
    """Say which cache it is that fails, and what to do about it.

    Args:
        cache: The cache, for the message.
        what: What cannot be done with it, if that fails.

    Raises:
        CacheAccessError: In place of the errors that file systems raise.
    """

    def failed(said: str) -> EeipuError:
        return CacheAccessError(
            f"{cache!r} cannot be {what}: {said}; check that there is room, and that this user may "
            f"read and write everything in it."
        )

    with _explained(failed):
        yield


@contextmanager
def _explained(make: Callable[[str], EeipuError]) -> Iterator[None]:
    """Raise an error of eeipu's in place of one of a file system, which has types of its own.

    Args:
        make: Makes the error, of what the file system says.
    """
    try:
        yield
    except EeipuError:
        raise
    except Exception as error:
        raise make(str(error) or repr(error)) from error


def _remedy(location: str) -> str:
    if "://" in location:
        return (
            "check the address, the network, and that the library of this file system finds your "
            "credentials, such as AWS_ACCESS_KEY_ID or ~/.aws/credentials for s3://."
        )
    return "choose a directory that this user can create and write to."


def _directory_holders(store: DirectoryStore, now: Now) -> Holders:
    root, set_mode = store.root, store.modes.set_mode
    pins = FilePins(LocalFiles(), f"{root}/pins", set_mode)
    if has_locks(root):
        return Holders(FileLeases(root, store.modes), pins, now)
    import fsspec

    fs = fsspec.filesystem("file")
    return Holders(HeartbeatLeases(fs, str(root), set_mode=set_mode), pins, now)
