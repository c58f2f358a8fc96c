"""Values as segments of bytes, and back.

There are two kinds. `pickle`, or `files` where files lie in it, is for everything that Python can
pickle. The arrays and tensors in a value become segments of their own (pickle protocol 5, out of
band): they are written without a copy, and read straight into the memory that they will have.
Loading a pickle runs whatever code it names. `safe` (`eeipu.serialization.safe_formats`) is for
values whose formats need no code.
"""

import pickle
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from eeipu.errors import CacheFormatError
from eeipu.serialization import safe_formats
from eeipu.serialization.entry_format import Segment
from eeipu.serialization.files import reduce_path, reduce_reader
from eeipu.serialization.main_module import (
    found_at_home,
    home_of,
    name_in_main,
    reduce_of_main,
)
from eeipu.serialization.masked_arrays import reduce_masked
from eeipu.serialization.shared_memory import SharedMemory, pickled_together
from eeipu.serialization.tensors import OUT_OF_BAND_BYTES, is_within_graph, reduce_torch

__all__ = ["WITH_FILES", "deserialize", "serialize"]

WITH_FILES = "files"
"""The kind of a pickle in which paths have their files with them."""


class _Pickler(pickle.Pickler):
    """Collects large buffers instead of copying them into the pickle."""

    def __init__(self, stream: BytesIO, shared: SharedMemory) -> None:
        super().__init__(stream, protocol=5, buffer_callback=self._collect)
        self.buffers: list[memoryview] = []
        self.has_files = False
        self._shared = shared

    def _collect(self, buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND_BYTES:
            return True
        self.buffers.append(raw)
        return False

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray):
            return self._reduce_array(obj)
        if isinstance(obj, Path):
            reduced = reduce_path(obj)
            self.has_files |= reduced is not NotImplemented
            return reduced
        named = name_in_main(obj)
        if named is not None:
            return found_at_home, named
        self._shared.keep_apart(obj)
        if is_within_graph(obj):
            raise CacheFormatError(
                "a tensor that was computed with gradients cannot be kept together with what they "
                "flow back to; return tensor.detach(), or compute it under torch.no_grad()"
            )
        for reduce in (self._reduce_torch, reduce_reader, reduce_of_main):
            reduced = reduce(obj)
            if reduced is not NotImplemented:
                return reduced
        return NotImplemented

    def _reduce_torch(self, obj: Any) -> Any:
        return reduce_torch(obj, self._shared.reduce_tensor)

    def _reduce_array(self, array: Any) -> Any:
        if array.dtype.hasobject or type(array) not in (np.ndarray, np.memmap):
            return reduce_masked(array)
        view = self._shared.reduce_array(array)
        if view is not None:
            return view
        # The file of a mapped array may not exist any more when the value is loaded.
        array = np.asarray(array)
        if array.flags.forc:
            return array.__reduce_ex__(5)
        axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        return np.transpose, (
            np.ascontiguousarray(array.transpose(axes)),
            np.argsort(axes).tolist(),
        )


class _Unpickler(pickle.Unpickler):
    """Finds what a script defines also where the script has another name."""

    def find_class(self, module: str, name: str) -> Any:
        if module == home_of("__main__"):
            return found_at_home(module, name)
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:  # the entry is sound, and may serve others
            raise CacheFormatError(
                f"it needs {module}.{name}, which is not here: {error}"
            ) from error


def serialize(value: Any, *, trusted: bool = True) -> tuple[str, list[Segment]]:
    """The kind and the segments of a value. Large segments are views of the value's own memory.

    Args:
        value: Anything that can be pickled, or, if not trusted, a value that
            `eeipu.serialization.safe_formats` can encode.
        trusted: Whether to pickle.

    Raises:
        CacheFormatError: The value is not trusted and has no safe format.
        Exception: Whatever pickle or the value's own methods raise.
    """
    if not trusted:
        return "safe", safe_formats.encode(value)

    def pickled(shared: SharedMemory) -> tuple[str, list[Segment]]:
        stream = BytesIO()
        pickler = _Pickler(stream, shared)
        pickler.dump(value)
        kind = WITH_FILES if pickler.has_files else "pickle"
        return kind, [stream.getbuffer(), *pickler.buffers]

    return pickled_together(pickled)


def deserialize(kind: str, segments: Sequence[Segment], *, trusted: bool = True) -> Any:
    """The value of segments. It may share their memory.

    Args:
        kind: The kind that `serialize` returned.
        segments: The segments.
        trusted: Whether to load pickles.

    Raises:
        CacheFormatError: The value is a pickle, and those who write to the cache are not trusted;
            or it needs a class or function that this process does not have.
        Exception: Whatever unpickling raises.
    """
    if kind == "safe":
        return safe_formats.decode(segments)
    if not trusted:
        raise CacheFormatError("it is a pickle, which this cache does not load (trusted=False)")
    return _Unpickler(BytesIO(segments[0]), buffers=segments[1:]).load()
