"""Trainings whose values come from a formula: a preparation, a state, and repeatable noise."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from eeipu.space import Float
from eeipu.stages.decorator import stage

__all__ = ["State", "advancing", "begun", "noise", "prepare"]

State = tuple[tuple[float, ...], int]
"""The hyper-parameters, that of the preparation first, and the step that has been reached."""


@stage(space={"detail": Float(0.0, 1.0)}, version="1")
def prepare(start: float, *, detail: float) -> float:
    """The share of details that are kept of the data."""
    return start + detail


def begun(detail: float) -> State:
    """The state before the first step."""
    return (detail,), 0


def advancing(*names: str) -> Callable[[State, int, int, Mapping[str, Any]], State]:
    """A function that trains further with the latest values of hyper-parameters."""

    def advance(state: State, start: int, stop: int, schedules: Mapping[str, Any]) -> State:  # noqa: ARG001
        (detail, *_), _ = state
        return (detail, *(float(schedules[name](stop - 1)) for name in names)), stop

    return advance


def noise(state: State) -> float:
    """A standard normal number that is the same whenever a state is looked at."""
    digest = hashlib.sha256(repr(state).encode()).digest()
    return float(np.random.default_rng(int.from_bytes(digest[:8])).standard_normal())
