"""Entries in a directory: one file each, which appears whole or not at all.

eeipu-cache                 says that this is a cache's (`eeipu.caching.cache_directory`)
entries/ab/<key>.stage      the entries, in 256 folders by a digest of the key
hits/ab/<digest>            how often each was loaded (`eeipu.caching.hit_log`)
partial/<name>              entries that are being written (`eeipu.caching.unfinished_files`)
quarantine/<key>.<name>     damaged entries, until `gc`
locks/ uses/ pins/          see `eeipu.caching.leases.claims`

Whatever else somebody put there is left alone: only files with such names are removed.
"""

import mmap
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from io import BytesIO, FileIO
from pathlib import Path
from urllib.parse import quote

from eeipu.caching.cache_directory import CacheDirectory, Modes
from eeipu.caching.directory_listing import Listing
from eeipu.caching.hit_log import Hits, digest_of
from eeipu.caching.stores import Pending
from eeipu.caching.unfinished_files import Partials
from eeipu.serialization.entry_format import (
    DamagedEntry,
    Entry,
    Header,
    Segment,
    Use,
    mapped_payload,
    read_header_of,
    read_payload,
    write_entry,
)

__all__ = ["DirectoryStore"]

_SUFFIX = ".stage"

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

# What is read in one piece: the files of small values.
_SMALL_BYTES = 2**16

_NOT_OURS = (
    "it is another user's, or others can write to it; StageCache(..., shared=True) takes such "
    "entries"
)

# What this module calls its own files, and nothing else is removed.
_QUARANTINED = re.compile(r".+\.[0-9a-f]{8}")
_FOLDER = re.compile("[0-9a-f]{2}")


