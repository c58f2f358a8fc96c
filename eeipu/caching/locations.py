"""Opening the place that a cache is in: memory, a directory, or a remote file system."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from eeipu.caching.directory_store import DirectoryStore
from eeipu.caching.leases.claims import FilePins, Holders, LocalPins
from eeipu.caching.leases.lease import BeatingLeases, FileLeases, LocalLeases, has_locks
from eeipu.caching.remote_store import RemoteStore
from eeipu.caching.stores import MemoryStore, Store
from eeipu.errors import ConfigurationError, MissingExtraError

__all__ = ["Place", "open_place"]

Now = Callable[[], float]


@dataclass(frozen=True)
class Place:
    """Where entries are, and who needs which of them.

    Attributes:
        store: The entries.
        holders: Claims, uses and pins.
        is_slow: Whether reading takes longer than reading memory.
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
        shared: Whether a directory may be written to by others than this user.
        mapped: Whether values are mapped from their files, where those are local.
        durable: Whether entries in a directory must survive a power failure.
        now: Seconds since 1970.

    Raises:
        ConfigurationError: It is no place for a directory, or not a private one.
        MissingExtraError: Its file system needs a library that is not installed.
    """
    if location is None:
        return Place(MemoryStore(now), Holders(LocalLeases(), LocalPins(), now), is_slow=False)
    try:
        fs, root = fsspec.url_to_fs(location)
        if "file" in fs.protocol:
            store = DirectoryStore(
                Path(root), shared=shared, mapped=mapped, durable=durable, now=now
            )
            return _directory(fs, store, now)
        pins = FilePins(fs, f"{root}/pins")
        return Place(RemoteStore(fs, root, now), Holders(BeatingLeases(fs, root), pins, now))
    except ImportError as error:
        raise MissingExtraError(f"a cache at {location!r} cannot be reached: {error}") from error
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the cache location {location!r} cannot be used as a directory: {error}"
        ) from error


def _directory(fs: Any, store: DirectoryStore, now: Now) -> Place:
    root, settle = store.root, store.modes.settle
    leases = (
        FileLeases(root, store.modes)
        if has_locks(root)
        else BeatingLeases(fs, str(root), settle=settle)
    )
    return Place(store, Holders(leases, FilePins(fs, f"{root}/pins", settle), now))
