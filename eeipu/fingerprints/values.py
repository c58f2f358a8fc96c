"""Digests of values by content: equal values have equal digests, in every process.

joblib's hasher, extended to what it does not hash by content: tensors, tables, sets, files, and
functions and classes, whose code is for the caller to name.
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

__all__ = ["Code", "Fingerprinted", "digest", "plain", "reason"]

# What stands for a function or a class (as a tuple of one); `None` for anything else, and for
# what is known well enough by its name.
Code = Callable[[Any], tuple[Any] | None]


@dataclass(frozen=True)
class Fingerprinted:
    """An input under a fingerprint of its user's choice, for data too large to hash.

    The first stage gets the value alone. Whoever names a fingerprint promises that it changes
    when the value does.

    Attributes:
        value: The input.
        fingerprint: What stands for its content.

    Raises:
        ConfigurationError: The fingerprint is not a string with something in it.
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
        """A file or directory, known by names, sizes and times of change instead of content.

        Raises:
            FileNotFoundError: There is none.
        """
        path = Path(path)
        files = [path] if path.is_file() else _files_below(path)
        seen = [(str(each), each.stat().st_size, each.stat().st_mtime_ns) for each in files]
        if not path.exists():
            raise FileNotFoundError(f"there is no file or directory {str(path)!r}.")
        return cls(path, f"{path.resolve()} {digest(seen)}")


def plain(value: Any) -> Any:
    """What a stage gets for an input."""
    return value.value if isinstance(value, Fingerprinted) else value


def digest(value: Any, code: Code = lambda _: None, *, reads_paths: bool = False) -> str:
    """A digest of any value that can be pickled.

    Args:
        value: The value.
        code: Names the code of functions and classes in it.
        reads_paths: Whether a path stands for the content of its file or directory.

    Raises:
        Exception: Whatever pickle raises for the user's own types.
    """
    return str(_ContentHasher(code, reads_paths).hash(value))


class _ContentHasher(NumpyHasher):
    def __init__(self, code: Code, reads_paths: bool) -> None:
        super().__init__(hash_name="sha1")
        self._code = code
        self._reads_paths = reads_paths

    def save(self, obj: Any) -> None:
        """Write one value, or what stands for it, into the stream that is hashed."""
        super().save(self._stand_in(obj))

    def _stand_in(self, obj: Any) -> Any:
        named = self._code(obj)
        if named is not None:
            return ("code", *named)
        content = _library_content(obj) or _python_content(obj)
        if content is not None:
            return content
        if isinstance(obj, Fingerprinted):
            return ("fingerprinted", obj.fingerprint)
        if self._reads_paths and isinstance(obj, Path):
            return _path_content(obj)
        return obj

    def _batch_setitems(self, items: Iterable[tuple[Any, Any]], *args: Any) -> None:
        # In their order, which a stage may go by. joblib sorts, and takes a TypeError from
        # anywhere inside a value for keys without an order, and then leaves out the value.
        super(Hasher, self)._batch_setitems(iter(list(items)), *args)


def _library_content(obj: Any) -> tuple[Any, ...] | None:
    """What stands for tensors, tables and arrays; `None` for others."""
    torch, pandas, sparse = map(sys.modules.get, ("torch", "pandas", "scipy.sparse"))
    if torch is not None and isinstance(obj, torch.Tensor) and is_plain(obj):
        return _tensor_content(obj)  # pickled tensors hold the address of their memory
    if pandas is not None and isinstance(obj, pandas.DataFrame | pandas.Series | pandas.Index):
        return _table_content(obj)
    if sparse is not None and isinstance(obj, sparse.spmatrix | sparse.sparray):
        return _sparse_content(obj)
    if isinstance(obj, _validators()):
        # It holds all of a module; what the hints of its function name counts with the function.
        return (type(obj), obj.function, obj.validate_return, obj.config_wrapper.config_dict)
    if isinstance(obj, np.ma.MaskedArray):
        return (type(obj), vars(obj).get("_optinfo"), obj.data, obj.mask, obj.fill_value)
    if isinstance(obj, np.ndarray) and type(obj) not in (np.ndarray, np.memmap):
        # joblib hashes an array's memory, and not what a subclass adds to it.
        return (type(obj), vars(obj), np.asarray(obj))
    return None


