"""Arrow data: values and types, whatever chunks, offsets and buffers they lie in."""

import sys
from typing import Any

import numpy as np
import xxhash

__all__ = ["arrow_array_content", "arrow_content", "arrow_table_content"]


def arrow_table_content(table: Any) -> tuple[Any, ...]:
    """What stands for a table or a record batch."""
    about = (type(table), str(table.schema), table.schema.metadata, table.num_rows)
    fields = [(f.name, f.nullable, f.metadata) for f in table.schema]
    return (*about, fields, [arrow_content(column) for column in table.columns])


def arrow_array_content(array: Any) -> tuple[Any, ...]:
    """What stands for an array or a chunked array as an object."""
    return (type(array).__name__ == "ChunkedArray", str(array.type), arrow_content(array))


def arrow_content(array: Any) -> tuple[Any, ...]:
    """What stands for the elements of an array or a chunked array."""
    pa: Any = sys.modules["pyarrow"]
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # too large for one array
        return ("chunks", [arrow_content(chunk) for chunk in array.chunks])
    if isinstance(array, pa.ExtensionArray):
        return (str(array.type), arrow_content(array.storage))
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return (
        len(array),
        None if missing is None else _digest(missing),
        _values(array, missing, pa.types),
    )


def _values(array: Any, missing: Any, types: Any) -> Any:
    kind = array.type
    if types.is_null(kind):
        return None
    if types.is_boolean(kind):
        filled = array.fill_null(False)
        return _digest(filled.to_numpy(zero_copy_only=False))
    if types.is_dictionary(kind):
        return (kind.ordered, arrow_content(array.indices), arrow_content(array.dictionary))
    if types.is_struct(kind):
        return [arrow_content(field) for field in array.flatten()]
    if _is_text(kind, types):
        return _text(array, missing)
    if types.is_list(kind) or types.is_large_list(kind):
        lengths = array.value_lengths().fill_null(0)
        return (arrow_content(lengths), arrow_content(array.flatten()))
    if types.is_primitive(kind) or types.is_decimal(kind) or types.is_fixed_size_binary(kind):
        return _fixed_width(array, missing)
    return array.to_pylist()


def _is_text(kind: Any, types: Any) -> bool:
    known = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(each(kind) for each in known)


def _text(array: Any, missing: Any) -> tuple[bytes, bytes]:
    """The lengths and the bytes of strings. Offsets have 4 or 8 bytes each, which may change."""
    if missing is not None:
        pc = sys.modules["pyarrow"].compute
        array = pc.fill_null(array, b"" if "binary" in str(array.type) else "")
    if len(array) == 0:
        return (b"", b"")
    width = np.int64 if str(array.type).startswith("large") else np.int32
    _, offsets, data = array.buffers()
    start, stop = array.offset, array.offset + len(array) + 1
    ends = np.frombuffer(offsets, dtype=width)[start:stop]
    lengths = np.diff(ends).astype(np.int64)
    chars = b"" if data is None else memoryview(data)[int(ends[0]) : int(ends[-1])]
    return (_digest(lengths), xxhash.xxh3_128_digest(chars))


def _fixed_width(array: Any, missing: Any) -> bytes:
    width = array.type.byte_width
    start, stop = array.offset * width, (array.offset + len(array)) * width
    data = array.buffers()[1]
    if data is None or start == stop:
        return b""
    rows = np.frombuffer(data, dtype=np.uint8)[start:stop].reshape(len(array), width)
    if missing is not None:
        rows = np.where(missing[:, None], np.uint8(0), rows)
    return _digest(rows)


def _digest(array: Any) -> bytes:
    flat: Any = np.ascontiguousarray(array)
    return bytes(xxhash.xxh3_128_digest(flat.view(np.uint8)))
