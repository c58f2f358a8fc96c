"""Digests of pickles, which are hashed while they are written, and never in memory as a whole.

The pickler works without a memo, so that a value that occurs twice is written twice.
"""

import math
import pickle
from collections.abc import Callable
from typing import Any

import xxhash

__all__ = ["TooLargeError", "pickle_digest"]


class TooLargeError(Exception):
    """A pickle has become larger than it may be."""


def pickle_digest(
    value: Any,
    persistent_id: Callable[[Any], Any] | None = None,
    largest_bytes: float = math.inf,
) -> bytes:
    """The digest of a value's pickle, 16 bytes.

    Args:
        value: The value.
        persistent_id: Gives what is written in the place of an object; `None` for the object.
        largest_bytes: The most bytes that the pickle may have.

    Raises:
        TooLargeError: It has more.
        ValueError: A container contains itself, and nothing is written in its place.
        Exception: Whatever pickle raises for the types of the user.
    """
    hashed = _Hash(largest_bytes)
    pickler = _Pickler(hashed, protocol=5)
    pickler.fast = True
    if persistent_id is not None:
        pickler.persistent_id = persistent_id
    pickler.dump(value)
    return hashed.digest()


class _Pickler(pickle.Pickler):
    """A pickler whose attributes can be set, which Python 3.13.0 refuses for its own class."""

    persistent_id: Any


class _Hash:
    """The file to which a pickler writes."""

    def __init__(self, room_bytes: float) -> None:
        self._hash = xxhash.xxh3_128()
        self._room_bytes = room_bytes

    def write(self, data: Any) -> None:
        self._room_bytes -= len(data)
        if self._room_bytes < 0:
            raise TooLargeError
        self._hash.update(data)

    def digest(self) -> bytes:
        return bytes(self._hash.digest())
