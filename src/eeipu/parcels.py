"""Values on their way between processes.

Arrays and tensors, wherever they stand in a value, are handed over as they lie in memory (pickle
protocol 5, out of band). What a script or a notebook defines travels with its code (cloudpickle).
A tensor on an accelerator travels without a device, as in a cache.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from eeipu.tensors import reduce_torch

__all__ = ["dumps", "loads", "loads_apart", "segments"]

# Below this, a segment of its own costs more than copying the bytes into the pickle.
_OUT_OF_BAND_BYTES = 4096


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        reduced = reduce_torch(obj)
        return super().reducer_override(obj) if reduced is NotImplemented else reduced


def dumps(value: Any) -> bytes:
    """A value as bytes.

    Raises:
        Exception: Whatever pickle or the value's own methods raise.
    """
    return _pickled(value, None)


def loads(data: bytes) -> Any:
    """The value of bytes, whose arrays can be written to."""
    return pickle.loads(data)  # noqa: S301 - from this run's own workers and driver


def segments(value: Any) -> list[bytes | pickle.PickleBuffer]:
    """A value as bytes and the memory of its large arrays, which is not copied here."""
    buffers: list[pickle.PickleBuffer] = []

    def collect(buffer: pickle.PickleBuffer) -> bool:
        is_small = buffer.raw().nbytes < _OUT_OF_BAND_BYTES
        if not is_small:
            buffers.append(buffer)
        return is_small

    return [_pickled(value, collect), *buffers]


def loads_apart(parts: Sequence[Any]) -> Any:
    """The value of segments, in memory of its own: a stage may change what it gets."""
    first, *others = parts
    return pickle.loads(first, buffers=map(bytearray, others))  # noqa: S301 - as above


def _pickled(value: Any, collect: Callable[[pickle.PickleBuffer], Any] | None) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=collect).dump(value)
    return stream.getvalue()
