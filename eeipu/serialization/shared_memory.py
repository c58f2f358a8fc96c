"""Arrays and tensors of one value that lie in the same memory, and come back in the same memory.

Tied weights, an array and a view of it, or a tensor and the array that it was made from change
together. A pickler that takes one after the other would part them. So a value is pickled once to
see which of them share memory. If any do, it is pickled again: each piece of memory that is shared
once, as a region, and those that lie in it as views of the region.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from eeipu.serialization import tensors

__all__ = ["SharedMemory", "pickled_together"]

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class _Span:
    """Where an array or a tensor lies.

    Attributes:
        place: The device whose addresses these are.
        start: The address of its first byte.
        stop: The address behind its last byte.
        owner: The array or tensor.
    """

    place: str
    start: int
    stop: int
    owner: Any

    @property
    def overlaps_itself(self) -> bool:
        """Whether several elements lie in one place, as in a broadcast array."""
        return bool(self.owner.nbytes > self.stop - self.start)


class _Region:
    """A piece of memory in which several arrays or tensors lie.

    Args:
        spans: These arrays and tensors.
    """

    def __init__(self, spans: list[_Span]) -> None:
        self.start = min(span.start for span in spans)
        self.size_bytes = max(span.stop for span in spans) - self.start
        self.on_accelerator = spans[0].place != "cpu"
        if self.on_accelerator:
            self.memory = tensors.storage_bytes(spans[0].owner, self.start, self.size_bytes)
        else:
            self.memory = np.asarray(_Exposed(self.start, self.size_bytes, spans))
        self.base = _Base(self.memory, on_accelerator=self.on_accelerator)

    def fits(self, spans: list[_Span]) -> bool:
        """Whether all tensors begin at a multiple of their elements' size, as torch demands."""
        return all(
            isinstance(span.owner, np.ndarray)
            or (span.start - self.start) % span.owner.element_size() == 0
            for span in spans
        )


class _Exposed:
    """Shows memory to NumPy, and keeps alive what it belongs to."""

    def __init__(self, start: int, size_bytes: int, owners: Any) -> None:
        self.owners = owners
        self.__array_interface__ = {
            "version": 3,
            "shape": (size_bytes,),
            "typestr": "|u1",
            "data": (start, False),
        }


class _Base:
    """A region as a tensor, of which tensors are views."""

    def __init__(self, memory: Any, *, on_accelerator: bool) -> None:
        self.memory = memory
        self.on_accelerator = on_accelerator

    def __reduce__(self) -> tuple[Any, ...]:
        return tensors.base_tensor, (self.memory, self.on_accelerator)


class SharedMemory:
    """Where the arrays and tensors of one value lie.

    Args:
        regions: For the second time that the value is pickled: the region of each array and
            tensor that shares memory, by id.
    """

    def __init__(self, regions: dict[int, _Region] | None = None) -> None:
        self._regions = regions or {}
        self._arrays: list[Any] = []
        self._tensors: list[Any] = []
        self._private: dict[int, Any] = {}
        self._memories = {id(region.memory) for region in self._regions.values()}

    def keep_apart(self, obj: Any) -> None:
        """Note the arrays of a table of pandas, which copies what two tables share on writing.

        It counts who shares an array. Those who share it without being counted would write into
        each other.
        """
        kind: Any = type(obj)
        for name in _arrays_in(kind):
            array = getattr(obj, name, None)
            if isinstance(array, np.ndarray):
                self._private[id(array)] = array

    def reduce_array(self, array: Any) -> Any:
        """How to pickle an array that is a view of a region; `None` for others."""
        if id(array) in self._private or id(array) in self._memories:
            return None
        about = (array.dtype, array.shape, array.strides)
        buffer = _bytearray_of(array)
        if buffer is not None:
            start = _address(array) - _address(np.frombuffer(buffer, np.uint8))
            return _array_view, (buffer, *about, start, array.flags.writeable)
        region = self._regions.get(id(array))
        if region is None:
            self._arrays.append(array)
            return None
        start = _address(array) - region.start
        return _array_view, (region.memory, *about, start, array.flags.writeable)

    def reduce_tensor(self, tensor: Any) -> Any:
        """How to pickle a tensor that is a view of a region; `None` for others."""
        if tensor.is_neg():  # a flag on the imaginary part of a conjugate, which is rare
            return None
        region = self._regions.get(id(tensor))
        if region is None:
            self._tensors.append(tensor)
            return None
        offset = (tensor.data_ptr() - region.start) // tensor.element_size()
        about = {**tensors.description(tensor), "is_conjugate": tensor.is_conj()}
        return tensors.tensor_view, (region.base, offset, about)

    def regions(self) -> dict[int, _Region]:
        """The region of each array and tensor that shares memory with another, by id."""
        if not self._tensors and all(array.base is None for array in self._arrays):
            return {}  # each array has memory of its own
        noted = [*map(_span_of_array, self._arrays), *map(_span_of_tensor, self._tensors)]
        found = {}
        for spans in _overlapping([span for span in noted if span.stop > span.start]):
            if len(spans) > 1 or spans[0].overlaps_itself:
                region = _Region(spans)
                if region.fits(spans):
                    found.update({id(span.owner): region for span in spans})
        return found