class DirectoryStore:
    """One file an entry, on a local or shared file system.

    Args:
        root: The directory; it is made, for this user alone, where there is none.
        shared: Whether others may write to it too.
        mapped: Whether values are mapped from their files instead of read.
        durable: Whether entries must survive a power failure as soon as they are placed.
        now: Seconds since 1970.

    Raises:
        ConfigurationError: Others can write to the directory, and it is not `shared`; or it holds
            something, and that is not a cache.
        OSError: It cannot be made, or is empty and cannot be written to.
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
        self._listing = Listing(f"{root}/entries", _SUFFIX)
        self._hits = Hits(self._directory)
        self._partials = Partials(root / "partial", self._directory.mkdir, self.modes, now)
        self._is_clean = False

    @property
    def modes(self) -> Modes:
        """The modes of what is in the directory."""
        return self._directory.modes

    def read(self, key: str) -> Entry:
        """See `Store`."""
        file, signature = self._opened(key)
        with file:
            header = read_header_of(file, key)
            if self._mapped and isinstance(file, FileIO):
                return Entry(header, _map(file, header), signature)
            return Entry(header, read_payload(file, header), signature)

    def header(self, key: str) -> Header:
        """See `Store`."""
        file, _ = self._opened(key)
        with file:
            return read_header_of(file, key)

    def _opened(self, key: str) -> tuple[FileIO | BytesIO, Hashable]:
        try:
            descriptor = os.open(_path(self.root, key), os.O_RDONLY)
        except FileNotFoundError:
            raise KeyError(key) from None
        try:
            status = os.fstat(descriptor)
            is_others = status.st_mode & _WRITABLE_BY_OTHERS or status.st_uid != os.geteuid()
            if is_others and not self._shared:
                raise PermissionError(_NOT_OURS)
            if status.st_size <= _SMALL_BYTES:  # one request is faster than several
                return BytesIO(os.read(descriptor, status.st_size + 1)), _signature(status)
            file, descriptor = FileIO(descriptor), -1
            return file, _signature(status)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def contains(self, key: str) -> bool:
        """See `Store`."""
        path = _path(self.root, key)
        if os.path.exists(path):
            return True
        # Clients of a shared file system remember for a while that a name was not there; to open
        # its folder makes them look again.
        with suppress(FileNotFoundError):
            os.close(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY))
            return os.path.exists(path)
        return False

    def signature(self, key: str) -> Hashable:
        """See `Store`."""
        try:
            return _signature(os.stat(_path(self.root, key)))
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(key) from None

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """See `Store`."""
        if not self._is_clean:  # not when it is opened: who only looks changes nothing
            self._is_clean = True
            self.clean()
        pending = _Partial(self._directory, self._partials, header.key)
        try:
            pending.header = write_entry(
                pending.file, header, segments, durable=self._directory.durable
            )
        except BaseException:
            pending.discard()
            raise
        return pending

    def mark(self, key: str, load_s: float) -> None:
        """See `Store`."""
        self._hits.add(key, load_s)

    def load_s(self, key: str) -> float | None:
        """See `Store`."""
        return self._hits.load_s(key)

    def sizes(self) -> dict[str, int]:
        """See `Store`."""
        return {key: size_bytes for key, (size_bytes, _) in self._listing.files().items()}

    def uses(self) -> dict[str, Use]:
        """See `Store`."""
        hits = self._hits.counts()
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
        self._hits.forget(key)

    def quarantine(self, key: str) -> None:
        """See `Store`."""
        folder = self.root / "quarantine"
        self._directory.mkdir(folder)
        name = f"{quote(key, safe='')}.{uuid.uuid4().hex[:8]}"
        with suppress(FileNotFoundError):  # another reader was faster
            os.replace(_path(self.root, key), folder / name)
            self._hits.forget(key)

    def clean(self, *, thoroughly: bool = False) -> int:
        """See `Store`."""
        removed = self._partials.clean()
        if thoroughly:
            removed += self._hits.clean(set(self.sizes()))
            removed += _remove(_paths(self.root / "quarantine", _QUARANTINED))
        return removed

    def tidy(self) -> None:
        """See `Store`; `partial/`, `locks/` and `uses/` stay."""
        for kind in ("entries", "hits"):
            folders = _paths(self.root / kind, _FOLDER)
            for path in (*folders, self.root / kind):
                with suppress(OSError):  # it holds something, or somebody just put it there
                    path.rmdir()


class _Partial:
    """A file that is being written."""

    header: Header

    def __init__(self, directory: CacheDirectory, partials: Partials, key: str) -> None:
        self._directory = directory
        self._target = _path(directory.root, key)
        self._path, descriptor = partials.new()
        self.file = os.fdopen(descriptor, "wb")

    def commit(self) -> None:
        try:
            self._move()
        except BaseException:
            self.discard()
            raise
        self.file.close()

    def _move(self) -> None:
        """To where readers look, for good."""
        folder = os.path.dirname(self._target)
        while True:
            try:
                self._directory.mkdir(Path(folder))
                os.replace(self._path, self._target)
                break
            except FileNotFoundError:  # `tidy` may have removed the folder, still empty, again
                if not os.path.exists(self._path):
                    raise
        self._directory.sync(folder)

    def discard(self) -> None:
        with suppress(OSError):
            os.unlink(self._path)
        with suppress(OSError):  # what is buffered may not fit on the disk either
            self.file.close()


def _path(root: Path, key: str) -> str:
    return f"{root}/entries/{digest_of(key)[:2]}/{quote(key, safe='')}{_SUFFIX}"


def _signature(status: os.stat_result) -> Hashable:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _paths(folder: Path, named: re.Pattern[str]) -> list[Path]:
    """What is in a folder under names of ours."""
    try:
        return [path for path in folder.iterdir() if named.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove(paths: list[Path]) -> int:
    for path in paths:
        path.unlink(missing_ok=True)
    return len(paths)


def _map(file: FileIO, header: Header) -> list[memoryview]:
    """The segments of an open file, mapped privately: changes never reach the file."""
    start = file.tell()
    if os.fstat(file.fileno()).st_size != start + header.payload_bytes:
        raise DamagedEntry("its size is not what was written")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return mapped_payload(memoryview(mapped)[start:], header)
