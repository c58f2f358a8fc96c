"""How often entries were loaded, by any process, and how long that took.

hits/ab/<digest of the key>   8 bytes for every time: the seconds it took
"""

import os
import re
import struct
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from eeipu.caching.cache_directory import CacheDirectory
from eeipu.caching.directory_listing import Listing

__all__ = ["Hits", "digest_of"]

_HIT = struct.Struct("<d")

_DIGEST = re.compile("[0-9a-f]{32}")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@lru_cache(maxsize=4096)
def digest_of(key: str) -> str:
    """What spreads keys over folders, and names the file of a key's hits."""
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


class Hits:
    """The hits of the entries in a directory."""

    def __init__(self, directory: CacheDirectory) -> None:
        self._directory = directory
        self._root = f"{directory.root}/hits"
        self._listing = Listing(self._root, is_growing=True)

    def _path(self, key: str) -> str:
        # Not under the key itself: whoever looks for a key's file should find one.
        digest = digest_of(key)
        return f"{self._root}/{digest[:2]}/{digest}"

    def add(self, key: str, load_s: float) -> None:
        """Count one that took so many seconds."""
        # The directory may be somebody else's, or the disk full: a hit is a hit.
        with suppress(OSError):
            descriptor = self._opened(self._path(key))
            try:
                os.write(descriptor, _HIT.pack(load_s))
            finally:
                os.close(descriptor)

    def _opened(self, path: str) -> int:
        try:
            return self._directory.modes.open(path, _APPEND)
        except FileNotFoundError:
            self._directory.mkdir(Path(path).parent)
            return self._directory.modes.open(path, _APPEND)

    def counts(self) -> dict[str, tuple[int, float]]:
        """The digest of a key -> its hits and the time of the last."""
        found = self._listing.files()
        return {name: (size // _HIT.size, used_s) for name, (size, used_s) in found.items()}

    def load_s(self, key: str) -> float | None:
        """What loading took, on average; `None` if there was no hit."""
        try:
            marks = Path(self._path(key)).read_bytes()
        except OSError:
            return None
        whole = marks[: len(marks) // _HIT.size * _HIT.size]
        times = [load_s for (load_s,) in _HIT.iter_unpack(whole)]
        return sum(times) / len(times) if times else None

    def forget(self, key: str) -> None:
        """Remove the hits of a key."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(key))

    def clean(self, keys: set[str]) -> int:
        """Remove the hits of all but these keys; their number."""
        wanted = set(map(digest_of, keys))
        gone = [d for d in self._listing.files() if _DIGEST.fullmatch(d) and d not in wanted]
        for digest in gone:
            with suppress(FileNotFoundError):
                os.unlink(f"{self._root}/{digest[:2]}/{digest}")
        return len(gone)