def _validators() -> Any:
    """The type of what `pydantic.validate_call` puts around a function."""
    pydantic = sys.modules.get("pydantic._internal._validate_call")
    return getattr(pydantic, "ValidateCallWrapper", ())


def _python_content(obj: Any) -> tuple[Any, ...] | None:
    """What stands for values of Python's own types that joblib takes for something else."""
    if isinstance(obj, MethodType):
        return ("method", obj.__func__, obj.__self__)  # joblib takes the function's name
    if isinstance(obj, set | frozenset):
        # Not all elements have an order, and their hashes differ from process to process.
        return (type(obj), sorted(obj, key=_by_name))
    if isinstance(obj, MappingProxyType):
        return ("mappingproxy", dict(obj))
    if isinstance(obj, ContextVar):
        return ("context variable", obj.name, *_bound(obj))
    return None


def _bound(variable: ContextVar[Any]) -> list[Any]:
    """The value of a variable, if it has one here or by default."""
    try:
        return [variable.get()]
    except LookupError:
        return []


def _by_name(value: Any) -> str:
    """A digest to sort by, in which functions and classes count by their names."""

    def name(part: Any) -> tuple[Any] | None:
        is_code = isinstance(part, type) or hasattr(part, "__code__")
        return (f"{part.__module__}.{part.__qualname__}",) if is_code else None

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
    """The arrays: what a library has noticed about their order meanwhile is not their content."""
    noticed = {"_has_sorted_indices", "_has_canonical_format", "has_canonical_format"}
    kept = {name: value for name, value in vars(matrix).items() if name not in noticed}
    return (type(matrix), kept)


def _table_content(table: Any) -> tuple[Any, ...]:
    """The columns one by one: how pandas lays them out in memory is not their content."""
    pandas = sys.modules["pandas"]
    if isinstance(table, pandas.MultiIndex):
        return (type(table), _table_content(table.to_frame(index=False, allow_duplicates=True)))
    if isinstance(table, pandas.Index):
        step = getattr(table, "freq", None)
        return (type(table), list(table.names), step, *_column_content(table))
    own = [getattr(table, name, None) for name in table._metadata]  # what a subclass adds
    if isinstance(table, pandas.Series):
        return (type(table), table.attrs, own, table.name, table.index, *_column_content(table))
    columns = [_column_content(table.iloc[:, i]) for i in range(table.shape[1])]
    return (type(table), table.attrs, own, table.index, table.columns, columns)


def _column_content(column: Any) -> tuple[Any, Any]:
    if isinstance(column.dtype, np.dtype):
        return str(column.dtype), np.ascontiguousarray(column.to_numpy())
    return column.dtype, column.to_numpy(dtype=object)


def _path_content(path: Path) -> tuple[str, ...]:
    """The name, which a stage may go by, and what is in the file or below the directory."""
    if path.is_dir():
        files = _files_below(path)
        return (path.name, *(f"{p.relative_to(path)} {_file_content(p)}" for p in files))
    return (path.name, _file_content(path)) if path.is_file() else ("no file", str(path))


def _file_content(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=20)).hexdigest()


def _files_below(path: Path) -> list[Path]:
    """All files, also those in folders that are links; no folder twice on one way down."""
    files = []
    for folder, folders, names in os.walk(path, followlinks=True):
        here = os.path.realpath(folder)
        folders[:] = [f for f in folders if not _leads_up(Path(folder, f), here)]
        files += [Path(folder, name) for name in names]
    return sorted(each for each in files if each.is_file())


def _leads_up(folder: Path, here: str) -> bool:
    """Whether a folder is the one that it is in, or around that."""
    return Path(here).is_relative_to(os.path.realpath(folder))


def reason(error: Exception) -> str:
    """The first thing that an error says; joblib appends the whole value to it."""
    return f"{type(error).__name__}: {next(iter(error.args), '')}"
