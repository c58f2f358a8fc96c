"""Entries in a directory: one file each, which becomes visible as a whole or not at all.

eeipu-cache                 marks the directory as a cache's (`eeipu.caching.cache_directory`)
entries/ab/<key>.stage      the entries, in 256 folders named by a digest of the key
hits/ab/<digest>            how often each entry was loaded (`eeipu.caching.hit_log`)
partial/<name>              entries that are being written (`eeipu.caching.unfinished_files`)
quarantine/<key>.<name>     damaged entries, until `StageCache.gc` removes them
locks/ uses/ pins/          claims, uses and pins (`eeipu.caching.leases.claims`)

Only files with such names are ever removed. Any other file is left alone.
"""

import mmap
import os
import re
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from io import BytesIO, FileIO
from pathlib import Path
from urllib.parse import quote

from eeipu.caching.cache_directory import CacheDirectory
from eeipu.caching.directory_listing import DirectoryListing
from eeipu.caching.hit_log import HitLog, digest_of
from eeipu.caching.permissions import WRITABLE_BY_OTHERS, Modes
from eeipu.caching.stores import Pending, Use
from eeipu.caching.unfinished_files import UnfinishedFiles
from eeipu.serialization.entry_format import (
    DamagedEntry,
    Entry,
    Header,
    Segment,
    mapped_payload,
    read_header_of,
    read_payload,
    write_entry,
)

__all__ = ["DirectoryStore"]

_SUFFIX = ".stage"

# A file up to this size is read with one request, which is faster than several small ones.
_SMALL_BYTES = 2**16

_NOT_OURS = (
    "it is another user's, or others can write to it; StageCache(..., shared=True) accepts such "
    "entries"
)

# The names of files and folders that this module removes. It removes no others.
_QUARANTINED = re.compile(r".+\.[0-9a-f]{8}")
_FOLDER = re.compile("[0-9a-f]{2}")


class DirectoryStore:
    """One file for each entry, on a local or shared file system.

    Args:
        root: The directory. If it does not exist, it is created for this user alone.
        shared: Whether other users may write to it.
        mapped: Whether values are mapped from their files instead of being read.
        durable: Whether an entry must survive a power failure from its `commit` on.
        now: The time, in seconds since 1970.

    Raises:
        ConfigurationError: Other users can write to the directory and it is not `shared`, or it is
            not empty and not a cache.
        OSError: It cannot be created, or is empty and cannot be written to.

    Attributes:
        root: The directory.
        hits: The hits of the entries.
    """

    def __init__(
        self,
        root: Path,
        *,
        shared: bool = False,
        mapped: bool = False,
        durable: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._directory = CacheDirectory(root, shared=shared, durable=durable)
        self.root = root
        self._shared = shared
        self._mapped = mapped
        self._listing = DirectoryListing(f"{root}/entries", _SUFFIX)
        self.hits = HitLog(self._directory)
        self._unfinished = UnfinishedFiles(root / "partial", self._directory.mkdir, self.modes, now)
        self._is_clean = False

    @property
    def modes(self) -> Modes:
        """The modes of the files and folders in the directory."""
        return self._directory.modes

    def contains(self, key: str) -> bool:
        """See `Store`."""
        path = _path(self.root, key)
        if os.path.exists(path):
            return True
        # Clients of a network file system remember for a while that a file did not exist. Opening
        # its folder makes them look again.
        with suppress(FileNotFoundError):
            os.close(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY))
            return os.path.exists(path)
        return False

    def header(self, key: str) -> Header:
        """See `Store`."""
        file, _ = self._open(key)
        with file:
            return read_header_of(file, key)

    def read(self, key: str) -> Entry:
        """See `Store`."""
        file, signature = self._open(key)
        with file:
            header = read_header_of(file, key)
            if self._mapped and isinstance(file, FileIO):
                return Entry(header, _map(file, header), signature)
            return Entry(header, read_payload(file, header), signature)

    def _open(self, key: str) -> tuple[FileIO | BytesIO, Hashable]:
        """The open file of an entry, or its content if it is small, and its signature."""
        try:
            descriptor = os.open(_path(self.root, key), os.O_RDONLY)
        except FileNotFoundError:
            raise KeyError(key) from None
        try:
            status = os.fstat(descriptor)
            is_others = status.st_mode & WRITABLE_BY_OTHERS or status.st_uid != os.geteuid()
            if is_others and not self._shared:
                raise PermissionError(_NOT_OURS)
            if status.st_size <= _SMALL_BYTES:
                return BytesIO(os.read(descriptor, status.st_size + 1)), _signature(status)
            file, descriptor = FileIO(descriptor), -1
            return file, _signature(status)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def signature(self, key: str) -> Hashable:
        """See `Store`."""
        try:
            return _signature(os.stat(_path(self.root, key)))
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(key) from None

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """See `Store`."""
        if not self._is_clean:  # on the first write: a cache that is only read changes nothing
            self._is_clean = True
            self.clean()
        pending = _PendingFile(self._directory, self._unfinished, header.key)
        try:
            pending.header = write_entry(
                pending.file, header, segments, durable=self._directory.durable
            )
        except BaseException:
            pending.discard()
            raise
        return pending

    def sizes(self) -> dict[str, int]:
        """See `Store`."""
        return {key: size_bytes for key, (size_bytes, _) in self._listing.files().items()}

    def uses(self) -> dict[str, Use]:
        """See `Store`."""
        hits = self.hits.counts()
        found = []
        for key, (size_bytes, written_s) in self._listing.files().items():
            count, hit_s = hits.get(digest_of(key), (0, 0.0))
            used_s = max(written_s, hit_s)
            found.append((used_s, key, Use(size_bytes, used_s, count)))
        return {key: use for _, key, use in sorted(found, key=lambda each: each[:2])}

    def delete(self, key: str) -> None:
        """See `Store`."""
        with suppress(FileNotFoundError):
            os.unlink(_path(self.root, key))
        self.hits.forget(key)

    def quarantine(self, key: str) -> None:
        """See `Store`."""
        folder = self.root / "quarantine"
        self._directory.mkdir(folder)
        name = f"{quote(key, safe='')}.{uuid.uuid4().hex[:8]}"
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(_path(self.root, key), folder / name)
            self.hits.forget(key)

    def clean(self, *, thoroughly: bool = False) -> int:
        """See `Store`."""
        removed = self._unfinished.clean()
        if thoroughly:
            removed += self.hits.clean(set(self.sizes()))
            removed += _remove(_paths(self.root / "quarantine", _QUARANTINED))
        return removed

    def tidy(self) -> None:
        """See `Store`; the folders `partial`, `locks` and `uses` stay."""
        for kind in ("entries", "hits"):
            folders = _paths(self.root / kind, _FOLDER)
            for path in (*folders, self.root / kind):
                with suppress(OSError):  # it is not empty
                    path.rmdir()


