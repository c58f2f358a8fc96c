"""Hyper-parameters that stand for an input of a test function: floats, integers or choices."""

from typing import Literal

from eeipu.benchmarks.synthetic.functions import TestFunction
from eeipu.space import Categorical, Distribution, Float, Int

__all__ = ["Kind", "Value", "distribution", "levels", "position"]

Kind = Literal["float", "int", "choice"]
Value = float | int | str

# Integers from 0 to this number are spread over the domain: few enough that rounding matters, and
# enough that their order still helps a model.
MAX_INT = 20

# Choices are points of the domain in a shuffled order, so that neighbouring names say nothing.
CHOICES = ("d", "a", "g", "c", "f", "b", "e")


def distribution(kind: Kind, function: TestFunction) -> Distribution:
    """The search space of one input of a function."""
    match kind:
        case "float":
            return Float(function.low, function.high)
        case "int":
            return Int(0, MAX_INT)
        case "choice":
            return Categorical(sorted(CHOICES))


def position(kind: Kind, function: TestFunction, value: Value) -> float:
    """The input of the function that a value of the hyper-parameter stands for."""
    match kind:
        case "float":
            return float(value)
        case "int":
            return _at(function, int(value) / MAX_INT)
        case "choice":
            return _at(function, CHOICES.index(str(value)) / (len(CHOICES) - 1))


def levels(kind: Kind, function: TestFunction) -> tuple[float, ...] | None:
    """All values that an input of the function can take; `None` means the whole domain."""
    count = {"float": None, "int": MAX_INT + 1, "choice": len(CHOICES)}[kind]
    if count is None:
        return None
    return tuple(_at(function, i / (count - 1)) for i in range(count))


def _at(function: TestFunction, unit: float) -> float:
    return function.low + (function.high - function.low) * unit
