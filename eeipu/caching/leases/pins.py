"""Pins: which keys each study or search plan keeps, noted in memory or in files."""

import json
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Protocol

__all__ = ["FilePins", "MemoryPins", "Pins"]

_SUFFIX = ".json"

# The name of a file while it is being written.
_UNFINISHED = re.compile("[0-9a-f]{32}")


class Pins(Protocol):
    """The keys that each owner keeps. An owner is a study or a search plan, by its name."""

    def write(self, owner: str, keys: list[str], now_s: float) -> None:
        """Replace the keys that the owner keeps."""
        ...

    def read(self) -> dict[str, tuple[list[str], float]]:
        """The keys of each owner, and the time at which they were written."""
        ...

    def clean(self, oldest_s: float) -> int:
        """Remove the files of killed writers, and old pins.

        Args:
            oldest_s: Pins that were written at this time or earlier are removed (in seconds since
                1970).

        Returns:
            The number of files that were removed.
        """
        ...


class MemoryPins:
    """The pins of a cache in memory."""

    def __init__(self) -> None:
        self._pins: dict[str, tuple[list[str], float]] = {}

    def write(self, owner: str, keys: list[str], now_s: float) -> None:
        """See `Pins`."""
        self._pins[owner] = (keys, now_s)

    def read(self) -> dict[str, tuple[list[str], float]]:
        """See `Pins`."""
        return dict(self._pins)

    def clean(self, oldest_s: float) -> int:
        """See `Pins`."""
        old = [owner for owner, (_, since_s) in self._pins.items() if since_s <= oldest_s]
        for owner in old:
            del self._pins[owner]
        return len(old)


class FilePins:
    """One small JSON file for each owner, on any file system that fsspec reaches.

    Args:
        fs: The fsspec file system, or `LocalFiles`.
        folder: The folder of the files.
        set_mode: Gives a new file or folder its mode. By default nothing is done, because remote
            file systems have no modes.
    """

    def __init__(
        self, fs: Any, folder: str, set_mode: Callable[[str], None] = lambda _: None
    ) -> None:
        self._fs = fs
        self._folder = folder
        self._set_mode = set_mode

    def _path(self, owner: str) -> str:
        return f"{self._folder}/{blake2b(owner.encode(), digest_size=16).hexdigest()}{_SUFFIX}"

    def write(self, owner: str, keys: list[str], now_s: float) -> None:
        """See `Pins`."""
        body = json.dumps({"owner": owner, "keys": keys, "since_s": now_s}).encode()
        self._fs.makedirs(self._folder, exist_ok=True)
        self._set_mode(self._folder)
        # Nobody may see half a file: a key that is missing from it could be dropped.
        unfinished = f"{self._folder}/{uuid.uuid4().hex}"
        self._fs.pipe_file(unfinished, body)
        self._set_mode(unfinished)
        self._fs.mv(unfinished, self._path(owner))

    def read(self) -> dict[str, tuple[list[str], float]]:
        """See `Pins`."""
        pins = {}
        for path in self._paths(_SUFFIX):
            # A file that is damaged, or was just removed, pins nothing and disturbs nobody.
            with suppress(ValueError, KeyError, TypeError, FileNotFoundError):
                pin = json.loads(self._fs.cat_file(path))
                pins[pin["owner"]] = (list(pin["keys"]), float(pin["since_s"]))
        return pins

    def clean(self, oldest_s: float) -> int:
        """See `Pins`."""
        old = [
            self._path(owner) for owner, (_, since_s) in self.read().items() if since_s <= oldest_s
        ]
        # A file with any other name belongs to somebody else and is left alone.
        unwanted = old + [
            path for path in self._paths("") if _UNFINISHED.fullmatch(path.rpartition("/")[2])
        ]
        for path in unwanted:
            self._fs.rm_file(path)
        return len(unwanted)

    def _paths(self, suffix: str) -> list[str]:
        self._fs.invalidate_cache()
        return [path for path in self._fs.find(self._folder) if path.endswith(suffix)]
