"""Measures for how long workers wait for their driver."""

from collections.abc import Sequence

from eeipu.executors.pool import Ended, Joined, Pool, Thought

__all__ = ["WaitingTime"]


class WaitingTime:
    """The seconds during which a worker waits for the driver, since they were last taken.

    A worker waits while it has nothing to run and a configuration is being chosen, and while the
    driver handles the last events: it writes the study, tidies the cache, calls callbacks. With one
    worker this is all the time between its calls. With several it does not matter how many wait.

    Args:
        pool: The workers. The time of their clock begins to count now.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._heard_s = pool.now()
        self._waited_s = 0.0

    def next_events(self, *, is_awaited: bool) -> Sequence[Ended | Thought | Joined]:
        """Wait for the pool's next events.

        Args:
            is_awaited: Whether a worker waits meanwhile for a configuration that is being chosen.
        """
        began_s = self._pool.now()
        events = self._pool.wait()
        last_s, self._heard_s = self._heard_s, self._pool.now()
        self._waited_s += (self._heard_s if is_awaited else began_s) - last_s
        return events

    def leave_out(self, seconds: float) -> None:
        """Leave out seconds that are accounted for elsewhere."""
        self._waited_s -= seconds

    def take(self) -> float:
        """The seconds; they begin at zero again."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s
