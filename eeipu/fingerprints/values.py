"""Digests of values by content: equal values have equal digests, in every process.

This extends joblib's hasher to values that it does not hash by content: tensors, tables, sets,
files, and functions and classes, for which the caller says what stands for them.
"""

import os
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from types import MappingProxyType, MethodType
from typing import Any

import numpy as np
from joblib.hashing import Hasher, NumpyHasher

from eeipu.errors import ConfigurationError
from eeipu.serialization.tensors import is_plain, tensor_bytes

__all__ = ["Fingerprinted", "StandIn", "digest", "plain", "reason"]

StandIn = Callable[[Any], tuple[Any] | None]
"""Gives what stands for a value, in a tuple of one; `None` where the value stands for itself."""


@dataclass(frozen=True)
class Fingerprinted:
    """An input with a fingerprint that the user chose, for data too large to hash.

    The first stage gets the value alone. The user promises that the fingerprint changes whenever
    the value does.

    Attributes:
        value: The input.
        fingerprint: The string that stands for its content.

    Raises:
        ConfigurationError: The fingerprint is not a string, or is empty.
    """

    value: Any
    fingerprint: str

    def __post_init__(self) -> None:
        if not (isinstance(self.fingerprint, str) and self.fingerprint):
            raise ConfigurationError(
                f"the fingerprint of an input must be a string such as a version or a checksum, "
                f"but got {self.fingerprint!r}."
            )

    @classmethod
    def by_stat(cls, path: str | Path) -> "Fingerprinted":
        """A file or directory, identified by names, sizes and modification times.

        Raises:
            FileNotFoundError: There is no such file or directory.
        """
        path = Path(path)
        files = [path] if path.is_file() else _files_below(path)
        seen = [(str(each), each.stat().st_size, each.stat().st_mtime_ns) for each in files]
        if not path.exists():
            raise FileNotFoundError(f"there is no file or directory {str(path)!r}.")
        return cls(path, f"{path.resolve()} {digest(seen)}")


def plain(value: Any) -> Any:
    """The value that a stage gets for an input: a `Fingerprinted` without its fingerprint."""
    return value.value if isinstance(value, Fingerprinted) else value


def digest(value: Any, stand_in: StandIn = lambda _: None, *, reads_paths: bool = False) -> str:
    """A digest of any value that can be pickled.

    Args:
        value: The value.
        stand_in: Gives what stands for the functions and classes in it.
        reads_paths: Whether a path stands for the content of its file or directory.

    Raises:
        Exception: Whatever pickle raises for the user's own types.
    """
    return str(_ContentHasher(stand_in, reads_paths).hash(value))


class _ContentHasher(NumpyHasher):
    def __init__(self, given: StandIn, reads_paths: bool) -> None:
        super().__init__(hash_name="sha1")
        self._given = given
        self._reads_paths = reads_paths

    def save(self, obj: Any) -> None:
        """Write a value, or what stands for it, into the stream that is hashed."""
        super().save(self._stand_in(obj))

    def _stand_in(self, obj: Any) -> Any:
        given = self._given(obj)
        if given is not None:
            return ("code", *given)
        content = _library_content(obj) or _python_content(obj)
        if content is not None:
            return content
        if isinstance(obj, Fingerprinted):
            return ("fingerprinted", obj.fingerprint)
        if self._reads_paths and isinstance(obj, Path):
            return _path_content(obj)
        return obj

    def _batch_setitems(self, items: Iterable[tuple[Any, Any]], *args: Any) -> None:
        # In their own order, on which a stage may depend. joblib sorts the items, takes any
        # TypeError from inside a value to mean that the keys have no order, and then leaves out
        # the value.
        super(Hasher, self)._batch_setitems(iter(list(items)), *args)


def _library_content(obj: Any) -> tuple[Any, ...] | None:
    """What stands for tensors, tables and arrays; `None` for other values."""
    torch, pandas, sparse = map(sys.modules.get, ("torch", "pandas", "scipy.sparse"))
    if torch is not None and isinstance(obj, torch.Tensor) and is_plain(obj):
        return _tensor_content(obj)  # the pickle of a tensor holds the address of its memory
    if pandas is not None and isinstance(obj, pandas.DataFrame | pandas.Series | pandas.Index):
        return _table_content(obj)
    if sparse is not None and isinstance(obj, sparse.spmatrix | sparse.sparray):
        return _sparse_content(obj)
    if isinstance(obj, _validators()):
        # It holds a whole module. The names in its function's hints count with the function.
        return (type(obj), obj.function, obj.validate_return, obj.config_wrapper.config_dict)
    if isinstance(obj, np.ma.MaskedArray):
        return (type(obj), vars(obj).get("_optinfo"), obj.data, obj.mask, obj.fill_value)
    if isinstance(obj, np.ndarray) and type(obj) not in (np.ndarray, np.memmap):
        # joblib hashes the memory of an array, but not the attributes that a subclass adds.
        return (type(obj), vars(obj), np.asarray(obj))
    return None


