"""Arrays: elements in row-major order, and for others than row-major arrays the order of the axes.

Where an array lies, whether it is a view, and whether a file is mapped into it does not count.
"""

from typing import Any

import numpy as np
import xxhash

from eeipu.fingerprints.contents.pickle_digests import pickle_digest
from eeipu.fingerprints.contents.plain import ATOMS

__all__ = ["array_content", "items_content", "masked_content", "scalar_content", "sparse_content"]


def array_content(array: Any) -> tuple[Any, ...]:
    """What stands for a NumPy array."""
    if type(array) in (np.ndarray, np.memmap):
        return (np.ndarray, *_elements(array))
    own = getattr(array, "__dict__", {})  # attributes that a subclass adds
    return (type(array), own, *_elements(np.asarray(array)))


def _elements(array: Any) -> tuple[Any, ...]:
    about = (array.dtype, array.shape, _axes(array))
    if array.dtype.hasobject:
        return (*about, items_content(array.ravel().tolist()))
    if array.dtype.names is not None:  # without the bytes between the fields
        return (*about, [_elements(array[name])[1:] for name in array.dtype.names])
    flat: Any = np.ascontiguousarray(array).reshape(-1)
    return (*about, xxhash.xxh3_128_digest(flat.view(np.uint8)) if flat.size else b"")


def _axes(array: Any) -> tuple[int, ...] | None:
    """The axes from the outermost in memory to the innermost; `None` for the usual order."""
    if array.flags.c_contiguous:
        return None
    axes = [axis for axis in range(array.ndim) if array.shape[axis] > 1]
    ordered = sorted(axes, key=lambda axis: -abs(array.strides[axis]))
    return None if axes == ordered else tuple(ordered)


def items_content(items: list[Any]) -> Any:
    """What stands for many Python objects: their digest where all are plain, else themselves."""
    return pickle_digest(items) if ATOMS.issuperset(map(type, items)) else items


def scalar_content(scalar: Any) -> tuple[Any, ...]:
    """What stands for a NumPy scalar."""
    if scalar.dtype.names is None and not scalar.dtype.metadata:
        return (type(scalar), scalar.dtype.str, scalar.tobytes())
    return (type(scalar), *_elements(np.asarray(scalar)))


# The attributes that NumPy gives a masked array; users add others.
_OF_MASKED = {
    *("_mask", "_hardmask", "_sharedmask", "_fill_value"),
    *("_baseclass", "_basedict", "_optinfo"),
}


def masked_content(array: Any) -> tuple[Any, ...]:
    """What stands for a masked array."""
    if array is np.ma.masked:  # the one element that is masked, which refuses to be looked into
        return (type(array),)
    own = {name: value for name, value in vars(array).items() if name not in _OF_MASKED}
    about = (type(array), own, vars(array).get("_optinfo"), array.hardmask, array.fill_value)
    return (*about, array.data, array.mask)


def sparse_content(matrix: Any) -> tuple[Any, ...]:
    """What stands for a sparse matrix, without what SciPy has noticed about its order."""
    noticed = {"_has_sorted_indices", "_has_canonical_format", "has_canonical_format"}
    kept = {name: value for name, value in vars(matrix).items() if name not in noticed}
    return (type(matrix), kept)
