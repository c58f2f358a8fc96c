"""Values in formats that cannot run code: JSON, npy, safetensors and Parquet.

The first segment is a JSON tree of plain Python values. Where the value has an array, a tensor
or a table, the tree names the segment that holds it.
"""

import json
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np

from eeipu.errors import CacheFormatError, MissingExtraError
from eeipu.serialization.entry_format import Segment
from eeipu.serialization.tensors import is_plain, to_accelerator

__all__ = ["dumps", "loads"]

_CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def dumps(value: Any) -> list[Segment]:
    """The segments of a value: the tree, then what the tree refers to.

    Raises:
        CacheFormatError: A part of it has no safe format.
        MissingExtraError: A part of it is a tensor or a table, whose format needs a library.
    """
    parts: list[Segment] = []
    tree = _described(value, parts)
    return [json.dumps(tree).encode(), *parts]


def loads(segments: Sequence[Segment]) -> Any:
    """The value of segments.

    Raises:
        CacheFormatError: The tree is not one that `dumps` makes.
        MissingExtraError: It refers to a format whose library is not installed.
    """
    return _value(json.loads(bytes(segments[0])), segments[1:])


def _described(value: Any, parts: list[Segment]) -> Any:
    """The tree of a value, whose larger parts are appended to `parts`."""
    kind = type(value)  # exactly: a subclass would come back as something else
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple, set, frozenset):
        return {kind.__name__: [_described(each, parts) for each in value]}
    if kind is dict:
        return {"dict": [[_described(k, parts), _described(v, parts)] for k, v in value.items()]}
    form, segment = _segment(value)
    parts.append(segment)
    return {form: len(parts) - 1}


def _segment(value: Any) -> tuple[str, Segment]:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind is bytes:
        return "bytes", value
    if (kind is np.ndarray or isinstance(value, np.generic)) and not value.dtype.hasobject:
        return ("npy" if kind is np.ndarray else "scalar"), _array_bytes(np.asarray(value))
    if name == "torch.Tensor" and is_plain(value) and not value.requires_grad:
        form = "tensor" if value.device.type == "cpu" else "accelerator tensor"
        save = _library("safetensors.torch").save
        # Conjugates and negatives may be mere marks, which safetensors does not write.
        values = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return form, save({"tensor": values})
    if name in ("pandas.DataFrame", "pandas.core.frame.DataFrame"):
        return "parquet", _table_bytes(value)
    raise CacheFormatError(
        f"a {name} has no format that cannot run code; return plain values, arrays, tensors or "
        f"tables, or keep the outputs in a cache with trusted=True."
    )


def _value(tree: Any, parts: Sequence[Segment]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((form, content),) = tree.items()
    match form:
        case "list" | "tuple" | "set" | "frozenset":
            return _CONTAINERS[form](_value(each, parts) for each in content)
        case "dict":
            return {_value(k, parts): _value(v, parts) for k, v in content}
        case "bytes":
            return bytes(parts[content])
        case "npy":
            return _array(parts[content])
        case "scalar":
            return _array(parts[content])[()]
        case "tensor":
            return _tensor(parts[content])
        case "accelerator tensor":
            return to_accelerator(_tensor(parts[content]))
        case "parquet":
            return _table(parts[content])
    raise CacheFormatError(f"it holds a {form!r}, which this version of eeipu does not know")


def _array_bytes(array: np.ndarray[Any, Any]) -> Segment:
    stream = BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getbuffer()


def _array(segment: Segment) -> Any:
    return np.lib.format.read_array(BytesIO(segment), allow_pickle=False)


def _tensor(segment: Segment) -> Any:
    return _library("safetensors.torch").load(bytes(segment))["tensor"]


def _table_bytes(table: Any) -> Segment:
    _library("pyarrow")
    stream = BytesIO()
    try:
        table.to_parquet(stream, engine="pyarrow")
        again = _table(stream.getbuffer())
    except Exception as error:  # pyarrow and pandas each raise errors of their own
        raise CacheFormatError(f"a table cannot be written as Parquet ({error})") from error
    # Parquet has fewer types than pandas: what does not come back as it was is not kept.
    if not (again.equals(table) and again.columns.equals(table.columns)):
        raise CacheFormatError("a table does not come back from Parquet as it was written")
    return stream.getbuffer()


def _table(segment: Segment) -> Any:
    _library("pyarrow")
    return import_module("pandas").read_parquet(BytesIO(segment), engine="pyarrow")


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"a cache with trusted=False needs {name} for such a value: "
            f'pip install "eeipu[safe]" ({error})'
        ) from error
