"""The form of a cache entry: a header that people can read, then the value's bytes, both sealed.

An entry is one file, so that one rename makes it appear whole:

    seal      64 bytes: `eeipu-stage`, the header's length, the header's digest, a newline
    header    one line of JSON (`Header`), padded with spaces to a multiple of 512 bytes
    payload   the value's segments, each at a multiple of 64 bytes

The header holds the payload's digest and the entry's key, so a flipped bit anywhere, a missing or
surplus byte, and two files that changed places are all noticed. Digests are XXH3, 128 bits: they
detect damage, at the speed at which memory is read, and do not protect against forgery (see
`eeipu.cache` for who may write to a cache).
"""

import io
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from io import FileIO
from itertools import pairwise
from typing import Any, BinaryIO, Protocol

import fsspec.compression
import numpy as np
import xxhash

from eeipu.errors import EeipuError

__all__ = [
    "DamagedEntry",
    "Entry",
    "Header",
    "Readable",
    "Segment",
    "Use",
    "described",
    "mapped_payload",
    "read_header",
    "read_header_of",
    "read_payload",
    "write_entry",
]

FORMAT = 1
_MAGIC = "eeipu-stage"
_SEAL_BYTES = 64
_HEADER_STEP = 512
_ALIGNMENT = 64  # a cache line, and more than any dtype asks for

# A header is a few hundred bytes, parameters included; what claims to be larger is damage.
_MAX_HEADER_BYTES = 2**20

# A large payload is hashed in pieces, by several threads. Part of the format.
_PIECE_BYTES = 2**24

# Small enough to stay in a core's cache between being read and being hashed.
_BLOCK_BYTES = 2**20

# Each copies and hashes in turn; with three, two cores stay busy while one thread waits.
_THREADS = 3

# From here on, threads save more time than they take to start. Part of the format.
_MANY_BYTES = 2 * _PIECE_BYTES

_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter

Segment = bytes | bytearray | memoryview


class Readable(Protocol):
    """A binary file, local or remote."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes."""
        ...

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a buffer, or a part of it; how many bytes."""
        ...


class DamagedEntry(EeipuError, ValueError):  # noqa: N818 - a finding about a file
    """The bytes of an entry are not what was written."""


@dataclass(frozen=True)
class Header:
    """What an entry says about itself.

    Attributes:
        key: The content key that it was put under.
        kind: How the value is serialised: `pickle`, or `safe` for formats that cannot run code.
        segments: Bytes of each segment of the payload, before compression.
        compression: The name of the compression, or `None`.
        created_s: When it was written, in seconds since 1970 by the writer's clock.
        cost: What producing the value cost, measured in seconds or declared; `None`: not known.
        stage: The name of the stage that produced it.
        params: The stage's hyper-parameters.
        versions: The versions of Python and the packages that the stage used.
        checksum: The digest of the payload as stored.
        payload_bytes: The payload's bytes as stored.
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
    checksum: str = "0" * 32
    payload_bytes: int = 0

    @property
    def value_bytes(self) -> int:
        """The payload's bytes before compression, padding included."""
        return sum(map(_padded, self.segments))

    @property
    def file_bytes(self) -> int:
        """The size of the whole entry."""
        return _SEAL_BYTES + _header_bytes(self) + self.payload_bytes


@dataclass(frozen=True)
class Entry:
    """A header and the segments of its value.

    Attributes:
        header: What it says about itself.
        segments: The value.
        signature: Tells it from others under its key, before and after it.
    """

    header: Header
    segments: Sequence[Segment]
    signature: Hashable = None


@dataclass(frozen=True)
class Use:
    """What is known of an entry without reading it.

    Attributes:
        size_bytes: What it takes.
        used_s: When it was last written or loaded, in seconds since 1970.
        hits: How often it was loaded.
    """

    size_bytes: int
    used_s: float
    hits: int = 0


