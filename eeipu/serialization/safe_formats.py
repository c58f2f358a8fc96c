"""Values in formats that cannot run code: JSON, npy, safetensors and Parquet.

The first segment is a JSON tree of plain Python values. For each array, tensor or table in the
value, the tree names its format and the number of its segment.
"""

import json
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np

from eeipu.errors import CacheFormatError, MissingExtraError
from eeipu.serialization.entry_format import Segment
from eeipu.serialization.tensors import as_inference, is_plain, to_accelerator

__all__ = ["decode", "encode"]

_CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: Any) -> list[Segment]:
    """The segments of a value: the tree, then the segments to which the tree refers.

    Raises:
        CacheFormatError: A part of the value has no safe format.
        MissingExtraError: A part of the value is a tensor or a table, and the library for its
            format is not installed.
    """
    parts: list[Segment] = []
    tree = _tree_of(value, parts)
    return [json.dumps(tree).encode(), *parts]


def decode(segments: Sequence[Segment]) -> Any:
    """The value that `encode` turned into segments.

    Raises:
        CacheFormatError: The tree contains a format that this version of eeipu does not know.
        MissingExtraError: The tree contains a format whose library is not installed.
    """
    return _value_of(json.loads(bytes(segments[0])), segments[1:])


def _tree_of(value: Any, parts: list[Segment]) -> Any:
    """The tree of a value. The segments of its larger parts are appended to `parts`."""
    kind = type(value)  # a subclass would be decoded as its base class, so only exact types count
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple, set, frozenset):
        return {kind.__name__: [_tree_of(each, parts) for each in value]}
    if kind is dict:
        return {"dict": [[_tree_of(k, parts), _tree_of(v, parts)] for k, v in value.items()]}
    form, segment = _segment_of(value)
    parts.append(segment)
    return {form: len(parts) - 1}


def _segment_of(value: Any) -> tuple[str, Segment]:
    """The format and the segment of a value that is not a container."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind is bytes:
        return "bytes", value
    if (kind is np.ndarray or isinstance(value, np.generic)) and not value.dtype.hasobject:
        return ("npy" if kind is np.ndarray else "scalar"), _array_bytes(np.asarray(value))
    if name == "torch.Tensor" and is_plain(value) and not value.requires_grad:
        form = "inference tensor" if value.is_inference() else "tensor"
        form = form if value.device.type == "cpu" else "accelerator tensor"
        save = _library("safetensors.torch").save
        # Torch may store conjugation and negation as a flag, which safetensors does not write.
        values = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        return form, save({"tensor": values})
    if name in ("pandas.DataFrame", "pandas.core.frame.DataFrame"):
        return "parquet", _table_bytes(value)
    raise CacheFormatError(
        f"every format for a {name} can run code when it is loaded; return plain values, arrays, "
        f"tensors or tables, or keep the outputs in a cache with trusted=True."
    )


def _value_of(tree: Any, parts: Sequence[Segment]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((form, content),) = tree.items()
    match form:
        case "list" | "tuple" | "set" | "frozenset":
            return _CONTAINERS[form](_value_of(each, parts) for each in content)
        case "dict":
            return {_value_of(k, parts): _value_of(v, parts) for k, v in content}
        case "bytes":
            return bytes(parts[content])
        case "npy":
            return _array(parts[content])
        case "scalar":
            return _array(parts[content])[()]
        case "tensor" | "inference tensor" | "accelerator tensor":
            return _placed(_tensor(parts[content]), form)
        case "parquet":
            return _table(parts[content])
    raise CacheFormatError(f"it holds a {form!r}, which this version of eeipu does not know")


def _placed(tensor: Any, form: str) -> Any:
    """A tensor that has been loaded, as its format says."""
    if form == "accelerator tensor":
        return to_accelerator(tensor)
    return as_inference(tensor) if form == "inference tensor" else tensor


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
    # Parquet has fewer types than pandas. A table that would come back changed is refused.
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
