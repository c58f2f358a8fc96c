"""The file format of a cache entry: a header that people can read, and the bytes of the value.

An entry is one file, so that one rename makes the whole entry visible:

    seal      64 bytes: `eeipu-stage`, the header's length, the header's digest, a newline
    header    one line of JSON (`Header`), padded with spaces to a multiple of 512 bytes
    payload   the value's segments, each at a multiple of 64 bytes

The header contains the digest of the payload and the key of the entry. So the reader notices a
flipped bit anywhere, a missing or additional byte, and two files that were exchanged. The digests
are 128-bit XXH3. They detect damage, at the speed at which memory is read, but they do not protect
against forgery (`eeipu.cache` says who may write to a cache).
"""

import io
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import FileIO
from itertools import pairwise
from typing import Any, BinaryIO, Protocol

import xxhash

from eeipu.errors import EeipuError

__all__ = [
    "DamagedEntry",
    "Entry",
    "Header",
    "Readable",
    "Segment",
    "mapped_payload",
    "read_header",
    "read_header_of",
    "read_payload",
    "with_sizes",
    "write_entry",
]

FORMAT = 1
_MAGIC = "eeipu-stage"
_SEAL_BYTES = 64
_HEADER_STEP = 512
_ALIGNMENT = 64  # a cache line of the processor, and more than any dtype needs

# A header has a few hundred bytes, parameters included. A larger length in a seal is damage.
_MAX_HEADER_BYTES = 2**20

# A large payload is hashed in pieces of this size, by several threads. Part of the format.
_PIECE_BYTES = 2**24

# A block of this size stays in a core's cache between being read and being hashed.
_BLOCK_BYTES = 2**20

# Each thread reads and hashes in turn. With three, two cores stay busy while one thread waits.
_THREADS = 3

# From this size on, threads save more time than their start costs. Part of the format.
_MANY_BYTES = 2 * _PIECE_BYTES

_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS only has fsync

Segment = bytes | bytearray | memoryview


