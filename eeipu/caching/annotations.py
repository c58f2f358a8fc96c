"""Changing what an entry says about itself, while its value stays as it is."""

from collections.abc import Callable

from eeipu.caching.locations import Place
from eeipu.serialization.entry_format import Header

__all__ = ["annotate"]


def annotate(place: Place, key: str, changed: Callable[[Header], Header]) -> None:
    """Change the header of an entry. The entry is written anew, so that no reader sees half of it.

    Args:
        place: The place of a cache.
        key: The key of the entry. If it is dropped meanwhile, it stays dropped.
        changed: Makes the new header of the one that the entry has now.

    Raises:
        KeyError: There is no entry under this key.
        DamagedEntry: The bytes are not those that were written.
        OSError: The entry cannot be read or written.
    """
    entry = place.store.read(key)
    pending = place.store.prepare(changed(entry.header), entry.segments)
    is_there = False
    try:
        with place.holders.upkeep():
            is_there = place.store.contains(key)
            if is_there:
                pending.commit()
    finally:
        if not is_there:
            pending.discard()
