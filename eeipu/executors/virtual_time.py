"""The clock of a simulation, which is also its list of events to come."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from eeipu.stages.running.calls import Clock

__all__ = ["VirtualTime"]


class VirtualTime:
    """The clock of a simulation, and the events to come.

    Args:
        driving_s: From the real seconds that the driver took between two events to virtual ones.
        clock: Measures real seconds.

    Attributes:
        now: Virtual seconds.
        driven_s: Virtual seconds that the driver has taken.
    """

    def __init__(self, driving_s: Callable[[float], float], clock: Clock) -> None:
        self.now = self.driven_s = 0.0
        self._driving_s, self._clock = driving_s, clock
        self._heard: float | None = None  # when the driver was last told something
        self._events: list[tuple[float, int, Any, object]] = []
        self._ties = count()

    def add(self, at: float, what: Any, part: object = None) -> None:
        """Add an event, and for that of a run the part that ends with it."""
        heapq.heappush(self._events, (at, next(self._ties), what, part))

    def next(self) -> tuple[float, Any, object]:
        """The next event: when it is, what it is, and the part that ends with it."""
        at, _, what, part = heapq.heappop(self._events)
        return at, what, part

    def keep_only(self, kind: type) -> None:
        """Forget all events but those of a kind."""
        self._events = [event for event in self._events if isinstance(event[2], kind)]
        heapq.heapify(self._events)

    def advance(self, at: float) -> None:
        """Go on to a time, unless it has passed already."""
        self.now = max(self.now, at)

    def drive(self) -> None:
        """Let the time pass that the driver has taken since it was last told something."""
        if self._heard is not None:
            seconds = self._driving_s(self._clock() - self._heard)
            self.driven_s += seconds
            self.now += seconds

    def hear(self) -> None:
        """Note that the driver is told something now."""
        self._heard = self._clock()

    def rest(self) -> None:
        """Count no driving until the driver is told something again."""
        self._heard = None