class Readable(Protocol):
    """A binary file, local or remote."""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""
        ...

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a buffer or its beginning, and return the number of bytes read."""
        ...


class DamagedEntry(EeipuError, ValueError):  # noqa: N818 - a finding about a file
    """The bytes of an entry are not those that were written."""


@dataclass(frozen=True)
class Header:
    """What an entry says about itself.

    Attributes:
        key: The content key under which it was put.
        kind: How the value is serialised: `pickle`, `files` for a pickle in which paths have their
            files with them, or `safe` for formats that cannot run code.
        segments: The size in bytes of each segment of the payload, before compression.
        compression: The name of the compression, or `None`.
        created_s: When the entry was written, in seconds since 1970 by the writer's clock.
        cost: What computing the value cost (measured seconds, or a declared cost), or `None` if
            that is not known.
        stage: The name of the stage that computed the value, or `None` if it is not known.
        params: The hyper-parameters of the stage.
        versions: The versions of Python and of the packages that the stage used.
        parts: Short digests of the parts of the key, by name (`eeipu.fingerprints.parts`).
        observed: What observers found in the value (`eeipu.stages.observing.notes`).
        checksum: The digest of the payload as stored.
        payload_bytes: The size in bytes of the payload as stored.
    """

    key: str
    kind: str
    segments: tuple[int, ...]
    compression: str | None = None
    created_s: int = 0
    cost: float | None = None
    stage: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    observed: Mapping[str, Any] = field(default_factory=dict)
    checksum: str = "0" * 32
    payload_bytes: int = 0

    @property
    def value_bytes(self) -> int:
        """The size in bytes of the payload before compression, padding included."""
        return sum(map(_padded, self.segments))

    @property
    def file_bytes(self) -> int:
        """The size in bytes of the whole entry."""
        return _SEAL_BYTES + _header_bytes(self) + self.payload_bytes


@dataclass(frozen=True)
class Entry:
    """A header and the segments of its value.

    Attributes:
        header: The header.
        segments: The segments of the value.
        signature: A value that distinguishes this entry from earlier and later ones under its key.
    """

    header: Header
    segments: Sequence[Segment]
    signature: Hashable = None


def _padded(size_bytes: int, step: int = _ALIGNMENT) -> int:
    return -(-size_bytes // step) * step


def _line(header: Header) -> bytes:
    # Parameters are for people to read. A value that JSON cannot express is written as its repr.
    return json.dumps({"format": FORMAT, **vars(header)}, default=repr).encode()


def _header_bytes(header: Header) -> int:
    # The header is rewritten once the payload's size is known, so room is left for any size.
    return _padded(len(_line(replace(header, payload_bytes=10**18))) + 1, _HEADER_STEP)


def _sealed(header: Header) -> bytes:
    line = _line(header).ljust(_header_bytes(header) - 1) + b"\n"
    seal = f"{_MAGIC} {len(line):08d} {xxhash.xxh3_128_hexdigest(line)}"
    return seal.ljust(_SEAL_BYTES - 1).encode() + b"\n" + line


def with_sizes(header: Header, segments: Sequence[Segment]) -> Header:
    """A header with the sizes of uncompressed segments, which are known before writing."""
    sizes = tuple(memoryview(segment).nbytes for segment in segments)
    return replace(header, segments=sizes, payload_bytes=sum(map(_padded, sizes)))


def write_entry(
    stream: BinaryIO, header: Header, segments: Sequence[Segment], *, durable: bool = False
) -> Header:
    """Write an entry into a stream that can seek, and return its header as written.

    Args:
        stream: A file; it must be a local one if `durable`.
        header: The header, without the sizes and the checksum.
        segments: The segments of the value.
        durable: Whether the file must survive a power failure as soon as this function returns.
    """
    header = with_sizes(header, segments)
    stream.write(bytes(_SEAL_BYTES + _header_bytes(header)))
    if header.compression is None:
        header = replace(header, checksum=_write_plain(stream, segments, durable))
    else:
        packed = _Packed(stream)
        with _codec(header)(packed, mode="wb") as unpacked:
            for block in _padded_pieces(segments):
                unpacked.write(block)
        checksum = _joined([packed.digest()])
        header = replace(header, checksum=checksum, payload_bytes=packed.size_bytes)
    stream.seek(0)
    stream.write(_sealed(header))
    stream.flush()
    if durable:
        os.fsync(stream.fileno())
    return header


def _padded_pieces(segments: Sequence[Segment]) -> Iterator[Segment]:
    """The payload in pieces: those of each segment, and its padding."""
    for segment in segments:
        view = memoryview(segment).cast("B")
        for start in range(0, len(view), _PIECE_BYTES):
            yield view[start : start + _PIECE_BYTES]
        yield bytes(_padded(len(view)) - len(view))


def _write_plain(stream: BinaryIO, segments: Sequence[Segment], durable: bool) -> str:
    """Write uncompressed segments and return the checksum of the payload."""
    pieces = _padded_pieces(segments)
    if sum(_padded(memoryview(segment).nbytes) for segment in segments) < _MANY_BYTES:
        whole = xxhash.xxh3_128()
        for piece in pieces:
            whole.update(piece)
            stream.write(piece)
        return _joined([whole.digest()])
    with ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(1) as syncing:
        found, synced = [], []
        for number, piece in enumerate(pieces):
            found.append(hashing.submit(xxhash.xxh3_128_digest, piece))
            stream.write(piece)
            # The disk starts with the first pieces instead of waiting for the last one.
            if durable and number % 4 == 3:
                stream.flush()
                synced.append(syncing.submit(_sync_data, stream.fileno()))
        for each in synced:
            each.result()  # the system reports a failed write only once
        return _joined(each.result() for each in found)


def _joined(digests: Iterable[bytes]) -> str:
    return xxhash.xxh3_128_hexdigest(b"".join(digests))


class _Packed:
    """Writes compressed bytes to a file, and counts and hashes them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = xxhash.xxh3_128()
        self.size_bytes = 0

    def write(self, data: Segment) -> int:
        self._digest.update(data)
        self.size_bytes += len(data)
        return self._stream.write(data)

    def flush(self) -> None:
        """There is no buffer to flush."""

    def digest(self) -> bytes:
        return bytes(self._digest.digest())


def read_header(stream: Readable) -> Header:
    """Read the header at the start of a stream, up to the start of the payload.

    Raises:
        DamagedEntry: The bytes are not those that were written.
    """
    start = stream.read(_SEAL_BYTES + _HEADER_STEP)  # enough for most headers
    try:
        magic, length, digest = start[:_SEAL_BYTES].decode().split()
        more_bytes = min(int(length), _MAX_HEADER_BYTES) - _HEADER_STEP
    except (UnicodeDecodeError, ValueError):
        raise DamagedEntry("its seal cannot be read") from None
    line = start[_SEAL_BYTES:] + (stream.read(more_bytes) if more_bytes > 0 else b"")
    if magic != _MAGIC or xxhash.xxh3_128_hexdigest(line) != digest:
        raise DamagedEntry("its header does not match its seal")
    fields = json.loads(line.decode())  # decoded first, because JSON would guess the encoding
    if fields.pop("format") != FORMAT:
        raise DamagedEntry("it was written by another version of eeipu")
    return Header(**{**fields, "segments": tuple(fields["segments"])})