def _padded(size_bytes: int, step: int = _ALIGNMENT) -> int:
    return -(-size_bytes // step) * step


def _line(header: Header) -> bytes:
    # Parameters are for people to read: what JSON cannot hold is written as it prints.
    return json.dumps({"format": FORMAT, **asdict(header)}, default=repr).encode()


def _header_bytes(header: Header) -> int:
    # The same before and after the payload is known, whatever its size turns out to be.
    return _padded(len(_line(replace(header, payload_bytes=10**18))) + 1, _HEADER_STEP)


def _sealed(header: Header) -> bytes:
    line = _line(header).ljust(_header_bytes(header) - 1) + b"\n"
    seal = f"{_MAGIC} {len(line):08d} {xxhash.xxh3_128_hexdigest(line)}"
    return seal.ljust(_SEAL_BYTES - 1).encode() + b"\n" + line


def described(header: Header, segments: Sequence[Segment]) -> Header:
    """The header with what can be said of uncompressed segments before they are written."""
    sizes = tuple(memoryview(segment).nbytes for segment in segments)
    return replace(header, segments=sizes, payload_bytes=sum(map(_padded, sizes)))


def write_entry(
    stream: BinaryIO, header: Header, segments: Sequence[Segment], *, durable: bool = False
) -> Header:
    """Write an entry into a stream that can seek, and return its header as written.

    Args:
        stream: A file; a local one, if `durable`.
        header: What the entry says of itself, as far as that is known before it is written.
        segments: The value.
        durable: Whether the file must survive a power failure when this returns.
    """
    header = described(header, segments)
    stream.write(bytes(_SEAL_BYTES + _header_bytes(header)))
    if header.compression is None:
        header = replace(header, checksum=_write_plain(stream, segments, durable))
    else:
        packed = _Packed(stream)
        with fsspec.compression.compr[header.compression](packed, mode="wb") as unpacked:
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
    """The payload of segments: pieces of them, and what fills each up to its alignment."""
    for segment in segments:
        view = memoryview(segment).cast("B")
        for start in range(0, len(view), _PIECE_BYTES):
            yield view[start : start + _PIECE_BYTES]
        yield bytes(_padded(len(view)) - len(view))


def _write_plain(stream: BinaryIO, segments: Sequence[Segment], durable: bool) -> str:
    """Write uncompressed segments; the payload's checksum."""
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
            # The disk begins with what is there, instead of waiting for all of it.
            if durable and number % 4 == 3:
                stream.flush()
                synced.append(syncing.submit(_sync_data, stream.fileno()))
        for each in synced:
            each.result()  # the system tells of a failure to write once only
        return _joined(each.result() for each in found)


def _joined(digests: Iterable[bytes]) -> str:
    return xxhash.xxh3_128_hexdigest(b"".join(digests))


class _Packed:
    """Passes compressed bytes on to a file, and counts and hashes them on their way."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = xxhash.xxh3_128()
        self.size_bytes = 0

    def write(self, data: Segment) -> int:
        self._digest.update(data)
        self.size_bytes += len(data)
        return self._stream.write(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def digest(self) -> bytes:
        return bytes(self._digest.digest())


def read_header(stream: Readable) -> Header:
    """The header at the start of a stream, which is left at the start of the payload.

    Raises:
        DamagedEntry: It is not what was written.
    """
    start = stream.read(_SEAL_BYTES + _HEADER_STEP)  # few headers are longer
    try:
        magic, length, digest = start[:_SEAL_BYTES].decode().split()
        more_bytes = min(int(length), _MAX_HEADER_BYTES) - _HEADER_STEP
    except (UnicodeDecodeError, ValueError):
        raise DamagedEntry("its seal cannot be read") from None
    line = start[_SEAL_BYTES:] + (stream.read(more_bytes) if more_bytes > 0 else b"")
    if magic != _MAGIC or xxhash.xxh3_128_hexdigest(line) != digest:
        raise DamagedEntry("its header does not match its seal")
    said = json.loads(line.decode())  # which is faster told than guessed
    if said.pop("format") != FORMAT:
        raise DamagedEntry("it was written by another version of eeipu")
    return Header(**{**said, "segments": tuple(said["segments"])})


def read_header_of(stream: Readable, key: str) -> Header:
    """The header of the entry under a key.

    Raises:
        DamagedEntry: It is not what was written, or belongs to another key.
    """
    header = read_header(stream)
    if header.key != key:
        raise DamagedEntry(f"it belongs to the key {header.key!r}")
    return header


def read_payload(stream: Readable, header: Header) -> list[memoryview]:
    """The segments behind a header that was just read, in memory of their own.

    Raises:
        DamagedEntry: They are not what was written.
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
    """Reads parts of a file, each to where it belongs, in any order."""

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
    """What is in memory already needs no reading."""


def _check(
    stored: memoryview,
    header: Header,
    read: Callable[[memoryview, int], None] = _in_memory,
) -> None:
    """Compare a payload with its checksum, reading it piece by piece where that is to be done.

    Raises:
        DamagedEntry: It is not what was written.
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
    """Where the pieces of a stored payload begin and end that are hashed one by one."""
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
    # Unlike a bytearray, it is not filled with zeros first.
    return np.empty(size_bytes, dtype=np.uint8).data


def _fill(stream: Readable, block: memoryview) -> bool:
    """Read as much as there is room for, which remote files may give in pieces; whether it came."""
    filled = 0
    while filled < len(block):
        more = stream.readinto(block[filled:])
        if not more:
            return False
        filled += more
    return True


def mapped_payload(stored: memoryview, header: Header) -> list[memoryview]:
    """The segments in a payload that lies in memory already, such as a mapped file.

    Raises:
        DamagedEntry: They are not what was written.
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


def _unpacked(stored: memoryview, header: Header) -> memoryview:
    value = _memory(header.value_bytes)
    with fsspec.compression.compr[header.compression](io.BytesIO(stored), mode="rb") as packed:
        if not _fill(packed, value):
            raise DamagedEntry("it unpacks to less than was packed")
    return value
