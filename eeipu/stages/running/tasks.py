"""What is sent to a worker, and what comes back."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from eeipu.stages.running.calls import StageCall
from eeipu.stages.runs import StageRun

__all__ = ["IN_CACHE", "Load", "StageTask", "TaskResult"]


class Whereabouts(Enum):
    """Where an argument of a call is that does not travel with its task."""

    IN_CACHE = "in the cache"


IN_CACHE = Whereabouts.IN_CACHE


@dataclass(frozen=True, eq=False)
class StageTask:
    """A stage call that can run now.

    Attributes:
        call: The call.
        args: For each of the call's sources, the argument, or `IN_CACHE` where the worker finds it
            there; what stands for the run's inputs is not looked at. For a call that resumes
            training, what was saved. `None`: the worker finds all of them.
        is_last: Whether its output is wanted with the result.
        above: The calls that lead to what the call's stage gets, each after those that it gets
            something of. They are given for a training whose `load` takes that.
        given: The keys of what the stage gets then, as `StageCall.sources` has them.
    """

    call: StageCall
    args: tuple[Any, ...] | None
    is_last: bool
    above: tuple[StageCall, ...] = ()
    given: tuple[str | None, ...] = (None,)

    @property
    def upstream(self) -> str:
        """The key of its input: the output before it, or the run's inputs."""
        return self.call.upstream


@dataclass(frozen=True)
class Load:
    """An argument of a call that was loaded from the cache.

    Attributes:
        key: The key of the output.
        seconds: How long it took.
    """

    key: str
    seconds: float


@dataclass(frozen=True)
class TaskResult:
    """What running a task gave.

    Attributes:
        run: The run of the call. A worker process may leave out an output that the cache keeps.
            `None` if the input could not be found.
        is_kept: Whether the cache has the output.
        loads: What was loaded for it.
        keep_s: Seconds that it took to look whether the run's inputs are as they were, and to put
            the output into the cache.
        value: The output of a plain call or an evaluation, where it is a number; or its numbers,
            where it is a dict.
    """

    run: StageRun | None
    is_kept: bool = False
    loads: tuple[Load, ...] = ()
    keep_s: float = 0.0
    value: float | dict[str, float] | None = None

    @property
    def load_s(self) -> float:
        """Seconds that loading the arguments took."""
        return math.fsum(load.seconds for load in self.loads)
