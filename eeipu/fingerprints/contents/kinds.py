"""What stands for an object, by its type."""

import random
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, MethodType
from typing import Any

import numpy as np

from eeipu.fingerprints.contents import arrays, arrow, readers, tables, torch_values
from eeipu.fingerprints.contents.files import path_content
from eeipu.fingerprints.contents.objects import reduced_content
from eeipu.fingerprints.contents.shared import is_shared_generator
from eeipu.serialization.library_types import package_and_name

__all__ = ["content_of"]

Content = Callable[[Any], tuple[Any, ...] | None]


def content_of(obj: Any, digest: Callable[[Any], bytes], *, reads_folders: bool) -> tuple[Any, ...]:
    """What stands for an object that is not plain data, in terms of its parts.

    Args:
        obj: The object.
        digest: Gives the digest of a value, in which code counts by its name.
        reads_folders: Whether a path to a folder stands for the files in it.

    Raises:
        Exception: Whatever pickle raises for the object.
    """
    kind: Any = type(obj)
    content = _content_function(kind)
    if content is None and isinstance(obj, Path):
        return path_content(obj, reads_folders=reads_folders)
    if content is None and isinstance(obj, set | frozenset):
        return (type(obj), getattr(obj, "__dict__", None), _ordered(obj, digest))
    found = None if content is None else content(obj)
    return reduced_content(obj, digest) if found is None else found


def _ordered(elements: Any, digest: Callable[[Any], bytes]) -> list[Any]:
    """The elements of a set in an order that is the same in every process."""
    # Not all elements have an order, and their hashes differ from process to process.
    kinds = set(map(type, elements))
    is_simple = len(kinds) == 1 and kinds <= {int, str, bytes}
    return sorted(elements) if is_simple else sorted(elements, key=digest)


def _bound(variable: ContextVar[Any]) -> list[Any]:
    """The value of a context variable in a list, which is empty if it has none."""
    try:
        return [variable.get()]
    except LookupError:
        return []


def _generator_content(generator: Any) -> tuple[Any, ...] | None:
    """The type of a generator that the whole process shares; `None` for all others."""
    return ("a shared generator", type(generator)) if is_shared_generator(generator) else None


def _validator_content(wrapper: Any) -> tuple[Any, ...]:
    # It holds a whole module. The names in its function's hints count with the function.
    config = wrapper.config_wrapper.config_dict
    return (type(wrapper), wrapper.function, wrapper.validate_return, config)


# By type, or by the names of a package and of a class, so that nothing is imported.
_CONTENTS: dict[Any, Content] = {
    MethodType: lambda method: ("method", method.__func__, method.__self__),
    MappingProxyType: lambda proxy: ("mappingproxy", dict(proxy)),
    ContextVar: lambda variable: ("context variable", variable.name, *_bound(variable)),
    random.Random: _generator_content,
    np.random.RandomState: _generator_content,
    np.ma.MaskedArray: arrays.masked_content,
    np.ndarray: arrays.array_content,
    np.generic: arrays.scalar_content,
    ("eeipu", "Fingerprinted"): lambda given: ("fingerprinted", given.fingerprint),
    ("pandas", "DataFrame"): tables.frame_content,
    ("pandas", "Series"): tables.series_content,
    ("pandas", "Index"): tables.index_content,
    ("pandas", "ExtensionArray"): tables.column_content,
    ("pyarrow", "Table"): arrow.arrow_table_content,
    ("pyarrow", "RecordBatch"): arrow.arrow_table_content,
    ("pyarrow", "ChunkedArray"): arrow.arrow_array_content,
    ("pyarrow", "Array"): arrow.arrow_array_content,
    ("pydantic", "ValidateCallWrapper"): _validator_content,
    ("scipy", "spmatrix"): arrays.sparse_content,
    ("scipy", "sparray"): arrays.sparse_content,
    ("polars", "LazyFrame"): readers.lazy_frame_content,
    ("pyarrow", "FileFragment"): readers.fragment_content,
    ("fsspec", "OpenFile"): readers.open_file_content,
    ("datasets", "Table"): readers.hub_table_content,
    ("torch", "Tensor"): torch_values.tensor_content,
}


@lru_cache(maxsize=1024)
def _content_function(kind: Any) -> Content | None:
    for each in kind.__mro__:
        name = package_and_name(each)
        found = _CONTENTS.get(each) or _CONTENTS.get(name)
        if found is not None:
            return found
    return None
