"""What a stage asks for in the place of a test function's input: floats, integers, or choices."""

from typing import Literal

from eeipu.benchmarks.synthetic.functions import TestFunction
from eeipu.space import Categorical, Distribution, Float, Int

__all__ = ["Kind", "distribution", "levels", "position"]

Kind = Literal["float", "int", "choice"]

# Integers run from 0 to this over the domain: coarse enough that rounding a float to the grid is
# not the same search, fine enough that they are no choices.
MAX_INT = 20

# Choices are points of the domain in a shuffled order, so that neighbours say nothing.
CHOICES = ("d", "a", "g", "c", "f", "b", "e")


def distribution(kind: Kind, function: TestFunction) -> Distribution:
    """The space of one of a function's inputs."""
    match kind:
        case "float":
            return Float(function.low, function.high)
        case "int":
            return Int(0, MAX_INT)
        case "choice":
            return Categorical(sorted(CHOICES))


def position(kind: Kind, function: TestFunction, value: float | int | str) -> float:
    """The point of the function's domain that a value stands for."""
    match kind:
        case "float":
            return float(value)
        case "int":
            return _at(function, int(value) / MAX_INT)
        case "choice":
            return _at(function, CHOICES.index(str(value)) / (len(CHOICES) - 1))


def levels(kind: Kind, function: TestFunction) -> tuple[float, ...] | None:
    """All points that an input can be at; `None`: the whole domain."""
    count = {"float": None, "int": MAX_INT + 1, "choice": len(CHOICES)}[kind]
    if count is None:
        return None
    return tuple(_at(function, i / (count - 1)) for i in range(count))


def _at(function: TestFunction, unit: float) -> float:
    return function.low + (function.high - function.low) * unit
