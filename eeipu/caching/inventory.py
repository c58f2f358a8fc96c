"""What a cache contains, for people: the origin, the size and the savings of each entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eeipu.caching.locations import Place
from eeipu.caching.stores import Store, Use
from eeipu.serialization.entry_format import DamagedEntry

__all__ = ["StoredOutput", "inventory"]


@dataclass(frozen=True)
class StoredOutput:
    """What is known of one entry.

    Attributes:
        key: The content key.
        stage: The name of the stage that computed the value, or `None` if it is not known.
        params: The hyper-parameters of the stage.
        versions: The versions of Python and of the packages that the stage used.
        size_bytes: The size of the entry.
        created_s: When it was written, in seconds since 1970.
        used_s: When it was last written or loaded, in seconds since 1970.
        cost: What computing the value cost, or `None` if it is not known.
        hits: How often any process loaded the entry, or did not need to because it loaded a value
            that was computed from it. Always 0 on remote file systems, where hits are not counted.
        load_s: The average loading time in seconds, or `None` if it is not known.
        is_kept: Whether a running trial uses the entry or a study keeps it.
        parts: Short digests of the parts of its key (`eeipu.fingerprints.parts`).
        observed: What observers found in the value (`eeipu.stages.observing.notes`).
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
    parts: Mapping[str, Any]
    observed: Mapping[str, Any]

    @property
    def saved(self) -> float:
        """The cost that its hits have saved: what computing costs minus what loading costs."""
        return self.hits * max(0.0, (self.cost or 0.0) - (self.load_s or 0.0))


def inventory(place: Place) -> list[StoredOutput]:
    """What is known of every entry that can be read, the least recently used first.

    Args:
        place: The place of a cache (`StageCache.place`). The header of each entry is read.
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
        load_s=store.hits.load_s(key),
        is_kept=is_kept,
        parts=header.parts,
        observed=header.observed,
    )
