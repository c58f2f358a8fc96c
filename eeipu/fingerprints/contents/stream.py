"""Hashes values at the speed of pickle: plain data in C, everything else object by object.

Lists, dicts, tuples and atoms are written by Python's own pickler, in its mode without a memo, so
that a value that occurs twice is written twice. Where there is nothing else in a value, that is all
(`plain`). For each other object the pickler asks for what stands for it: the digest of its content,
which is taken once for each object.

Note:
    Objects may refer to each other in circles. An object that is being taken apart is then written
    as the number of objects between it and the one that refers to it. Objects that belong to a
    circle are counted on until the first of them is complete (its strongly connected component, as
    in Tarjan's algorithm), and what comes later refers to them by their numbers. Objects outside
    of circles are counted only while they are open, so that it makes no difference whether two
    equal ones are the same.
"""

import math
import pickle
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any

import xxhash

from eeipu.fingerprints.contents.kinds import content_of
from eeipu.fingerprints.contents.pickle_digests import TooLargeError, pickle_digest
from eeipu.fingerprints.contents.plain import is_plain
from eeipu.fingerprints.contents.shared import shared_parts
from eeipu.serialization.library_types import package_and_name
from eeipu.serialization.main_module import home_of

__all__ = ["ContentStream", "StandIn"]

StandIn = Callable[[Any], tuple[Any] | None]
"""Gives what stands for a value, in a tuple of one; `None` where the value stands for itself."""

_ATOMS = frozenset((type(None), bool, int, float, str, bytes, bytearray, pickle.PickleBuffer))
_CONTAINERS = frozenset((list, dict, tuple))

_LEAVES = {
    *(("datetime", name) for name in ("date", "time", "datetime", "timedelta")),
    *(("decimal", "Decimal"), ("fractions", "Fraction"), ("builtins", "complex")),
    *(("pandas", "Timestamp"), ("pandas", "Timedelta")),
}

# A container with so many items is taken once, like any other object, however often it occurs.
_MANY_ITEMS = 1000

# Small containers that occur in each other again and again may have far more bytes written out than
# in memory. If a stream would become larger, all of its containers are taken once.
_LARGEST_STREAM_BYTES = 2**26

_NONE = 2**62  # larger than the number of any object


