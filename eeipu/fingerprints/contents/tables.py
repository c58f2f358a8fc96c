"""Tables of pandas: types, labels and the values of each column.

How a table lies in memory is not part of its content, nor is what pandas remembers about it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from eeipu.fingerprints.contents.arrays import array_content, items_content
from eeipu.fingerprints.contents.arrow import arrow_content

# To look at one column takes as long as to read a few thousand numbers.
_WIDE_COLUMNS = 100

__all__ = ["column_content", "frame_content", "index_content", "series_content"]


def frame_content(table: Any) -> tuple[Any, ...]:
    """What stands for a `DataFrame`."""
    return (*_about(table), table.index, table.columns, _columns_content(table))


def _columns_content(table: Any) -> list[Any]:
    """The columns one by one; of a wide table, all columns of a numeric type at once."""
    if table.shape[1] < _WIDE_COLUMNS:
        return [column_content(column.array) for _, column in table.items()]
    places: dict[Any, list[int]] = {}
    for place, dtype in enumerate(table.dtypes):
        is_numeric = isinstance(dtype, np.dtype) and dtype.kind in "biufc"
        places.setdefault(dtype if is_numeric else None, []).append(place)
    others = [column_content(table.iloc[:, place].array) for place in places.pop(None, [])]
    for dtype, found in places.items():
        part = table if len(found) == table.shape[1] else table.iloc[:, found]
        others.append((dtype, found, array_content(np.ascontiguousarray(part.to_numpy().T))))
    return others


def series_content(series: Any) -> tuple[Any, ...]:
    """What stands for a `Series`."""
    return (*_about(series), series.name, series.index, column_content(series.array))


def _about(table: Any) -> tuple[Any, ...]:
    own = [getattr(table, name, None) for name in table._metadata]  # attributes of a subclass
    return (type(table), table.attrs, own, table.flags.allows_duplicate_labels)


def index_content(index: Any) -> tuple[Any, ...]:
    """What stands for an index."""
    about = (type(index), list(index.names))
    if hasattr(index, "levels"):
        # Levels that no row has count, as a stage can see them; so do categories that none has.
        levels = [column_content(level.array) for level in index.levels]
        return (*about, levels, [array_content(np.asarray(codes)) for codes in index.codes])
    if hasattr(index, "step"):  # a range
        return (*about, index.start, index.stop, index.step)
    return (*about, getattr(index, "freq", None), column_content(index.array))


def column_content(array: Any) -> tuple[Any, ...]:
    """What stands for the values of a column, a pandas array of any kind."""
    about = (type(array), array.dtype)
    names = {each.__name__ for each in type(array).__mro__ if each.__module__.startswith("pandas")}
    for name, content in _CONTENTS.items():
        if name in names:
            return (*about, *content(array))
    return (*about, items_content(np.asarray(array, dtype=object).tolist()))


def _numpy_content(array: Any) -> tuple[Any, ...]:
    return array_content(array.to_numpy())


def _time_content(array: Any) -> tuple[Any, ...]:
    return (array.asi8,)  # as integers; the time zone or the frequency belongs to the type


def _categories_content(array: Any) -> tuple[Any, ...]:
    return (array.codes, array.categories, array.ordered)


def _masked_content(array: Any) -> tuple[Any, ...]:
    missing = array._mask
    # What lies behind a missing value is left from a computation.
    values = np.where(missing, array._data.dtype.type(0), array._data)
    return (values, missing)


def _sparse_content(array: Any) -> tuple[Any, ...]:
    return (array.kind, len(array), array.sp_index.indices, array.sp_values, array.fill_value)


def _interval_content(array: Any) -> tuple[Any, ...]:
    return (array.closed, array.left, array.right)


def _arrow_content(array: Any) -> tuple[Any, ...]:
    return (arrow_content(array._pa_array),)


# By the name of a class, so that nothing is imported; the first that fits counts.
_CONTENTS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "ArrowExtensionArray": _arrow_content,
    "ArrowStringArray": _arrow_content,
    "BaseMaskedArray": _masked_content,
    "Categorical": _categories_content,
    "SparseArray": _sparse_content,
    "IntervalArray": _interval_content,
    "DatetimeLikeArrayMixin": _time_content,
    "StringArray": lambda array: (items_content(array.to_numpy(dtype=object).tolist()),),
    "NumpyExtensionArray": _numpy_content,
}
