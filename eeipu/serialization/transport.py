"""Values that are sent from one process to another.

The arrays and tensors in a value can be sent without a copy (pickle protocol 5, out of band).
Functions and classes that a script or a notebook defines are sent with their code (cloudpickle). A
tensor on an accelerator is sent without its device, as in a cache.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from eeipu.serialization.tensors import OUT_OF_BAND_BYTES, reduce_torch

__all__ = ["dumps", "loads", "loads_apart", "segments"]


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        reduced = reduce_torch(obj)
        return super().reducer_override(obj) if reduced is NotImplemented else reduced


def dumps(value: Any) -> bytes:
    """A value as bytes, in which its arrays are copied.

    Raises:
        Exception: Whatever pickle or the value's own methods raise.
    """
    return _pickled(value, None)


def loads(data: bytes) -> Any:
    """The value that `dumps` turned into bytes. Its arrays can be written to."""
    return pickle.loads(data)  # noqa: S301 - from this run's own workers and driver


def segments(value: Any) -> list[bytes | pickle.PickleBuffer]:
    """A value as segments: a pickle, then the memory of its large arrays, which is not copied.

    Raises:
        Exception: Whatever pickle or the value's own methods raise.
    """
    buffers: list[pickle.PickleBuffer] = []

    def collect(buffer: pickle.PickleBuffer) -> bool:
        is_small = buffer.raw().nbytes < OUT_OF_BAND_BYTES
        if not is_small:
            buffers.append(buffer)
        return is_small

    return [_pickled(value, collect), *buffers]


def loads_apart(parts: Sequence[Any]) -> Any:
    """The value that `segments` split, in new memory, so that a stage may change its input."""
    first, *others = parts
    return pickle.loads(first, buffers=map(bytearray, others))  # noqa: S301 - as above


def _pickled(value: Any, collect: Callable[[pickle.PickleBuffer], Any] | None) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=collect).dump(value)
    return stream.getvalue()
