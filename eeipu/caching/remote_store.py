"""Entries as objects of a remote file system: whatever fsspec reaches."""

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

from eeipu.caching.cache_directory import PRIVATE
from eeipu.caching.stores import Pending
from eeipu.caching.unfinished_files import ABANDONED_S, Partials
from eeipu.serialization.entry_format import (
    Entry,
    Header,
    Segment,
    Use,
    read_header_of,
    read_payload,
    write_entry,
)

__all__ = ["RemoteStore"]

_SUFFIX = ".stage"

# What this module calls its own objects, and nothing else is removed.
_PARTIAL = re.compile("[0-9a-f]{32}")
_QUARANTINED = re.compile(r".+\.[0-9a-f]{8}")

# Here an upload appears whole, when it ends; elsewhere it is given another name until then.
_UPLOADS_APPEAR_WHOLE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"}


class RemoteStore:
    """One object an entry. An entry's last use is when it was written.

    Args:
        fs: The fsspec file system.
        root: The place in it.
        now: Seconds since 1970.
    """

    def __init__(self, fs: Any, root: str, now: Callable[[], float] = time.time) -> None:
        self.fs = fs
        self.root = root
        self._now = now
        # A folder of this user's own: what a killed process left in it can be told and removed.
        local = Path(tempfile.gettempdir(), f"eeipu-{os.geteuid()}")
        self._partials = Partials(local, _make_own, now=now)
        self._is_clean = False
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self._uploads_appear_whole = bool(protocols & _UPLOADS_APPEAR_WHOLE)
        fs.makedirs(f"{root}/entries", exist_ok=True)

    def _path(self, key: str) -> str:
        return f"{self.root}/entries/{quote(key, safe='')}{_SUFFIX}"

    def read(self, key: str) -> Entry:
        """See `Store`."""
        with self._opened(key) as file:
            header = read_header_of(file, key)
            return Entry(header, read_payload(file, header), key)

    def header(self, key: str) -> Header:
        """See `Store`."""
        with self._opened(key, block_size=2**14) as file:
            return read_header_of(file, key)

    def _opened(self, key: str, **options: Any) -> Any:
        self.fs.invalidate_cache()
        try:
            return self.fs.open(self._path(key), "rb", **options)
        except FileNotFoundError:
            raise KeyError(key) from None

    def signature(self, key: str) -> Hashable:
        """See `Store`; what is under a content key is not replaced by something else."""
        return key

    def contains(self, key: str) -> bool:
        """Whether there is an entry, asked of the file system now."""
        self.fs.invalidate_cache()
        return bool(self.fs.exists(self._path(key)))

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """See `Store`."""
        if not self._is_clean:
            self._is_clean = True
            self._partials.clean()
        upload = _Upload(self, self._partials)
        try:
            upload.header = write_entry(upload.file, header, segments)
            return upload
        except BaseException:
            upload.discard()
            raise

    def upload(self, local: str, key: str) -> None:
        """Copy a written entry to where readers look."""
        if self._uploads_appear_whole:
            self.fs.put_file(local, self._path(key))
            return
        partial = f"{self.root}/partial/{uuid.uuid4().hex}"
        self.fs.makedirs(f"{self.root}/partial", exist_ok=True)
        try:
            self.fs.put_file(local, partial)
            self.fs.mv(partial, self._path(key))
        except BaseException:
            with suppress(OSError):
                self.fs.rm_file(partial)
            raise

    def mark(self, key: str, load_s: float) -> None:
        """See `Store`; a request for every hit would cost more than it tells."""

    def load_s(self, key: str) -> float | None:  # noqa: ARG002 - see `mark`
        """See `Store`."""
        return None

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
        with suppress(FileNotFoundError):  # another reader was faster
            self.fs.mv(self._path(key), f"{self.root}/quarantine/{name}")

    def clean(self, *, thoroughly: bool = False) -> int:
        """See `Store`; nothing tells a dead host's upload from a slow one's but its age."""
        removed = self._partials.clean()
        if thoroughly:
            removed += self._remove("partial", _PARTIAL, self._now() - ABANDONED_S)
            removed += self._remove("quarantine", _QUARANTINED)
        return removed

    def _remove(self, folder: str, named: re.Pattern[str], before_s: float = math.inf) -> int:
        """Remove the objects in a folder that have such names and were written before a time."""
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


class _Upload:
    """An entry in a local file."""

    header: Header

    def __init__(self, store: RemoteStore, partials: Partials) -> None:
        self._store = store
        self._local, descriptor = partials.new()
        self.file = os.fdopen(descriptor, "wb")

    def commit(self) -> None:
        try:
            self._store.upload(self._local, self.header.key)
        finally:
            self.discard()

    def discard(self) -> None:
        Path(self._local).unlink(missing_ok=True)
        with suppress(OSError):  # what is buffered may not fit on the disk either
            self.file.close()


def _make_own(folder: Path) -> None:
    """Make a folder for this user alone, in a place where everyone may make folders.

    Raises:
        PermissionError: Somebody else made it first.
    """
    PRIVATE.mkdir(folder)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(
            f"{folder} is not a folder of this user's; remove it, or set TMPDIR to another place"
        )


def _changed_s(info: dict[str, Any], unknown_s: float = 0.0) -> float:
    """When a file was last written; file systems differ in what they call it."""
    stamp = info.get("mtime", info.get("LastModified", info.get("created")))
    if stamp is None:
        return unknown_s
    return float(stamp.timestamp() if hasattr(stamp, "timestamp") else stamp)
