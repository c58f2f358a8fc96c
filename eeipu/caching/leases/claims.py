"""Who needs which entries of a cache: who computes one now, who uses it, which study keeps it.

- A *claim* on a key: its holder runs the stage. Others wait for it and then load the value.
- A *use* of keys: a running trial needs them. Nobody drops them.
- A *pin* of keys: a study keeps the outputs of its best trials. No other study drops them (only
  the user does, with `StageCache.clear`). The pins of a study that is not run again expire after
  `PIN_LIFETIME_S`.

Claims and uses end with their process, whatever the reason (`eeipu.caching.leases.lease`). The
pins of a study that is stored in a database outlive the process, as the study does.
"""

import json
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b

from eeipu.caching.leases.lease import Lease, Leases, wait_for
from eeipu.caching.leases.pins import Pins

__all__ = ["Holders"]

# A user may return to a study after a holiday. After a month, free space matters more.
PIN_LIFETIME_S = 30 * 24 * 3600.0

_UPKEEP = "locks/upkeep"


class Holders:
    """The claims, uses and pins of one cache.

    Args:
        leases: Where claims and uses are noted.
        pins: Where lasting pins are noted.
        now: The time, in seconds since 1970.
    """

    def __init__(self, leases: Leases, pins: Pins, now: Callable[[], float] = time.time) -> None:
        self._leases = leases
        self._pins = pins
        self._now = now
        self._process_pins: dict[str, tuple[frozenset[str], Lease | None]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Be the only one to compute the value of a key; wait while somebody else does."""
        with ExitStack() as held:
            # If the place cannot be written to, the value cannot be kept either, and computing it
            # twice is better than not at all. File systems raise their own types of errors.
            with suppress(Exception):
                held.enter_context(wait_for(self._leases, f"locks/{_file_name(key)}"))
            yield

    @contextmanager
    def upkeep(self) -> Iterator[None]:
        """Be the only one to drop entries, or to change which entries may be dropped.

        The lock is not reentrant: two nested blocks in one thread wait forever.
        """
        with wait_for(self._leases, _UPKEEP):
            yield

    @contextmanager
    def using(self, keys: Iterable[str]) -> Iterator[None]:
        """Keep everybody from dropping these keys during the `with` block."""
        with ExitStack() as held:
            try:
                held.callback(self._note_use(keys).release)
            except Exception as error:  # for the reasons given in `claim`
                warnings.warn(
                    f"others may drop cache entries that a running trial needs ({error!r}); its "
                    f"stages may have to run again",
                    RuntimeWarning,
                    stacklevel=3,
                )
            yield

    def _note_use(self, keys: Iterable[str]) -> Lease:
        content = json.dumps(sorted(keys)).encode()
        with self.upkeep():
            while True:
                lease = self._leases.acquire(f"uses/{uuid.uuid4().hex}", content)
                if lease is not None:  # otherwise somebody locked the new file to look at it
                    return lease

    def pin(self, owner: str, keys: Iterable[str], *, lasting: bool = True) -> None:
        """Keep everybody else from dropping these keys, in place of the owner's former pins.

        Args:
            owner: The study that keeps the keys.
            keys: The keys. An empty list removes the owner's pins.
            lasting: Whether the pins outlive this process.

        Raises:
            OSError: The place cannot be written to.
        """
        wanted = frozenset(keys)
        if lasting:
            with self.upkeep():
                self._pins.write(owner, sorted(wanted), self._now())
            return
        with self._lock:
            pinned, former = self._process_pins.get(owner, (frozenset(), None))
            if pinned == wanted:
                return
            self._process_pins[owner] = wanted, self._note_use(wanted)
        if former is not None:
            former.release()

    def used(self) -> set[str]:
        """The keys that are used by running trials, or pinned until their process ends."""
        used: set[str] = set()
        for content in self._leases.living("uses"):
            with suppress(ValueError, TypeError):  # a damaged file names no keys
                used.update(json.loads(content))
        return used

    def kept(self) -> set[str]:
        """The keys that nobody may drop now: those that are used, and those that are pinned.

        Call it during `upkeep` before dropping entries, so that the answer stays true.
        """
        oldest_s = self._now() - PIN_LIFETIME_S
        pinned = (keys for keys, since_s in self._pins.read().values() if since_s > oldest_s)
        return self.used().union(*pinned)

    def clean(self) -> int:
        """Remove expired pins, and the files of killed processes. Call it during `upkeep`.

        Returns:
            The number of pin files that were removed.
        """
        for folder in ("uses", "locks"):
            self._leases.living(folder, clean=True)
        return self._pins.clean(self._now() - PIN_LIFETIME_S)


def _file_name(key: str) -> str:
    return blake2b(key.encode(), digest_size=16).hexdigest()
