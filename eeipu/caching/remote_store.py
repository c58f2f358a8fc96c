"""Entries as objects of any remote file system that fsspec reaches."""

import math
import os
import re
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from eeipu.caching.permissions import PRIVATE
from eeipu.caching.stores import Hits, Pending, Use
from eeipu.caching.unfinished_files import ABANDONED_S, UnfinishedFiles
from eeipu.serialization.entry_format import (
    Entry,
    Header,
    Segment,
    read_header_of,
    read_payload,
    write_entry,
)

__all__ = ["RemoteStore"]

_SUFFIX = ".stage"

# The names of objects that this module removes. It removes no others.
_PARTIAL = re.compile("[0-9a-f]{32}")
_QUARANTINED = re.compile(r".+\.[0-9a-f]{8}")

# With these protocols, an upload becomes visible as a whole when it ends. With any other, it gets a
# temporary name and is renamed at the end.
_UPLOADS_APPEAR_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"}

# The bytes that are requested to read a header: enough for nearly all, in one small request.
_HEADER_BLOCK_BYTES = 2**14


class RemoteStore:
    """One object for each entry. The last use of an entry is the time at which it was written.

    Args:
        fs: The fsspec file system.
        root: The cache's path in it.
        now: The time, in seconds since 1970.

    Attributes:
        fs: The fsspec file system.
        root: The cache's path in it.
        hits: Counts nothing.
    """

    def __init__(self, fs: Any, root: str, now: Callable[[], float] = time.time) -> None:
        self.fs = fs
        self.root = root
        self.hits: Hits = _NoHits()
        self._now = now
        # The folder is this user's own, so files of killed processes can be recognised and removed.
        local = Path(tempfile.gettempdir(), f"eeipu-{os.geteuid()}")
        self._unfinished = UnfinishedFiles(local, _mkdir_private, now=now)
        self._is_clean = False
        fs.makedirs(f"{root}/entries", exist_ok=True)

    def _path(self, key: str) -> str:
        return f"{self.root}/entries/{quote(key, safe='')}{_SUFFIX}"

    def contains(self, key: str) -> bool:
        """See `Store`; the file system is asked every time."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self._path(key)))

    def header(self, key: str) -> Header:
        """See `Store`."""
        with self._open(key, block_size=_HEADER_BLOCK_BYTES) as file:
            return read_header_of(file, key)

    def read(self, key: str) -> Entry:
        """See `Store`."""
        with self._open(key) as file:
            header = read_header_of(file, key)
            return Entry(header, read_payload(file, header), key)

    def _open(self, key: str, **options: Any) -> Any:
        self.fs.invalidate_cache()
        try:
            return self.fs.open(self._path(key), "rb", **options)
        except FileNotFoundError:
            raise KeyError(key) from None

    def signature(self, key: str) -> Hashable:
        """See `Store`; an entry under a content key is never replaced by a different one."""
        return key

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """See `Store`; the entry is written to a local file, which `commit` uploads."""
        if not self._is_clean:
            self._is_clean = True
            self._unfinished.clean()
        upload = _PendingUpload(self.fs, self.root, self._path(header.key), self._unfinished)
        try:
            upload.header = write_entry(upload.file, header, segments)
            return upload
        except BaseException:
            upload.discard()
            raise

    def sizes(self) -> dict[str, int]:
        """See `Store`."""
        return {key: use.size_bytes for key, use in self.uses().items()}

    def uses(self) -> dict[str, Use]:
        """See `Store`."""
        self.fs.invalidate_cache()
        found = sorted(
            (_changed_s(info), unquote(Path(path).name.removesuffix(_SUFFIX)), int(info["size"]))
            for path, info in self.fs.find(f"{self.root}/entries", detail=True).items()
            if path.endswith(_SUFFIX)
        )
        return {key: Use(size_bytes, used_s) for used_s, key, size_bytes in found}

    def delete(self, key: str) -> None:
        """See `Store`."""
        with suppress(FileNotFoundError):
            self.fs.rm_file(self._path(key))

    def quarantine(self, key: str) -> None:
        """See `Store`."""
        name = f"{quote(key, safe='')}.{uuid.uuid4().hex[:8]}"
        self.fs.makedirs(f"{self.root}/quarantine", exist_ok=True)
        with suppress(FileNotFoundError):  # another process was faster
            self.fs.mv(self._path(key), f"{self.root}/quarantine/{name}")

    def clean(self, *, thoroughly: bool = False) -> int:
        """See `Store`; only its age tells an abandoned upload of another host from a slow one."""
        removed = self._unfinished.clean()
        if thoroughly:
            removed += self._remove("partial", _PARTIAL, self._now() - ABANDONED_S)
            removed += self._remove("quarantine", _QUARANTINED)
        return removed

    def _remove(self, folder: str, named: re.Pattern[str], before_s: float = math.inf) -> int:
        """Remove the objects in a folder with such names that were written before a time."""
        self.fs.invalidate_cache()
        listed = self.fs.find(f"{self.root}/{folder}", detail=True)
        paths = [
            path
            for path, info in listed.items()
            if named.fullmatch(path.rpartition("/")[2]) and _changed_s(info, self._now()) < before_s
        ]
        for path in paths:
            with suppress(FileNotFoundError):
                self.fs.rm_file(path)
        return len(paths)

    def tidy(self) -> None:
        """See `Store`; most remote file systems have no folders."""


class _NoHits:
    """Counts no hits: a request for each would cost more than the count is worth."""

    def add(self, key: str, load_s: float) -> None:
        """See `Hits`."""

    def load_s(self, key: str) -> float | None:  # noqa: ARG002 - nothing is known of any key
        """See `Hits`."""
        return None


class _PendingUpload:
    """An entry in a local file, which is uploaded when it is committed."""

    header: Header

    def __init__(self, fs: Any, root: str, target: str, unfinished: UnfinishedFiles) -> None:
        self._fs = fs
        self._root = root
        self._target = target
        self._local, descriptor = unfinished.new()
        self.file = os.fdopen(descriptor, "wb")

    def commit(self) -> None:
        try:
            self._upload()
        finally:
            self.discard()

    def _upload(self) -> None:
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else self._fs.protocol
        if not _UPLOADS_APPEAR_WHOLE.isdisjoint(protocols):
            self._fs.put_file(self._local, self._target)
            return
        partial = f"{self._root}/partial/{uuid.uuid4().hex}"
        self._fs.makedirs(f"{self._root}/partial", exist_ok=True)
        try:
            self._fs.put_file(self._local, partial)
            self._fs.mv(partial, self._target)
        except BaseException:
            with suppress(OSError):
                self._fs.rm_file(partial)
            raise

    def discard(self) -> None:
        Path(self._local).unlink(missing_ok=True)
        with suppress(OSError):  # the buffered rest may not fit on the disk
            self.file.close()


def _mkdir_private(folder: Path) -> None:
    """Create a folder for this user alone, in a folder where everybody may create folders.

    Raises:
        PermissionError: Another user created it first.
    """
    PRIVATE.mkdir(folder)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(
            f"{folder} is not a folder of this user's; remove it, or set TMPDIR to another folder"
        )


def _changed_s(info: dict[str, Any], unknown_s: float = 0.0) -> float:
    """When an object was last written; the name of this detail depends on the file system."""
    stamp = info.get("mtime", info.get("LastModified", info.get("created")))
    if stamp is None:
        return unknown_s
    return float(stamp.timestamp() if hasattr(stamp, "timestamp") else stamp)
