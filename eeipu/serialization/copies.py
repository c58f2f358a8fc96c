"""Copies of values in the memory of this process, where there is room for them."""

from pickle import PickleBuffer
from typing import Any

import psutil

from eeipu.serialization import transport

__all__ = ["segments_with_room"]

# The share of the free memory that a copy may take.
COPY_SHARE = 0.1


def segments_with_room(value: Any) -> list[bytes | PickleBuffer] | None:
    """A value as segments, which `transport.loads_apart` makes a copy of.

    Returns:
        The segments, in which the memory of large arrays is the value's own; `None` where a copy
        would take too much of the free memory.

    Raises:
        Exception: Whatever pickle or the value's own methods raise.
    """
    parts = transport.segments(value)
    size_bytes = sum(PickleBuffer(part).raw().nbytes for part in parts)
    has_room = size_bytes <= COPY_SHARE * psutil.virtual_memory().available
    return parts if has_room else None
