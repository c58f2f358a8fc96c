"""What the cache expects of a store, the place where its entries are.

There are three stores, one module each: `memory_store`, `directory_store` and `remote_store`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from eeipu.errors import ConfigurationError
from eeipu.serialization.entry_format import Entry, Header, Segment

__all__ = ["Hits", "Pending", "Store", "Use", "check_key", "is_key"]

# Keys are names of files, which have at most 255 bytes on nearly all file systems. The rest is room
# for what stores append to them.
MAX_KEY_BYTES = 240


def is_key(key: object) -> bool:
    """Whether stores can have an entry under this key."""
    try:
        return isinstance(key, str) and len(quote(key, safe="")) <= MAX_KEY_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def check_key(key: object) -> None:
    """Refuse what cannot be a key.

    A key is text of at most `MAX_KEY_BYTES` bytes. Letters and digits of ASCII take one byte, and
    nearly all other characters at least three.

    Raises:
        ConfigurationError: It is something else, or too long.
    """
    if not is_key(key):
        raise ConfigurationError(
            f"a key names a file, and so must be text of at most {MAX_KEY_BYTES} bytes, but got "
            f"{key!r:.80}; use a digest, such as hashlib.sha256(key.encode()).hexdigest()."
        )


@dataclass(frozen=True)
class Use:
    """What a store knows about an entry without reading it.

    Attributes:
        size_bytes: The size of the entry.
        used_s: When it was last written or loaded, in seconds since 1970.
        hits: How often it was loaded.
    """

    size_bytes: int
    used_s: float
    hits: int = 0


class Hits(Protocol):
    """How often the entries of a store were loaded, and how long that took."""

    def add(self, key: str, load_s: float) -> None:
        """Count a hit on an entry, which took `load_s` seconds to load."""
        ...

    def load_s(self, key: str) -> float | None:
        """The average loading time of an entry in seconds, or `None` if it is not known."""
        ...


class Pending(Protocol):
    """A new entry that is written but not visible yet."""

    header: Header

    def commit(self) -> None:
        """Make the entry visible, in place of the former entry under its key."""
        ...

    def discard(self) -> None:
        """Remove what was written."""
        ...


class Store(Protocol):
    """Entries under keys. A method that reads raises `KeyError` if there is no entry."""

    @property
    def hits(self) -> Hits:
        """The hits of the entries."""
        ...

    def contains(self, key: str) -> bool:
        """Whether there is an entry under a key now."""
        ...

    def header(self, key: str) -> Header:
        """The header of an entry; raises the same errors as `read`."""
        ...

    def read(self, key: str) -> Entry:
        """An entry whose segments belong to the caller, who may change them.

        Raises:
            KeyError: There is no entry under this key.
            DamagedEntry: The bytes are not those that were written.
            OSError: The entry cannot be read.
        """
        ...

    def signature(self, key: str) -> Hashable:
        """A value that changes when the entry under a key is replaced."""
        ...

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """Write an entry without making it visible yet."""
        ...

    def sizes(self) -> dict[str, int]:
        """The size of each entry in bytes, by key."""
        ...

    def uses(self) -> dict[str, Use]:
        """The size, last use and hits of each entry, by key, the least recently used first."""
        ...

    def delete(self, key: str) -> None:
        """Remove an entry if there is one."""
        ...

    def quarantine(self, key: str) -> None:
        """Move a damaged entry to where nobody loads it."""
        ...

    def clean(self, *, thoroughly: bool = False) -> int:
        """Remove the files that killed processes left, and return their number.

        Args:
            thoroughly: Also look for files that only a listing of the whole cache shows, and
                remove the entries in quarantine.
        """
        ...

    def tidy(self) -> None:
        """Remove empty folders. Call it during `Holders.upkeep`."""
        ...