def read_header_of(stream: Readable, key: str) -> Header:
    """Read the header of the entry of a key, as `read_header` does.

    Raises:
        DamagedEntry: The bytes are not those that were written, or belong to another key.
    """
    header = read_header(stream)
    if header.key != key:
        raise DamagedEntry(f"it belongs to the key {header.key!r}")
    return header


def read_payload(stream: Readable, header: Header) -> list[memoryview]:
    """Read the segments that follow a header into new memory.

    Args:
        stream: The stream, from which the header was just read.
        header: The header.

    Raises:
        DamagedEntry: The bytes are not those that were written.
    """
    stored = _memory(header.payload_bytes)
    if isinstance(stream, FileIO) and len(stored) >= _MANY_BYTES:
        _check(stored, header, _FromFile(stream.fileno(), stream.tell()))
        stream.seek(len(stored), os.SEEK_CUR)
    elif _fill(stream, stored):
        _check(stored, header)
    else:
        raise DamagedEntry("it ends early")
    if stream.read(1):
        raise DamagedEntry("something follows its end")
    return _segments(stored, header)


class _FromFile:
    """Reads blocks of a file at given positions, in any order and from any thread."""

    def __init__(self, descriptor: int, start: int) -> None:
        self._descriptor = descriptor
        self._start = start

    def __call__(self, block: memoryview, position: int) -> None:
        while len(block):
            count = os.preadv(self._descriptor, [block], self._start + position)
            if not count:
                raise DamagedEntry("it ends early")
            block, position = block[count:], position + count


def _in_memory(block: memoryview, position: int) -> None:
    """Read nothing: the payload is in memory already."""


def _check(
    stored: memoryview,
    header: Header,
    read: Callable[[memoryview, int], None] = _in_memory,
) -> None:
    """Compare a payload with its checksum.

    Args:
        stored: The payload, or the memory for it.
        header: The header of the entry.
        read: Reads a block of the payload, given the block's memory and its position. Large
            payloads are read block by block, each just before it is hashed.

    Raises:
        DamagedEntry: The payload is not the one that was written.
    """

    def digest(piece: tuple[int, int]) -> bytes:
        hashed = xxhash.xxh3_128()
        for start in range(*piece, _BLOCK_BYTES):
            block = stored[start : min(start + _BLOCK_BYTES, piece[1])]
            read(block, start)
            hashed.update(block)
        return bytes(hashed.digest())

    if len(stored) < _MANY_BYTES:
        found = _joined([xxhash.xxh3_128_digest(stored)])
    else:
        with ThreadPoolExecutor(_THREADS) as threads:
            found = _joined(threads.map(digest, _pieces(header)))
    if found != header.checksum:
        raise DamagedEntry("its checksum does not match")


def _pieces(header: Header) -> list[tuple[int, int]]:
    """The start and the end of each piece of a stored payload that is hashed separately."""
    if header.compression is not None:
        return [(0, header.payload_bytes)]
    pieces, start = [], 0
    for size_bytes in header.segments:
        ends = [*range(start + _PIECE_BYTES, start + size_bytes, _PIECE_BYTES), start + size_bytes]
        pieces += list(pairwise([start, *ends] if size_bytes else [start]))
        start += _padded(size_bytes)
        pieces.append((ends[-1], start))
    return pieces


def _memory(size_bytes: int) -> memoryview:
    # Unlike a bytearray, this memory is not filled with zeros first. Imported here because the
    # command line reads headers alone, and is to start at once.
    import numpy as np

    return np.empty(size_bytes, dtype=np.uint8).data


def _fill(stream: Readable, block: memoryview) -> bool:
    """Fill a block, even if the stream gives it in parts; return False if the stream ends early."""
    filled = 0
    while filled < len(block):
        more = stream.readinto(block[filled:])
        if not more:
            return False
        filled += more
    return True


def mapped_payload(stored: memoryview, header: Header) -> list[memoryview]:
    """The segments of a payload that is in memory already, such as a mapped file.

    Raises:
        DamagedEntry: The bytes are not those that were written.
    """
    _check(stored, header)
    return _segments(stored, header)


def _segments(stored: memoryview, header: Header) -> list[memoryview]:
    if header.compression is not None:
        stored = _unpacked(stored, header)
    segments, start = [], 0
    for size_bytes in header.segments:
        segments.append(stored[start : start + size_bytes])
        start += _padded(size_bytes)
    return segments


def _codec(header: Header) -> Callable[..., Any]:
    import fsspec.compression

    codec: Callable[..., Any] = fsspec.compression.compr[header.compression]
    return codec


def _unpacked(stored: memoryview, header: Header) -> memoryview:
    value = _memory(header.value_bytes)
    with _codec(header)(io.BytesIO(stored), mode="rb") as packed:
        if not _fill(packed, value):
            raise DamagedEntry("it unpacks to less than was packed")
    return value
