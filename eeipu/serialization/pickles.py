"""Values as segments of bytes, and back.

Two kinds. `pickle` takes whatever Python pickles; arrays and tensors, wherever they stand in a
value, are handed over as they lie in memory (pickle protocol 5, out of band), so that they are
written without a copy and read straight into the memory that they will have. Loading one runs
whatever code the pickle names. `safe` (`eeipu.serialization.safe_formats`) holds only what needs no
code.
"""

import pickle
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from eeipu.errors import CacheFormatError
from eeipu.serialization import safe_formats
from eeipu.serialization.entry_format import Segment
from eeipu.serialization.tensors import reduce_torch
from eeipu.serialization.transport import OUT_OF_BAND_BYTES

__all__ = ["dumps", "loads"]


class _Pickler(pickle.Pickler):
    """Collects large buffers instead of copying them."""

    def __init__(self, stream: BytesIO) -> None:
        super().__init__(stream, protocol=5, buffer_callback=self._collect)
        self.buffers: list[memoryview] = []

    def _collect(self, buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND_BYTES:
            return True
        self.buffers.append(raw)
        return False

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            if type(obj) is np.memmap:  # its file may be gone when the value is loaded
                return np.asarray(obj).__reduce_ex__(5)
            if not obj.flags.forc and type(obj) is np.ndarray:
                return np.ascontiguousarray(obj).__reduce_ex__(5)
        return reduce_torch(obj)


def dumps(value: Any, *, trusted: bool = True) -> tuple[str, list[Segment]]:
    """The kind and the segments of a value; large ones are views of its own memory.

    Args:
        value: Anything, or where not trusted, what `eeipu.serialization.safe_formats` takes.
        trusted: Whether to pickle.

    Raises:
        Exception: Whatever pickle or the value's own methods raise.
    """
    if not trusted:
        return "safe", safe_formats.dumps(value)
    stream = BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(value)
    return "pickle", [stream.getbuffer(), *pickler.buffers]


def loads(kind: str, segments: Sequence[Segment], *, trusted: bool = True) -> Any:
    """The value of segments, which it may share memory with.

    Raises:
        CacheFormatError: It is a pickle, and those who write the cache are not trusted.
        Exception: Whatever unpickling raises.
    """
    if kind == "safe":
        return safe_formats.loads(segments)
    if not trusted:
        raise CacheFormatError("it is a pickle, which this cache does not load (trusted=False)")
    return pickle.loads(segments[0], buffers=segments[1:])  # noqa: S301 - see eeipu.cache
