"""How masked arrays are pickled: with what NumPy's own pickles leave out.

NumPy forgets whether a mask is hard, and makes a mask of `False` where an array has none.
"""

from typing import Any

import numpy as np

__all__ = ["reduce_masked"]

# The mask is handed over by itself. The other two follow from the elements.
_NOT_STATE = {"_mask", "_basedict", "_baseclass"}


def reduce_masked(array: Any) -> Any:
    """How to pickle a masked array (`reducer_override`), or `NotImplemented` for other values."""
    if type(array) is not np.ma.MaskedArray or type(array.data) is not np.ndarray:
        return NotImplemented
    mask = None if array.mask is np.ma.nomask else array.mask
    state = {name: each for name, each in vars(array).items() if name not in _NOT_STATE}
    return _masked, (array.data, mask, state)


def _masked(data: Any, mask: Any, state: dict[str, Any]) -> Any:
    array: Any = np.ma.MaskedArray(data, np.ma.nomask if mask is None else mask, copy=False)
    vars(array).update(state)
    return array
