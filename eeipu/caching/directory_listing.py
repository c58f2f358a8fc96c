"""Lists the files of a store's 256 folders, each again only after it has changed."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import unquote

__all__ = ["DirectoryListing"]

# A folder that changed less than this time before it was listed may have changed again without a
# new time stamp: within a few ticks of the kernel's clock, or within two seconds if the file system
# stores whole seconds.
_TICK_NS = 50_000_000
_WHOLE_SECOND_NS = 2_000_000_000


@dataclass
class _Folder:
    """The content of a folder when it was last listed."""

    changed_ns: int = -1
    listed_ns: int = 0
    files: dict[str, tuple[int, float]] = field(default_factory=dict)


class DirectoryListing:
    """The files in all sub-folders of a folder.

    Args:
        root: The folder.
        suffix: The end of the files' names, which is removed from the names.
        is_growing: Whether data is appended to existing files. The time stamp of their folder does
            not show that, so the folder is listed every time.
    """

    def __init__(self, root: str, suffix: str = "", *, is_growing: bool = False) -> None:
        self._root = root
        self._suffix = suffix
        self._is_growing = is_growing
        self._folders: dict[str, _Folder] = {}

    def files(self) -> dict[str, tuple[int, float]]:
        """The size in bytes and the time of the last change (seconds since 1970) by file name."""
        listed: dict[str, tuple[int, float]] = {}
        try:
            folders = os.listdir(self._root)
        except FileNotFoundError:
            return listed
        for name in folders:
            listed |= self._in_folder(name)
        return listed

    def _in_folder(self, name: str) -> dict[str, tuple[int, float]]:
        known = self._folders.get(name, _Folder())
        path = f"{self._root}/{name}"
        try:
            changed_ns = os.stat(path).st_mtime_ns
        except FileNotFoundError:
            return {}
        tick_ns = _WHOLE_SECOND_NS if changed_ns % 10**9 == 0 else _TICK_NS
        is_settled = known.listed_ns - known.changed_ns > tick_ns
        if self._is_growing or changed_ns != known.changed_ns or not is_settled:
            known = _Folder(changed_ns, time.time_ns(), _files(path, self._suffix))
            self._folders[name] = known
        return known.files


def _files(path: str, suffix: str) -> dict[str, tuple[int, float]]:
    """The size and the time of the last change of each file in one folder."""
    files: dict[str, tuple[int, float]] = {}
    try:
        listed = os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        return files
    with listed:
        for each in listed:
            with suppress(FileNotFoundError):  # it was removed since the folder was listed
                status = each.stat()
                name = unquote(each.name.removesuffix(suffix))
                files[name] = (status.st_size, status.st_mtime)
    return files
