"""What a cache holds, for people: where each entry came from, what it takes, what it has saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eeipu.caching.locations import Place
from eeipu.caching.stores import Store
from eeipu.serialization.entry_format import DamagedEntry, Use

__all__ = ["StoredOutput", "inventory"]


@dataclass(frozen=True)
class StoredOutput:
    """What is known of one entry.

    Attributes:
        key: Its content key.
        stage: The name of the stage that produced it; `None`: not known.
        params: The stage's hyper-parameters.
        versions: The versions of Python and the packages that the stage used.
        size_bytes: What it takes.
        created_s: When it was written, in seconds since 1970.
        used_s: When it was last written or loaded.
        cost: What producing it cost; `None`: not known.
        hits: How often it was loaded, or spared by a hit on what was made from it, by any process;
            not known on remote file systems.
        load_s: What loading it took, on average; `None`: not known.
        is_kept: Whether a running trial uses it or a study keeps it.
    """

    key: str
    stage: str | None
    params: Mapping[str, Any]
    versions: Mapping[str, str]
    size_bytes: int
    created_s: int
    used_s: float
    cost: float | None
    hits: int
    load_s: float | None
    is_kept: bool

    @property
    def saved(self) -> float:
        """What its hits have saved: their cost, less the time to load it."""
        return self.hits * max(0.0, (self.cost or 0.0) - (self.load_s or 0.0))


def inventory(place: Place) -> list[StoredOutput]:
    """What is known of every entry that can be read, the least recently used first.

    Args:
        place: Where a cache is (`StageCache.place`); the header of each entry is read.
    """
    kept = place.holders.kept()
    uses = place.store.uses().items()
    found = (_stored(place.store, key, use, is_kept=key in kept) for key, use in uses)
    return [each for each in found if each is not None]


def _stored(store: Store, key: str, use: Use, *, is_kept: bool) -> StoredOutput | None:
    try:
        header = store.header(key)
    except (KeyError, DamagedEntry, OSError):  # dropped since it was listed, or damaged
        return None
    return StoredOutput(
        key=key,
        stage=header.stage,
        params=header.params,
        versions=header.versions,
        size_bytes=use.size_bytes,
        created_s=header.created_s,
        used_s=use.used_s,
        cost=header.cost,
        hits=use.hits,
        load_s=store.load_s(key),
        is_kept=is_kept,
    )
