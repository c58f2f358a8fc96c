"""What is put into caches whose faults are counted: values of which the right one is known."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KEYS", "MAX_BYTES", "directory", "is_right", "value_of"]

KEYS = [f"{i:02d}" * 32 for i in range(40)]
MAX_BYTES = 2**20


def value_of(key: str, size: int | None = None) -> dict[str, Any]:
    """The one right value under a key."""
    seed = int(key[:4])
    count = 10 ** (seed % 5) if size is None else size
    return {"key": key, "array": np.full(count, seed, dtype=np.float64)}


def is_right(key: str, value: Any) -> bool:
    """Whether a value is the one under a key."""
    return bool(value["key"] == key and np.array_equal(value["array"], value_of(key)["array"]))


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that goes afterwards."""
    path = Path(tempfile.mkdtemp(prefix="eeipu-faults-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
