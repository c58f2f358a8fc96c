"""What a search algorithm and the runner tell each other.

An algorithm answers every result with moves: train a trial further, or stop it. It knows nothing
of pipelines, workers or clocks, so the same algorithm runs on real workers and in simulations.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Algorithm", "Ask", "Move", "Stop"]


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
