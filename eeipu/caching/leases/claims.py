"""Who needs which entries of a cache: who makes one now, who uses it, which study keeps it.

- A *claim* on a key: its holder runs the stage; others wait for it and then load.
- A *use* of keys: a running trial needs them. They are dropped by nobody.
- A *pin* of keys: a study keeps the outputs of its best trials. They are dropped by nobody else,
  and pins of a study that is never run again count no more after `PIN_LIFETIME_S`.

Claims and uses end with their process, however it ends (`eeipu.caching.leases.lease`); pins of a
study in a storage outlive it, as the study does.
"""

import json
import re
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from typing import Any, Protocol

from eeipu.caching.leases.lease import Lease, Leases, wait_for

__all__ = ["FilePins", "Holders", "LocalPins", "Pins"]

# A study may rest for a holiday. After that, room counts for more.
PIN_LIFETIME_S = 30 * 24 * 3600.0

_UPKEEP = "locks/upkeep"
_PINS = ".json"
_PARTIAL = re.compile("[0-9a-f]{32}")


class Pins(Protocol):
    """Which keys each owner keeps."""

    def write(self, owner: str, keys: list[str], now_s: float) -> None:
        """Replace what the owner keeps."""
        ...

    def read(self) -> dict[str, tuple[list[str], float]]:
        """Owner -> what it keeps, and since when."""
        ...

    def clean(self, oldest_s: float) -> int:
        """Remove what killed writers left, and pins from before a time; the number of files."""
        ...


class LocalPins:
    """Pins of a cache that dies with its process."""

    def __init__(self) -> None:
        self._pins: dict[str, tuple[list[str], float]] = {}

    def write(self, owner: str, keys: list[str], now_s: float) -> None:
        """See `Pins`."""
        self._pins[owner] = (keys, now_s)

    def read(self) -> dict[str, tuple[list[str], float]]:
        """See `Pins`."""
        return dict(self._pins)

    def clean(self, oldest_s: float) -> int:
        """See `Pins`."""
        old = [owner for owner, (_, since_s) in self._pins.items() if since_s <= oldest_s]
        for owner in old:
            del self._pins[owner]
        return len(old)


class FilePins:
    """A small JSON file an owner, on any file system that fsspec reaches.

    Args:
        fs: The fsspec file system.
        folder: The place of the files in it.
        settle: Gives a new file or folder its mode, where there are modes.
    """

    def __init__(
        self, fs: Any, folder: str, settle: Callable[[str], None] = lambda _: None
    ) -> None:
        self._fs = fs
        self._folder = folder
        self._settle = settle

    def _path(self, owner: str) -> str:
        return f"{self._folder}/{blake2b(owner.encode(), digest_size=16).hexdigest()}{_PINS}"

    def write(self, owner: str, keys: list[str], now_s: float) -> None:
        """See `Pins`."""
        body = json.dumps({"owner": owner, "keys": keys, "since_s": now_s}).encode()
        self._fs.makedirs(self._folder, exist_ok=True)
        self._settle(self._folder)
        # Never half a file: what is not read as pinned may be dropped.
        partial = f"{self._folder}/{uuid.uuid4().hex}"
        self._fs.pipe_file(partial, body)
        self._settle(partial)
        self._fs.mv(partial, self._path(owner))

    def read(self) -> dict[str, tuple[list[str], float]]:
        """See `Pins`."""
        pins = {}
        for path in self._paths(_PINS):
            # One that is damaged, or that just went, keeps nothing, and stops nobody.
            with suppress(ValueError, KeyError, TypeError, FileNotFoundError):
                said = json.loads(self._fs.cat_file(path))
                pins[said["owner"]] = (list(said["keys"]), float(said["since_s"]))
        return pins

    def clean(self, oldest_s: float) -> int:
        """See `Pins`."""
        old = [
            self._path(owner) for owner, (_, since_s) in self.read().items() if since_s <= oldest_s
        ]
        # Half-written ones have names of their own; what has neither name is somebody else's.
        unwanted = old + [
            path for path in self._paths("") if _PARTIAL.fullmatch(path.rpartition("/")[2])
        ]
        for path in unwanted:
            self._fs.rm_file(path)
        return len(unwanted)

    def _paths(self, suffix: str) -> list[str]:
        self._fs.invalidate_cache()
        return [path for path in self._fs.find(self._folder) if path.endswith(suffix)]


class Holders:
    """The claims, uses and pins of one cache.

    Args:
        leases: For what ends with its process.
        pins: For what does not.
        now: Seconds since 1970.
    """

    def __init__(self, leases: Leases, pins: Pins, now: Callable[[], float] = time.time) -> None:
        self._leases = leases
        self._pins = pins
        self._now = now
        self._process_pins: dict[str, tuple[frozenset[str], Lease | None]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Be the only one to make the value under a key; wait while another does."""
        with ExitStack() as held:
            # A place that cannot be written to keeps no value either, and to compute it twice
            # is better than not at all. File systems raise errors of their own.
            with suppress(Exception):
                held.enter_context(wait_for(self._leases, f"locks/{_file_name(key)}"))
            yield

    @contextmanager
    def upkeep(self) -> Iterator[None]:
        """Be the only one to drop entries, or to say which may not be dropped."""
        with wait_for(self._leases, _UPKEEP):
            yield

    @contextmanager
    def using(self, keys: Iterable[str]) -> Iterator[None]:
        """Have nobody drop these keys meanwhile."""
        with ExitStack() as held:
            try:
                held.callback(self._say_use(keys).release)
            except Exception as error:  # as for a claim
                warnings.warn(
                    f"others may drop cache entries that a running trial needs ({error!r}); its "
                    f"stages may have to run again",
                    RuntimeWarning,
                    stacklevel=3,
                )
            yield

    def _say_use(self, keys: Iterable[str]) -> Lease:
        with self.upkeep():
            while True:
                lease = self._leases.acquire(f"uses/{uuid.uuid4().hex}", _listed(keys))
                if lease is not None:  # else somebody looked at it, new as it was
                    return lease

    def pin(self, owner: str, keys: Iterable[str], *, lasting: bool = True) -> None:
        """Have nobody drop these keys, and let go of what the owner pinned before.

        Args:
            owner: A study.
            keys: What it keeps.
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
            self._process_pins[owner] = wanted, self._say_use(wanted)
        if former is not None:
            former.release()

    def used(self) -> set[str]:
        """The keys that running trials, and studies in this and other processes' memory, need."""
        used: set[str] = set()
        for said in self._leases.living("uses"):
            with suppress(ValueError, TypeError):  # a damaged file names nothing
                used.update(json.loads(said))
        return used

    def clean(self) -> int:
        """Remove what killed processes left, and pins that count no more. During `upkeep`."""
        for folder in ("uses", "locks"):
            self._leases.living(folder, clean=True)
        return self._pins.clean(self._now() - PIN_LIFETIME_S)

    def kept(self) -> set[str]:
        """The keys that nobody may drop now; nothing is changed.

        During `upkeep`, so that there are no more soon; a list for people needs no such care.
        """
        oldest_s = self._now() - PIN_LIFETIME_S
        pinned = (keys for keys, since_s in self._pins.read().values() if since_s > oldest_s)
        return self.used().union(*pinned)


def _listed(keys: Iterable[str]) -> bytes:
    return json.dumps(sorted(keys)).encode()


def _file_name(key: str) -> str:
    return blake2b(key.encode(), digest_size=16).hexdigest()