class ContentStream:
    """Hashes the content of values.

    Args:
        stand_in: Gives what stands for the functions and classes in a value.
        reads_folders: Whether a path to a folder stands for all files in it.
    """

    def __init__(self, stand_in: StandIn, *, reads_folders: bool = False) -> None:
        self._given = stand_in
        self._reads_folders = reads_folders
        # By the object's id: the object, which must live on while its id stands for it, its
        # digest, and what it shares with others.
        self._known: dict[int, tuple[Any, bytes | None, tuple[Any, ...]]] = {}
        self._numbers: dict[int, int] = {}  # of the objects that are open, by id
        self._open: list[Any] = []  # the same objects in the order of their numbers
        self._depths: list[int] = []  # the numbers of the objects that are being taken apart
        self._lowest = _NONE  # the lowest number that the object underway refers to
        self._shared: list[Any] = []
        self._takes_containers = False
        self._root: Any = None

    def digest(self, value: Any) -> bytes:
        """The digest of a value, 16 bytes.

        Raises:
            Exception: Whatever pickle raises for the types of the user.
        """
        if type(value) in _CONTAINERS and is_plain(value):
            return pickle_digest(value)
        found = self._written(value)
        times = Counter(key for key, _ in self._shared)
        if len(times) < len(self._shared):
            numbers = {key: number for number, key in enumerate(times)}
            parts = [
                (numbers[key], detail if times[key] > 1 else None) for key, detail in self._shared
            ]
            found = self._written((found, parts))
        return found

    def _written(self, value: Any, *, takes_containers: bool = False) -> bytes:
        """The digest of a value's stream, where need be with each container taken once."""
        opened, shared, lowest, takes = self._now()
        self._takes_containers = takes_containers
        try:
            self._root = value
            largest_bytes = math.inf if takes_containers else _LARGEST_STREAM_BYTES
            return pickle_digest(value, self._persistent_id, largest_bytes)
        except TooLargeError:
            pass
        except ValueError as error:  # perhaps a container that contains itself
            if takes_containers or not str(error).startswith("fast mode"):
                raise
        finally:
            self._takes_containers = takes
        self._forget_from(opened)
        del self._shared[shared:]
        self._lowest = lowest
        return self._written(value, takes_containers=True)

    def _now(self) -> tuple[int, int, int, bool]:
        return len(self._open), len(self._shared), self._lowest, self._takes_containers

    def _persistent_id(self, obj: Any) -> Any:
        """What the pickler writes in the place of an object; `None` for the object itself."""
        kind: Any = type(obj)
        if kind in _ATOMS or _is_leaf(kind):
            return None
        if kind in _CONTAINERS:
            if obj is self._root:
                self._root = None
                return None
            if len(obj) < _MANY_ITEMS and not self._takes_containers:
                return None
        known = self._known.get(id(obj))
        if known is not None:
            self._shared += known[2]
            return known[1]
        number = self._numbers.get(id(obj))
        if number is not None:
            self._lowest = min(self._lowest, number)
            return f"^{self._depths[-1] - number}"
        return self._taken(obj)

    def _taken(self, obj: Any) -> bytes | None:
        """The digest of an object that was not met before; `None` if its name stands for it."""
        is_container = type(obj) in _CONTAINERS
        given = None if is_container else self._given(obj)
        if given is None and isinstance(obj, type | FunctionType):
            self._known[id(obj)] = (obj, None, ())
            return None
        number, shared, lowest = len(self._open), len(self._shared), self._lowest
        self._numbers[id(obj)] = number
        self._open.append(obj)
        self._depths.append(number)
        self._lowest = _NONE
        self._shared += shared_parts(obj)
        try:
            if is_container and is_plain(obj):
                found = pickle_digest(obj)
            elif is_container:
                found = self._written(obj, takes_containers=self._takes_containers)
            elif given is not None:
                found = self._written(("code", *given))
            else:
                found = self._written(self._content(obj))
        finally:
            self._depths.pop()
            refers_to, self._lowest = self._lowest, lowest
        if refers_to < number:  # it belongs to a circle that is not complete
            self._lowest = min(lowest, refers_to)
            return found
        self._close(number, found, tuple(self._shared[shared:]))
        return found

    def _close(self, number: int, found: bytes, shared: tuple[Any, ...]) -> None:
        """Note the digests of an object and of the others in its circle."""
        root, *others = self._open[number:]
        self._known[id(root)] = (root, found, shared)
        for index, each in enumerate(others):
            self._known[id(each)] = (each, xxhash.xxh3_128_digest(found + b"%d" % index), shared)
        self._forget_from(number)

    def _forget_from(self, number: int) -> None:
        for each in self._open[number:]:
            del self._numbers[id(each)]
        del self._open[number:]

    def _content(self, obj: Any) -> tuple[Any, ...]:
        return content_of(obj, _digest_by_name, reads_folders=self._reads_folders)


@lru_cache(maxsize=1024)
def _is_leaf(kind: Any) -> bool:
    """Whether objects of a type are like numbers, which pickle itself takes apart the fastest."""
    return package_and_name(kind) in _LEAVES


def _digest_by_name(value: Any) -> bytes:
    """The digest of a value in which functions and classes count by their names."""

    def name(inner: Any) -> tuple[Any] | None:
        is_code = isinstance(inner, type) or hasattr(inner, "__code__")
        return (f"{home_of(inner.__module__)}.{inner.__qualname__}",) if is_code else None

    return ContentStream(name).digest(value)