class _PendingFile:
    """An entry whose file is in the folder `partial` until it is committed."""

    header: Header

    def __init__(self, directory: CacheDirectory, unfinished: UnfinishedFiles, key: str) -> None:
        self._directory = directory
        self._target = _path(directory.root, key)
        self._path, descriptor = unfinished.new()
        self.file = os.fdopen(descriptor, "wb")

    def commit(self) -> None:
        try:
            self._move()
        except BaseException:
            self.discard()
            raise
        self.file.close()

    def _move(self) -> None:
        """Rename the file to where readers look for it, so that the new name lasts."""
        folder = os.path.dirname(self._target)
        while True:
            try:
                self._directory.mkdir(Path(folder))
                os.replace(self._path, self._target)
                break
            except FileNotFoundError:  # `tidy` may have removed the folder while it was empty
                if not os.path.exists(self._path):
                    raise
        self._directory.sync(folder)

    def discard(self) -> None:
        with suppress(OSError):
            os.unlink(self._path)
        with suppress(OSError):  # the buffered rest may not fit on the disk
            self.file.close()


def _path(root: Path, key: str) -> str:
    return f"{root}/entries/{digest_of(key)[:2]}/{quote(key, safe='')}{_SUFFIX}"


def _signature(status: os.stat_result) -> Hashable:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _paths(folder: Path, named: re.Pattern[str]) -> list[Path]:
    """The files or folders in a folder whose names match a pattern."""
    try:
        return [path for path in folder.iterdir() if named.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove(paths: list[Path]) -> int:
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _map(file: FileIO, header: Header) -> list[memoryview]:
    """The segments of an open file, mapped so that changes to them never reach the file."""
    start = file.tell()
    if os.fstat(file.fileno()).st_size != start + header.payload_bytes:
        raise DamagedEntry("its file has another size than the one that was written")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return mapped_payload(memoryview(mapped)[start:], header)
