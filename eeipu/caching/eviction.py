"""Which entries to drop first: those that are cheapest to lose."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate

from eeipu.caching.leases.claims import Holders
from eeipu.caching.memory_tier import MemoryTier
from eeipu.caching.stores import Store
from eeipu.serialization.entry_format import DamagedEntry, Header, Use

__all__ = ["Room", "cheapest_first"]

# What an entry counts as having cost where nobody said: enough for unknown costs to be compared
# by bytes and age alone, and to give way to a stage that is known to be expensive.
UNKNOWN_COST = 1.0

# Two uses within a tick of the clock, or before it was set back, are equally recent.
_LEAST_IDLE_S = 1e-3


def cheapest_first(
    uses: dict[str, Use], cost_of: Callable[[str], float | None], now_s: float
) -> Iterable[str]:
    """The keys, in the order in which to drop them.

    An entry is worth the seconds that it takes to compute again, for each byte that it takes and
    each second that nobody has wanted it: `cost / (size_bytes * idle_s)`.

    Args:
        uses: Key -> size and last use, of the entries that may be dropped.
        cost_of: Key -> what producing the value cost; `None`: not known.
        now_s: Seconds since 1970.
    """

    def worth(key: str) -> tuple[float, float]:
        use, cost = uses[key], cost_of(key)
        idle_s = max(_LEAST_IDLE_S, now_s - use.used_s)
        density = (UNKNOWN_COST if cost is None else cost) / (max(1, use.size_bytes) * idle_s)
        return density, use.used_s

    return sorted(uses, key=worth)


# To weigh many entries takes as long as dropping many: then room is made for more than one. Few
# entries are each too dear for that.
MANY_ENTRIES = 1000
SPARE = 0.01


def _heaviest(uses: dict[str, Use], least_bytes: float, now_s: float) -> dict[str, Use]:
    """Those of many entries that are worth a look at what they cost, which takes a read each.

    The cheapest to lose are hardly among those that are small and were just used: what is looked
    at is the `MANY_ENTRIES` with the most bytes times idle seconds, or more if that is less than
    `least_bytes`.
    """
    if len(uses) <= MANY_ENTRIES:
        return uses

    def weight(key: str) -> float:
        return uses[key].size_bytes * max(_LEAST_IDLE_S, now_s - uses[key].used_s)

    ranked = sorted(uses, key=weight, reverse=True)
    total_bytes = list(accumulate(uses[key].size_bytes for key in ranked))
    count = max(MANY_ENTRIES, bisect_left(total_bytes, least_bytes) + 1)
    return {key: uses[key] for key in ranked[:count]}


class Room:
    """Drops entries of a store, and never those that somebody uses or keeps.

    Args:
        store: The entries.
        holders: Who uses and keeps which.
        tier: Copies of entries, which are dropped with them.
        now: Seconds since 1970.
    """

    def __init__(
        self, store: Store, holders: Holders, tier: MemoryTier, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._holders = holders
        self._tier = tier
        self._now = now
        self._costs: dict[str, float | None] = {}

    def make(self, header: Header, max_bytes: float) -> bool:
        """Drop what is cheapest to lose until an entry fits; whether it does.

        Call it during `holders.upkeep()`.
        """
        sizes = self._store.sizes()
        sizes.pop(header.key, None)  # it is replaced
        excess = sum(sizes.values()) + header.file_bytes - max_bytes
        self._costs[header.key] = header.cost
        if excess <= 0:
            return True
        spare = SPARE * max_bytes if len(sizes) > MANY_ENTRIES else 0.0
        return self.free(excess + spare, but=header.key) or self.free(excess, but=header.key)

    def free(self, excess: float, but: str | None = None) -> bool:
        """Drop what is cheapest to lose until so many bytes are free, or nothing at all.

        Args:
            excess: The bytes to free.
            but: A key to leave alone.

        Returns:
            Whether they could be freed.
        """
        kept = self._holders.kept()
        uses = {
            key: use for key, use in self._store.uses().items() if key not in kept and key != but
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

    def drop(self, keys: Iterable[str]) -> None:
        """Drop entries without a question."""
        for key in keys:
            self._store.delete(key)
            self._tier.drop(key)
            self._costs.pop(key, None)

    def _cost(self, key: str) -> float | None:
        # Read once: entries do not change.
        if key not in self._costs:
            try:
                self._costs[key] = self._store.header(key).cost
            except (KeyError, DamagedEntry, OSError):
                return 0.0  # nothing is lost with it
        return self._costs[key]
