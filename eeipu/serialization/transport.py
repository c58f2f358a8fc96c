"""Values that are sent from one process to another.

The arrays and tensors in a value can be sent without a copy (pickle protocol 5, out of band).
Functions and classes that a script or a notebook defines are sent with their code (cloudpickle). A
tensor on an accelerator is sent without its device, as in a cache.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import cloudpickle
import numpy as np

from eeipu.serialization.files import is_private, reduce_path
from eeipu.serialization.masked_arrays import reduce_masked
from eeipu.serialization.shared_memory import SharedMemory, pickled_together
from eeipu.serialization.tensors import OUT_OF_BAND_BYTES, reduce_torch

__all__ = ["dumps", "dumps_with_definitions", "loads", "loads_apart", "segments"]

Collect = Callable[[pickle.PickleBuffer], Any]


class _Pickler(cloudpickle.Pickler):
    """Pickles values, and notes the classes and functions in them."""

    def __init__(self, stream: io.BytesIO, collect: Collect | None, shared: SharedMemory) -> None:
        super().__init__(stream, protocol=5, buffer_callback=collect)
        self.definitions: list[type | FunctionType] = []
        self._shared = shared

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType):
            self.definitions.append(obj)
        if type(obj) is np.ndarray and not obj.dtype.hasobject:
            return self._shared.reduce_array(obj) or NotImplemented
        if type(obj) is np.ma.MaskedArray:
            return reduce_masked(obj)
        if isinstance(obj, Path) and is_private(obj):  # this process may end before the other
            return reduce_path(obj)
        self._shared.keep_apart(obj)
        reduced = reduce_torch(obj, self._shared.reduce_tensor)
        return super().reducer_override(obj) if reduced is NotImplemented else reduced


def dumps(value: Any) -> bytes:
    """A value as bytes, in which its arrays are copied.

    Raises:
        Exception: Whatever pickle or the value's own methods raise.
    """
    data, _ = dumps_with_definitions(value)
    return data


def dumps_with_definitions(value: Any) -> tuple[bytes, list[type | FunctionType]]:
    """A value as bytes, and the classes and functions that whoever loads them needs.

    Raises:
        Exception: As `dumps`.
    """

    def pickled(shared: SharedMemory) -> tuple[bytes, list[type | FunctionType]]:
        stream = io.BytesIO()
        pickler = _Pickler(stream, None, shared)
        pickler.dump(value)
        return stream.getvalue(), pickler.definitions

    return pickled_together(pickled)


def loads(data: bytes) -> Any:
    """The value that `dumps` turned into bytes. Its arrays can be written to."""
    return pickle.loads(data)  # noqa: S301 - from this run's own workers and driver


def segments(value: Any) -> list[bytes | pickle.PickleBuffer]:
    """A value as segments: a pickle, then the memory of its large arrays, which is not copied.

    Raises:
        Exception: Whatever pickle or the value's own methods raise.
    """

    def pickled(shared: SharedMemory) -> list[bytes | pickle.PickleBuffer]:
        buffers: list[pickle.PickleBuffer] = []

        def collect(buffer: pickle.PickleBuffer) -> bool:
            is_small = buffer.raw().nbytes < OUT_OF_BAND_BYTES
            if not is_small:
                buffers.append(buffer)
            return is_small

        stream = io.BytesIO()
        _Pickler(stream, collect, shared).dump(value)
        return [stream.getvalue(), *buffers]

    return pickled_together(pickled)


def loads_apart(parts: Sequence[Any]) -> Any:
    """The value that `segments` split, in new memory, so that a stage may change its input."""
    first, *others = parts
    return pickle.loads(first, buffers=map(bytearray, others))  # noqa: S301 - as above
