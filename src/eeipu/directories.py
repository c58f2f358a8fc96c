"""Entries in a directory: one file each, which appears whole or not at all.

eeipu-cache                 says that this is a cache's (`eeipu.folders`)
entries/ab/<key>.stage      the entries, in 256 folders by a digest of the key
hits/ab/<digest>            8 bytes for every time an entry was loaded: the seconds it took
partial/<name>              entries that are being written, each locked by its writer
quarantine/<key>.<name>     damaged entries
locks/ uses/ pins/          see `eeipu.holders`

Whatever else somebody put there is left alone: only files with such names are removed.
"""

import fcntl
import mmap
import os
import re
import stat
import struct
import time
import uuid
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from io import BytesIO, FileIO
from pathlib import Path
from urllib.parse import quote, unquote

from eeipu.entries import (
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
from eeipu.folders import check_private, mark_as_cache
from eeipu.stores import Pending

__all__ = ["DirectoryStore"]

_SUFFIX = ".stage"

# A folder that changed so recently may change again without its time stamp showing it: a few
# ticks of the kernel's clock, or seconds where the file system keeps whole seconds.
_TICK_NS = 50_000_000
_WHOLE_SECOND_NS = 2_000_000_000

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

# What is read in one piece: the files of small values.
_SMALL_BYTES = 2**16

_NOT_OURS = (
    "it is another user's, or others can write to it; StageCache(..., shared=True) takes such "
    "entries"
)

# What this module calls its own files, and nothing else is removed.
_PARTIAL = re.compile("[0-9a-f]{32}")
_DIGEST = re.compile("[0-9a-f]{32}")
_QUARANTINED = re.compile(r".+\.[0-9a-f]{8}")
_FOLDER = re.compile("[0-9a-f]{2}")

_HIT = struct.Struct("<d")


@dataclass
class _Folder:
    """What one of the 256 folders held when it was last listed."""

    changed_ns: int = -1
    listed_ns: int = 0
    files: dict[str, tuple[int, float]] = field(default_factory=dict)


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
        OSError: It cannot be made.
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
        self.root = root
        self._shared = shared
        self._mapped = mapped
        self._durable = durable
        self._now = now
        self._folders: dict[str, _Folder] = {}
        self._mkdir(root)
        if not shared:
            check_private(root)
        mark_as_cache(root)
        self._is_clean = False

    def _mkdir(self, path: Path) -> None:
        if path.is_dir():
            return
        self._mkdir(path.parent)
        is_private = not self._shared and path.is_relative_to(self.root)
        path.mkdir(0o700 if is_private else 0o777, exist_ok=True)
        with suppress(PermissionError):  # a parent in which we may make folders, and not look
            self._sync(str(path.parent))
        if path == self.root:  # anew, when somebody removed it
            mark_as_cache(path)

    def _path(self, key: str) -> str:
        return f"{self.root}/entries/{_names(key)[0]}"

    def _hits(self, key: str) -> str:
        # Not under the key itself: whoever looks for a key's file should find one.
        return f"{self.root}/hits/{_names(key)[1]}"

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
            descriptor = os.open(self._path(key), os.O_RDONLY)
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
        path = self._path(key)
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
            return _signature(os.stat(self._path(key)))
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(key) from None

    def prepare(self, header: Header, segments: Sequence[Segment]) -> Pending:
        """See `Store`."""
        if not self._is_clean:  # not when it is opened: who only looks changes nothing
            self._is_clean = True
            self.clean()
        pending = _Partial(self, header.key)
        try:
            pending.header = write_entry(
                pending.file, header, segments, durable=self._durable
            )
        except BaseException:
            pending.discard()
            raise
        return pending

    def partial(self) -> tuple[str, int]:
        """A new file for a writer, locked for as long as the writer lives."""
        folder = self.root / "partial"
        self._mkdir(folder)
        while True:
            path = f"{folder}/{uuid.uuid4().hex}"
            mode = 0o666 if self._shared else 0o600
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            with suppress(OSError):  # file systems without locks: `clean` leaves young files
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # `clean` may have taken it, not yet locked, for what a dead writer left.
            if os.fstat(descriptor).st_nlink > 0:
                return path, descriptor
            os.close(descriptor)

    def place(self, partial: str, key: str) -> None:
        """Move what a writer has finished to where readers look, for good."""
        path = self._path(key)
        folder = os.path.dirname(path)
        while True:
            try:
                self._mkdir(Path(folder))
                os.replace(partial, path)
                break
            except FileNotFoundError:  # `tidy` may have removed the folder, still empty, again
                if not os.path.exists(partial):
                    raise
        self._sync(folder)

    def mark(self, key: str, load_s: float) -> None:
        """See `Store`."""
        path, flags = self._hits(key), os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileNotFoundError:
                self._mkdir(Path(path).parent)
                descriptor = os.open(path, flags, 0o600)
            try:
                os.write(descriptor, _HIT.pack(load_s))
            finally:
                os.close(descriptor)
        except OSError:
            pass  # the directory may be somebody else's, or the disk full: a hit is a hit

    def _sync(self, folder: str) -> None:
        """Make a change of a folder survive a power failure, if it must."""
        if not self._durable:
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sizes(self) -> dict[str, int]:
        """See `Store`."""
        return {key: size_bytes for key, (size_bytes, _) in self._listed("entries").items()}

    def uses(self) -> dict[str, Use]:
        """See `Store`."""
        hits = self._listed("hits")
        found = []
        for key, (size_bytes, written_s) in self._listed("entries").items():
            hit_bytes, hit_s = hits.get(_digest(key), (0, 0.0))
            used_s = max(written_s, hit_s)
            count = hit_bytes // _HIT.size
            found.append((used_s, key, Use(size_bytes, used_s, count)))
        return {key: use for _, key, use in sorted(found, key=lambda each: each[:2])}

    def load_s(self, key: str) -> float | None:
        """What loading an entry took, on average; `None` if it never was loaded."""
        try:
            marks = Path(self._hits(key)).read_bytes()
        except OSError:
            return None
        whole = marks[: len(marks) // _HIT.size * _HIT.size]
        times = [load_s for (load_s,) in _HIT.iter_unpack(whole)]
        return sum(times) / len(times) if times else None

    def _listed(self, kind: str) -> dict[str, tuple[int, float]]:
        """Name -> bytes and time of change, of all files of a kind."""
        listed: dict[str, tuple[int, float]] = {}
        try:
            folders = os.listdir(f"{self.root}/{kind}")
        except FileNotFoundError:
            return listed
        for name in folders:
            listed |= self._list_folder(f"{kind}/{name}")
        return listed

    def _list_folder(self, name: str) -> dict[str, tuple[int, float]]:
        """The files of one folder, listed again only if it has changed since it last was."""
        known = self._folders.get(name, _Folder())
        path = f"{self.root}/{name}"
        try:
            changed_ns = os.stat(path).st_mtime_ns
        except FileNotFoundError:
            return {}
        tick_ns = _WHOLE_SECOND_NS if changed_ns % 10**9 == 0 else _TICK_NS
        is_settled = known.listed_ns - known.changed_ns > tick_ns
        if name.startswith("hits/") or changed_ns != known.changed_ns or not is_settled:
            # Appending to a file does not change its folder: hits are always listed.
            known = _Folder(changed_ns, time.time_ns(), _files(path))
            self._folders[name] = known
        return known.files

    def delete(self, key: str) -> None:
        """See `Store`."""
        for path in (self._path(key), self._hits(key)):
            with suppress(FileNotFoundError):
                os.unlink(path)

    def quarantine(self, key: str) -> None:
        """See `Store`."""
        folder = self.root / "quarantine"
        self._mkdir(folder)
        name = f"{quote(key, safe='')}.{uuid.uuid4().hex[:8]}"
        with suppress(FileNotFoundError):  # another reader was faster
            os.replace(self._path(key), folder / name)
            self.delete(key)  # its hits

    def empty_quarantine(self) -> int:
        """See `Store`."""
        return _remove(_paths(self.root / "quarantine", _QUARANTINED))

    def clean(self, *, thoroughly: bool = False) -> int:
        """See `Store`."""
        removed = sum(map(_remove_if_dead, _paths(self.root / "partial", _PARTIAL)))
        return removed + (_remove(self._orphans()) if thoroughly else 0)

    def _orphans(self) -> list[Path]:
        """The hits of entries that have gone."""
        digests = set(map(_digest, self.sizes()))
        folders = _paths(self.root / "hits", _FOLDER)
        hits = [path for folder in folders for path in _paths(folder, _DIGEST)]
        return [path for path in hits if path.name not in digests]

    def tidy(self) -> None:
        """Remove empty folders of entries and hits; `partial/`, `locks/` and `uses/` stay."""
        for kind in ("entries", "hits"):
            folders = _paths(self.root / kind, _FOLDER)
            for path in (*folders, self.root / kind):
                with suppress(OSError):  # it holds something, or somebody just put it there
                    path.rmdir()


class _Partial:
    """A file that is being written."""

    header: Header

    def __init__(self, store: DirectoryStore, key: str) -> None:
        self._store = store
        self._key = key
        self._path, descriptor = store.partial()
        self.file = os.fdopen(descriptor, "wb")

    def commit(self) -> None:
        try:
            self._store.place(self._path, self._key)
        except BaseException:
            self.discard()
            raise
        self.file.close()

    def discard(self) -> None:
        with suppress(OSError):
            os.unlink(self._path)
        with suppress(OSError):  # what is buffered may not fit on the disk either
            self.file.close()


def _signature(status: os.stat_result) -> Hashable:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(key: str) -> str:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


@lru_cache(maxsize=4096)
def _names(key: str) -> tuple[str, str]:
    """The files of a key among the entries and among the hits, in one of 256 folders."""
    digest = _digest(key)
    return f"{digest[:2]}/{quote(key, safe='')}{_SUFFIX}", f"{digest[:2]}/{digest}"


def _files(path: str) -> dict[str, tuple[int, float]]:
    """Name -> bytes and time of change."""
    files: dict[str, tuple[int, float]] = {}
    try:
        listed = os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        return files
    with listed:
        for each in listed:
            with suppress(FileNotFoundError):  # dropped since it was listed
                status = each.stat()
                name = unquote(each.name.removesuffix(_SUFFIX))
                files[name] = (status.st_size, status.st_mtime)
    return files


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


def _remove_if_dead(path: Path) -> bool:
    """Remove a partial file whose writer has ended."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
        return True
    except OSError:  # its writer lives, or the file system knows no locks
        return False
    finally:
        os.close(descriptor)


def _map(file: FileIO, header: Header) -> list[memoryview]:
    """The segments of an open file, mapped privately: changes never reach the file."""
    start = file.tell()
    if os.fstat(file.fileno()).st_size != start + header.payload_bytes:
        raise DamagedEntry("its size is not what was written")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return mapped_payload(memoryview(mapped)[start:], header)
