"""Entries as objects of a remote file system: whatever fsspec reaches."""

import re
import tempfile
import uuid
from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from eeipu.entries import (
    Entry,
    Header,
    Segment,
    Use,
    read_header_of,
    read_payload,
    write_entry,
)
from eeipu.stores import Pending

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
    """

    def __init__(self, fs: Any, root: str) -> None:
        self.fs = fs
        self.root = root
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
        with tempfile.NamedTemporaryFile(prefix="eeipu-", delete=False) as file:
            local = file.name
            try:
                written = write_entry(file, header, segments)  # type: ignore[arg-type]
            except BaseException:
                Path(local).unlink()
                raise
        return _Upload(self, local, written)

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

    def empty_quarantine(self) -> int:
        """See `Store`."""
        return self._remove("quarantine", _QUARANTINED)

    def clean(self, *, thoroughly: bool = False) -> int:
        """See `Store`; nothing tells a dead writer's upload from a slow one's but patience."""
        return self._remove("partial", _PARTIAL) if thoroughly else 0

    def _remove(self, folder: str, named: re.Pattern[str]) -> int:
        self.fs.invalidate_cache()
        listed = self.fs.find(f"{self.root}/{folder}")
        paths = [path for path in listed if named.fullmatch(path.rpartition("/")[2])]
        for path in paths:
            with suppress(FileNotFoundError):
                self.fs.rm_file(path)
        return len(paths)

    def tidy(self) -> None:
        """See `Store`; most remote file systems have no folders."""


class _Upload:
    """An entry in a local file."""

    def __init__(self, store: RemoteStore, local: str, header: Header) -> None:
        self._store = store
        self._local = local
        self.header = header

    def commit(self) -> None:
        try:
            self._store.upload(self._local, self.header.key)
        finally:
            self.discard()

    def discard(self) -> None:
        Path(self._local).unlink(missing_ok=True)


def _changed_s(info: dict[str, Any]) -> float:
    """When a file was last written; file systems differ in what they call it."""
    stamp = info.get("mtime", info.get("LastModified", info.get("created", 0.0)))
    return float(stamp.timestamp() if hasattr(stamp, "timestamp") else stamp or 0.0)
