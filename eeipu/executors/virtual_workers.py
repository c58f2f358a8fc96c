"""The workers of a simulation: what they have free and in memory, and when they fail."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eeipu.stages.resources import Resources
from eeipu.stages.running.tasks import StageTask

__all__ = ["Chance", "VirtualWorker", "VirtualWorkers", "WorkerRun"]


@dataclass(eq=False)
class VirtualWorker:
    """A worker.

    Attributes:
        free: The resources that it has free; `None` where it takes one call of any size.
        is_up: Whether it is there.
        state: The key of the last output that it made, which it has in memory.
        running: The runs on it.
    """

    free: Resources | None
    is_up: bool = True
    state: str = ""
    running: list["WorkerRun"] = field(default_factory=list)

    def can_take(self, needs: Resources) -> bool:
        """Whether it could begin a call with these needs now."""
        if not self.is_up:
            return False
        return not self.running if self.free is None else needs.fit(self.free)

    def add(self, run: "WorkerRun") -> None:
        """Begin a run."""
        self.running.append(run)
        self.free = None if self.free is None else self.free - run.needs

    def remove(self, run: "WorkerRun") -> None:
        """Let go of a run."""
        self.running.remove(run)
        self.free = None if self.free is None else self.free + run.needs


@dataclass(eq=False)
class WorkerRun:
    """A task on its way; where it was split, its parts, one after another.

    Attributes:
        worker: Who runs it.
        needs: What it takes.
        parts: Each part as a task, and when that ends.
        began: When the first of them began.
    """

    worker: VirtualWorker
    needs: Resources
    parts: list[tuple[StageTask, float]]
    began: float


class VirtualWorkers:
    """All workers of a simulation, and which states they have in memory.

    Args:
        frees: The resources of each worker; `None` for one that takes one call of any size.
    """

    def __init__(self, frees: Sequence[Resources | None]) -> None:
        self.all = [VirtualWorker(free) for free in frees]
        self._who_has: dict[str, VirtualWorker] = {}

    def can_take(self, needs: Resources) -> bool:
        """Whether some worker could begin a call with these needs now."""
        return any(worker.can_take(needs) for worker in self.all)

    def best_for(self, task: StageTask, needs: Resources) -> VirtualWorker:
        """A worker that has the state to go on from, or else the smallest that has room."""
        holder = self._who_has.get(task.upstream)
        if holder is not None and holder.can_take(needs):
            return holder
        able = (worker for worker in self.all if worker.can_take(needs))
        return min(able, key=lambda worker: (worker.free or Resources(), worker.state != ""))

    def keep_state(self, worker: VirtualWorker, key: str) -> None:
        """Note that a worker has this output in memory, and no other; the empty key is none."""
        if self._who_has.get(worker.state) is worker:
            del self._who_has[worker.state]
        worker.state = key
        if key:
            self._who_has[key] = worker


class Chance:
    """Failures and stragglers.

    Args:
        mean_life_s: Mean of a worker's exponentially distributed times to failure, if it fails.
        straggling: The share of calls that take longer.
        slowdown: The factor by which these take longer, at least 1.
        seed: Makes both repeatable.
    """

    def __init__(
        self, mean_life_s: float | None, straggling: float, slowdown: float, seed: int
    ) -> None:
        self._mean_life_s = mean_life_s
        self._straggling, self._slowdown = straggling, slowdown
        self._rng = np.random.default_rng(seed)

    def slowed(self, seconds: float) -> float:
        """The seconds that a call takes, which may be a straggler."""
        if self._straggling and self._rng.random() < self._straggling:
            return seconds * self._slowdown
        return seconds

    def life_s(self) -> float | None:
        """Seconds until a worker's next failure; `None` if it never fails."""
        if self._mean_life_s is None:
            return None
        return float(self._rng.exponential(self._mean_life_s))
