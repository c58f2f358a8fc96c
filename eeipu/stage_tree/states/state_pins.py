"""Pins: the states that a plan protects from everybody else who uses the same cache.

A plan pins the states that somebody refers to, so that a tuner, another plan, or
`eeipu cache gc` does not drop them. The pins of a plan in a file outlive the process, as those of
a study in a storage do: until `PIN_LIFETIME_S` after the plan was last written or closed
(`eeipu.caching.leases.claims`). Those of a plan in memory end with it.

All pins of a plan are written at once, and there may be many. They are therefore not written with
every change but after a round of reports, followed by a pause of 100 times the duration of the
writing, which thus takes at most 1 % of the time. Until the next writing the pins may be out of
date. A new state that somebody drops in this time is computed again. A state that nobody refers to
any more may stay until then.

A cache with a limit needs room for the next state, or nothing could go on. A plan therefore adds
pins only until half of the cache is pinned, by all of its users together: first the states that a
node is about to start from, then those that trials may go on from later, the newest first.
"""

import time
import warnings
from collections.abc import Callable, Iterable

from eeipu.cache import StageCache

__all__ = ["StatePins"]

# The share of a cache's limit up to which a plan adds pins.
PINNED_SHARE = 0.5

# The pause after a writing, as a multiple of its duration.
PAUSE = 100.0


class StatePins:
    """The pins of one plan in a cache.

    Args:
        cache: The cache.
        owner: The name of the plan, under which it pins.
        lasting: Whether the pins outlive this process.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        cache: StageCache,
        owner: str,
        *,
        lasting: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._cache = cache
        self._owner = owner
        self._lasting = lasting
        self._clock = clock
        # An earlier process that had the same file has pinned something unknown.
        self._pinned: frozenset[str] | None = None if lasting else frozenset()
        self._next_s = clock()

    @property
    def is_due(self) -> bool:
        """Whether the pause since the last writing is over."""
        return self._clock() >= self._next_s

    def write(self, keys: Iterable[str]) -> None:
        """Replace what the plan pins. A failure is only a warning, because nothing is lost yet.

        Args:
            keys: The keys to pin, the most important first.
        """
        began = self._clock()
        try:
            wanted = self._fitting(keys)
            if wanted != self._pinned:
                self._cache.holders.pin(self._owner, wanted, lasting=self._lasting)
                self._pinned = wanted
        except Exception as error:  # file systems raise errors of their own
            warnings.warn(
                f"others may drop checkpoints that a search plan needs from {self._cache!r}, "
                f"because its pins could not be written ({error!r}); such checkpoints are "
                f"computed again",
                RuntimeWarning,
                stacklevel=2,
            )
        ended = self._clock()
        self._next_s = ended + PAUSE * (ended - began)

    def close(self, keys: Iterable[str]) -> None:
        """Write the pins once more, or remove them if they do not outlive the plan."""
        self.write(keys if self._lasting else ())

    def _fitting(self, keys: Iterable[str]) -> frozenset[str]:
        """Return those of the keys that fit into the share of the cache that may be pinned."""
        if self._cache.max_bytes is None:
            return frozenset(keys)
        sizes = self._cache.place.store.sizes()
        others = self._cache.holders.kept() - (self._pinned or frozenset())
        room = PINNED_SHARE * self._cache.max_bytes - sum(sizes.get(key, 0) for key in others)
        fitting = set()
        for key in keys:
            size_bytes = sizes.get(key)
            if size_bytes is not None and size_bytes <= room:
                fitting.add(key)
                room -= size_bytes
        return frozenset(fitting)