def _validators() -> Any:
    """The type of the wrapper that `pydantic.validate_call` puts around a function."""
    pydantic = sys.modules.get("pydantic._internal._validate_call")
    return getattr(pydantic, "ValidateCallWrapper", ())


def _python_content(obj: Any) -> tuple[Any, ...] | None:
    """What stands for values of Python's own types that joblib does not hash by content."""
    if isinstance(obj, MethodType):
        return ("method", obj.__func__, obj.__self__)  # joblib goes by the function's name
    if isinstance(obj, set | frozenset):
        # Not all elements have an order, and their hashes differ from process to process.
        return (type(obj), sorted(obj, key=_by_name))
    if isinstance(obj, MappingProxyType):
        return ("mappingproxy", dict(obj))
    if isinstance(obj, ContextVar):
        return ("context variable", obj.name, *_bound(obj))
    return None


def _bound(variable: ContextVar[Any]) -> list[Any]:
    """The value of a context variable in a list, which is empty if it has none."""
    try:
        return [variable.get()]
    except LookupError:
        return []


def _by_name(value: Any) -> str:
    """A digest to sort by, in which functions and classes count by their names."""

    def name(inner: Any) -> tuple[Any] | None:
        is_code = isinstance(inner, type) or hasattr(inner, "__code__")
        return (f"{inner.__module__}.{inner.__qualname__}",) if is_code else None

    return digest(value, name)


def _tensor_content(tensor: Any) -> tuple[Any, ...]:
    return (
        type(tensor),
        vars(tensor),
        str(tensor.dtype),
        tuple(tensor.shape),
        tensor.device.type,
        tensor.requires_grad,
        tensor.grad if tensor.is_leaf else None,
        tensor_bytes(tensor),
    )


def _sparse_content(matrix: Any) -> tuple[Any, ...]:
    """The arrays, without the flags in which a library remembers whether they are sorted."""
    noticed = {"_has_sorted_indices", "_has_canonical_format", "has_canonical_format"}
    kept = {name: value for name, value in vars(matrix).items() if name not in noticed}
    return (type(matrix), kept)


def _table_content(table: Any) -> tuple[Any, ...]:
    """The columns one by one, since the layout in memory is not part of a table's content."""
    pandas = sys.modules["pandas"]
    if isinstance(table, pandas.MultiIndex):
        return (type(table), _table_content(table.to_frame(index=False, allow_duplicates=True)))
    if isinstance(table, pandas.Index):
        step = getattr(table, "freq", None)
        return (type(table), list(table.names), step, *_column_content(table))
    own = [getattr(table, name, None) for name in table._metadata]  # attributes of a subclass
    if isinstance(table, pandas.Series):
        return (type(table), table.attrs, own, table.name, table.index, *_column_content(table))
    columns = [_column_content(table.iloc[:, i]) for i in range(table.shape[1])]
    return (type(table), table.attrs, own, table.index, table.columns, columns)


def _column_content(column: Any) -> tuple[Any, Any]:
    if isinstance(column.dtype, np.dtype):
        return str(column.dtype), np.ascontiguousarray(column.to_numpy())
    return column.dtype, column.to_numpy(dtype=object)


def _path_content(path: Path) -> tuple[str, ...]:
    """The name, on which a stage may depend, and the content of the file or directory."""
    if path.is_dir():
        files = _files_below(path)
        return (path.name, *(f"{p.relative_to(path)} {_file_content(p)}" for p in files))
    return (path.name, _file_content(path)) if path.is_file() else ("no file", str(path))


def _file_content(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=20)).hexdigest()


def _files_below(path: Path) -> list[Path]:
    """All files below a folder, following links but no link that leads back up."""
    files = []
    for folder, folders, names in os.walk(path, followlinks=True):
        here = os.path.realpath(folder)
        folders[:] = [f for f in folders if not _leads_up(Path(folder, f), here)]
        files += [Path(folder, name) for name in names]
    return sorted(each for each in files if each.is_file())


def _leads_up(folder: Path, here: str) -> bool:
    """Whether a folder is a link to the folder `here` or to one that contains it."""
    return Path(here).is_relative_to(os.path.realpath(folder))


def reason(error: Exception) -> str:
    """An error's type and first argument, without the whole value that joblib appends."""
    return f"{type(error).__name__}: {next(iter(error.args), '')}"
