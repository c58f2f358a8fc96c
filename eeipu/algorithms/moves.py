"""What a search algorithm, the runner and other processes tell each other.

An algorithm answers every result with moves: train a trial further, or stop it. It knows nothing
of pipelines, workers or clocks, so the same algorithm runs on real workers and in simulations.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Algorithm", "Ask", "Move", "News", "OtherTrial", "Stop", "no_news"]


@dataclass(frozen=True)
class Ask:
    """Train a trial up to a step and evaluate it there.

    Attributes:
        trial: The trial's number in its study.
        config: The trial's configuration, in the form that the study's `path_of` expects.
        step: The number of steps of the iterative stage to train in total. Pipelines without an
            iterative stage ignore it.
    """

    trial: int
    config: Mapping[str, Any]
    step: int


@dataclass(frozen=True)
class Stop:
    """Give up a trial. Calls that only this trial has asked for are not run.

    Attributes:
        trial: The trial's number in its study.
    """

    trial: int


Move = Ask | Stop


@dataclass(frozen=True)
class OtherTrial:
    """A trial of the same study that another process trains, as far as it is known.

    Attributes:
        number: Its number in the study's storage.
        params: Its configuration.
        curve: Step -> value there; larger is better.
        has_ended: Whether it is not trained further, as far as is known.
        has_failed: Whether a stage has failed or pruned it.
    """

    number: int
    params: Mapping[str, Any]
    curve: Mapping[int, float]
    has_ended: bool = False
    has_failed: bool = False


# What has changed since it was last asked: each trial of another process as it was known, and as
# it is now; `None` where it is new, or where another one goes on in its place.
News = Callable[[], Iterable[tuple[OtherTrial | None, OtherTrial | None]]]


def no_news() -> Iterable[tuple[OtherTrial | None, OtherTrial | None]]:
    """The news where no other process trains trials of the study."""
    return ()


class Algorithm(Protocol):
    """A search algorithm as a client of the plan. Values are *maximised*."""

    def start(self) -> Iterable[Move]:
        """Return the first moves."""
        ...

    def tell(self, trial: int, step: int, value: float | None) -> Iterable[Move]:
        """Take the value of a trial at a step, and return the next moves.

        Args:
            trial: The trial's number.
            step: The number of steps that the trial had been trained for.
            value: The value, larger is better; `None` if the trial failed.
        """
        ...
