"""Values on their way between processes.

Arrays and tensors, wherever they stand in a value, are handed over as they lie in memory (pickle
protocol 5, out of band). What a script or a notebook defines travels with its code (cloudpickle).
A tensor on an accelerator travels without a device, as in a cache.
"""

import inspect
import io
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cloudpickle

from eeipu.serialization.tensors import reduce_torch

__all__ = ["OUT_OF_BAND_BYTES", "adopt_classes", "dumps", "loads", "loads_apart", "segments"]

# Below this, a segment of its own costs more than copying the bytes into the pickle.
OUT_OF_BAND_BYTES = 4096


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
        is_small = buffer.raw().nbytes < OUT_OF_BAND_BYTES
        if not is_small:
            buffers.append(buffer)
        return is_small

    return [_pickled(value, collect), *buffers]


def loads_apart(parts: Sequence[Any]) -> Any:
    """The value of segments, in memory of its own: a stage may change what it gets."""
    first, *others = parts
    return pickle.loads(first, buffers=map(bytearray, others))  # noqa: S301 - as above


def adopt_classes(functions: Iterable[Callable[..., Any]]) -> None:
    """Have this worker's main module hold the classes of the driver's.

    What a script or a notebook defines has no other home. A cache pickles the instances of a class
    by its name, which driver and workers then all find.

    Args:
        functions: Functions that came from the driver; their globals are its main module's, as far
            as they are used.
    """
    main = sys.modules["__main__"]
    for function in functions:
        names = getattr(inspect.unwrap(function), "__globals__", {})
        if names.get("__name__") != "__main__" or names is vars(main):
            continue
        for name, value in list(names.items()):
            if isinstance(value, type) and value.__module__ == "__main__":
                setattr(main, name, value)


def _pickled(value: Any, collect: Callable[[pickle.PickleBuffer], Any] | None) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=collect).dump(value)
    return stream.getvalue()