def pickled_together(pickle: Callable[[SharedMemory], Result]) -> Result:
    """Pickle a value once, and again if some of its arrays and tensors share memory.

    Args:
        pickle: Pickles the value, and asks how to for each array and tensor in it.
    """
    first = SharedMemory()
    result = pickle(first)
    regions = first.regions()
    return pickle(SharedMemory(regions)) if regions else result


def _bytearray_of(array: Any) -> bytearray | None:
    """The bytearray in which an array lies, unless it is much larger than the array."""
    owner = array.base
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    is_whole = isinstance(owner, bytearray) and 0 < len(owner) <= 2 * array.nbytes
    return owner if is_whole else None


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _span_of_array(array: Any) -> _Span:
    return _span("cpu", array, _address(array), array.strides)


def _span_of_tensor(tensor: Any) -> _Span:
    strides = [tensor.element_size() * stride for stride in tensor.stride()]
    return _span(str(tensor.device), tensor, tensor.data_ptr(), strides)


def _span(place: str, owner: Any, address: int, strides: Sequence[int]) -> _Span:
    """From the lowest to the highest byte; axes may run backwards."""
    if not owner.nbytes:
        return _Span(place, 0, 0, owner)
    reaches = [step * (size - 1) for step, size in zip(strides, owner.shape, strict=True)]
    start = address + sum(reach for reach in reaches if reach < 0)
    return _Span(place, start, start + sum(map(abs, reaches)) + int(owner.itemsize), owner)


def _overlapping(spans: list[_Span]) -> Iterator[list[_Span]]:
    """The spans in groups, such that spans of different groups do not overlap."""
    group: list[_Span] = []
    stop = 0
    for span in sorted(spans, key=lambda each: (each.place, each.start)):
        if group and (span.place != group[0].place or span.start >= stop):
            yield group
            group, stop = [], 0
        group.append(span)
        stop = max(stop, span.stop)
    if group:
        yield group


def _array_view(
    memory: Any,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    start: int,
    writeable: bool,
) -> Any:
    array: Any = np.ndarray(shape, dtype, memory, start, strides)
    if not writeable:
        array.flags.writeable = False
    return array


@lru_cache(maxsize=1024)  # asked for with each object
def _arrays_in(kind: Any) -> tuple[str, ...]:
    """The attributes in which a class of pandas has arrays; none for other classes."""
    if not str(kind.__module__).startswith("pandas"):
        return ()
    names = {each.__name__ for each in kind.__mro__}
    if "Block" in names:
        return ("values",)
    if "ExtensionArray" in names:
        return ("_ndarray", "_data", "_mask", "_codes", "_sparse_values")
    return ()
