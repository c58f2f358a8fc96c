"""Which entries are dropped first when a cache is full: those that are the cheapest to lose.

An entry is worth the cost of computing it again, for each byte that it occupies and each second
since its last use:

    worth = cost / (size_bytes * idle_s)

The entry with the smallest worth is dropped first.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate

from eeipu.caching.leases.claims import Holders
from eeipu.caching.memory_tier import MemoryTier
from eeipu.caching.stores import Pending, Store, Use
from eeipu.serialization.entry_format import DamagedEntry, Header

__all__ = ["Eviction", "cheapest_first"]

# The cost of an entry whose cost is not known. With this value, such entries are compared with each
# other by size and age alone, and are dropped before the output of an expensive stage.
UNKNOWN_COST = 1.0

# Two uses within one tick of the clock, or after the clock was set back, count as equally recent.
_LEAST_IDLE_S = 1e-3

# Ranking this many entries takes about as long as dropping them. In a cache with more entries,
# room is therefore made for several new entries at once, namely this share of the whole cache. In a
# smaller cache, each entry is worth too much for that.
MANY_ENTRIES = 1000
SPARE = 0.01


def cheapest_first(
    uses: dict[str, Use], cost_of: Callable[[str], float | None], now_s: float
) -> Iterable[str]:
    """The keys of entries, in the order in which to drop them.

    Args:
        uses: The uses of the entries that may be dropped, by key.
        cost_of: Returns the cost of computing the value of a key, or `None` if it is not known.
        now_s: The time, in seconds since 1970.
    """

    def worth(key: str) -> tuple[float, float]:
        use, cost = uses[key], cost_of(key)
        idle_s = max(_LEAST_IDLE_S, now_s - use.used_s)
        density = (UNKNOWN_COST if cost is None else cost) / (max(1, use.size_bytes) * idle_s)
        return density, use.used_s

    return sorted(uses, key=worth)


def _heaviest(uses: dict[str, Use], least_bytes: float, now_s: float) -> dict[str, Use]:
    """The entries whose costs are worth reading, if there are many: a cost takes a read each.

    Small and recently used entries are hardly the cheapest to lose. So only the `MANY_ENTRIES`
    with the largest product of size and idle time are considered, or more if those together have
    fewer than `least_bytes`.
    """
    if len(uses) <= MANY_ENTRIES:
        return uses

    def weight(key: str) -> float:
        return uses[key].size_bytes * max(_LEAST_IDLE_S, now_s - uses[key].used_s)

    ranked = sorted(uses, key=weight, reverse=True)
    total_bytes = list(accumulate(uses[key].size_bytes for key in ranked))
    count = max(MANY_ENTRIES, bisect_left(total_bytes, least_bytes) + 1)
    return {key: uses[key] for key in ranked[:count]}


class Eviction:
    """Drops entries of a cache, but none that a running trial uses or a study keeps.

    Args:
        store: The entries.
        tier: The copies of entries in memory, which are dropped with them.
        holders: The uses and pins of entries.
        now: The time, in seconds since 1970.
    """

    def __init__(
        self, store: Store, tier: MemoryTier, holders: Holders, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._tier = tier
        self._holders = holders
        self._now = now
        self._costs: dict[str, float | None] = {}

    def admit(self, pending: Pending, max_bytes: float) -> bool:
        """Commit a new entry if there is room for it, or discard it.

        Args:
            pending: The new entry.
            max_bytes: The most bytes of entries to hold. Other entries are dropped to respect it.

        Returns:
            Whether the entry was committed.
        """
        fits = False
        try:
            with self._holders.upkeep():
                fits = self._make_room(pending.header, max_bytes)
                if fits:
                    pending.commit()
        finally:
            if not fits:
                pending.discard()
        return fits

    def _make_room(self, header: Header, max_bytes: float) -> bool:
        sizes = self._store.sizes()
        sizes.pop(header.key, None)  # the new entry replaces this one
        excess = sum(sizes.values()) + header.file_bytes - max_bytes
        self._costs[header.key] = header.cost
        if excess <= 0:
            return True
        spare = SPARE * max_bytes if len(sizes) > MANY_ENTRIES else 0.0
        return self._free(excess + spare, header.key) or self._free(excess, header.key)

    def shrink(self, max_bytes: float) -> None:
        """Drop the cheapest entries until at most `max_bytes` are held, if that is possible.

        Call it during `Holders.upkeep`.
        """
        self._free(sum(self._store.sizes().values()) - max_bytes)

    def _free(self, excess: float, spared: str | None = None) -> bool:
        """Drop the cheapest entries until `excess` bytes are free, or nothing if that fails.

        Args:
            excess: The bytes to free.
            spared: A key that is not dropped.

        Returns:
            Whether the bytes were freed.
        """
        kept = self._holders.kept()
        uses = {
            key: use for key, use in self._store.uses().items() if key not in kept and key != spared
        }
        if sum(use.size_bytes for use in uses.values()) < excess:
            return False
        weighed = _heaviest(uses, 2 * excess, self._now())
        for key in cheapest_first(weighed, self._cost, self._now()):
            if excess <= 0:
                break
            self.drop([key])
            excess -= uses[key].size_bytes
        return True

    def drop_idle(self, max_idle_s: float) -> None:
        """Drop the entries that nobody has used for `max_idle_s` seconds and nobody keeps.

        Call it during `Holders.upkeep`.
        """
        kept, oldest_s = self._holders.kept(), self._now() - max_idle_s
        uses = self._store.uses()
        self.drop({key for key, use in uses.items() if use.used_s < oldest_s} - kept)

    def drop(self, keys: Iterable[str]) -> None:
        """Drop entries, whoever uses or keeps them."""
        for key in keys:
            self._tier.delete(key)
            self._costs.pop(key, None)

    def _cost(self, key: str) -> float | None:
        # Each cost is read once, because entries do not change.
        if key not in self._costs:
            try:
                self._costs[key] = self._store.header(key).cost
            except (KeyError, DamagedEntry, OSError):
                return 0.0  # nothing is lost with such an entry
        return self._costs[key]
