"""Files of this machine, with the methods of an fsspec file system that pins call.

fsspec itself takes as long to import as everything else that a look at a cache in a directory
needs.
"""

import os
from pathlib import Path

__all__ = ["LocalFiles"]


class LocalFiles:
    """See `fsspec.AbstractFileSystem` for the meaning of each method."""

    def makedirs(self, path: str, *, exist_ok: bool) -> None:
        """Make a folder, and those above it."""
        Path(path).mkdir(parents=True, exist_ok=exist_ok)

    def pipe_file(self, path: str, value: bytes) -> None:
        """Write a file."""
        Path(path).write_bytes(value)

    def cat_file(self, path: str) -> bytes:
        """Read a file."""
        return Path(path).read_bytes()

    def mv(self, path1: str, path2: str) -> None:
        """Give a file another name in the same folder, in one step."""
        Path(path1).replace(path2)

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        Path(path).unlink()

    def find(self, path: str) -> list[str]:
        """The files below a folder, sorted; none if there is no such folder."""
        return sorted(f"{top}/{name}" for top, _, names in os.walk(path) for name in names)

    def invalidate_cache(self) -> None:
        """Nothing is remembered of a folder."""
