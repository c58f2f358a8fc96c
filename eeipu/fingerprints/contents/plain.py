"""Plain data: numbers, strings, bytes and `None`, and the lists, tuples and dicts made of them."""

import gc
from typing import Any

__all__ = ["ATOMS", "is_plain"]

ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes))
"""The types of data that has no parts. Subclasses may have some."""

_TYPES = ATOMS | {list, tuple, dict}

# What occurs several times counts as often as it does so, and may be more than there is in memory.
_MOST_PARTS = 2**25
_DEEPEST = 100
# Of a depth with this many parts at least, one in so many has to be an object of its own: what is
# shared on each depth doubles from one to the next, and would be looked at to the end.
_MANY, _ONE_IN = 2**12, 16


def is_plain(value: Any) -> bool:
    """Whether a value is plain data through and through.

    All parts at one depth are looked at together, in loops that Python runs in C. Data that is
    nested too deeply, that has too many parts, or the same ones again and again, does not count as
    plain.
    """
    level, count = [value], 0
    for _ in range(_DEEPEST):
        kinds = set(map(type, level))
        if not kinds <= _TYPES:
            return False
        if kinds <= ATOMS:
            return True
        if len(level) > _MANY and len(set(map(id, level))) * _ONE_IN < len(level):
            return False
        level = gc.get_referents(*level)
        count += len(level)
        if count > _MOST_PARTS:
            return False
    return False
