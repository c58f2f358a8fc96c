"""How often each entry in a directory was loaded by any process, and how long that took.

hits/ab/<digest of the key>   8 bytes for each hit: the seconds that loading took, as a float64
"""

import os
import re
import struct
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from eeipu.caching.cache_directory import CacheDirectory
from eeipu.caching.directory_listing import DirectoryListing

__all__ = ["HitLog", "digest_of"]

_HIT = struct.Struct("<d")

_DIGEST = re.compile("[0-9a-f]{32}")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@lru_cache(maxsize=4096)
def digest_of(key: str) -> str:
    """The digest that selects the folder of a key's files, and is the name of its file of hits."""
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class HitLog:
    """The hits of the entries in a cache's directory (`eeipu.caching.stores.Hits`)."""

    def __init__(self, directory: CacheDirectory) -> None:
        self._directory = directory
        self._root = f"{directory.root}/hits"
        self._listing = DirectoryListing(self._root, is_growing=True)

    def _path(self, key: str) -> str:
        # The key is not part of the name: somebody who searches for a key should find one file.
        digest = digest_of(key)
        return f"{self._root}/{digest[:2]}/{digest}"

    def add(self, key: str, load_s: float) -> None:
        """See `Hits`; a hit that cannot be written is not counted."""
        # The directory may be another user's, or the disk full. The value was loaded all the same.
        with suppress(OSError):
            descriptor = self._open(self._path(key))
            try:
                os.write(descriptor, _HIT.pack(load_s))
            finally:
                os.close(descriptor)

    def _open(self, path: str) -> int:
        try:
            return self._directory.modes.open(path, _APPEND)
        except FileNotFoundError:
            self._directory.mkdir(Path(path).parent)
            return self._directory.modes.open(path, _APPEND)

    def load_s(self, key: str) -> float | None:
        """See `Hits`."""
        try:
            content = Path(self._path(key)).read_bytes()
        except OSError:
            return None
        whole = content[: len(content) // _HIT.size * _HIT.size]
        times = [load_s for (load_s,) in _HIT.iter_unpack(whole)]
        return sum(times) / len(times) if times else None

    def counts(self) -> dict[str, tuple[int, float]]:
        """The number of hits and the time of the last one (seconds since 1970), by key digest."""
        found = self._listing.files()
        return {name: (size // _HIT.size, used_s) for name, (size, used_s) in found.items()}

    def forget(self, key: str) -> None:
        """Remove the hits of a key."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(key))

    def clean(self, keys: set[str]) -> int:
        """Remove the hits of all keys except these, and return the number of files removed."""
        wanted = set(map(digest_of, keys))
        gone = [d for d in self._listing.files() if _DIGEST.fullmatch(d) and d not in wanted]
        for digest in gone:
            with suppress(FileNotFoundError):
                os.unlink(f"{self._root}/{digest[:2]}/{digest}")
        return len(gone)
