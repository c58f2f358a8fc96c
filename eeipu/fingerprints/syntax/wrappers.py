"""The functions inside of what wraps them: class methods, properties of libraries, and stages."""

import inspect
from types import FunctionType
from typing import Any

__all__ = ["is_stage", "wrapped_function"]

# Class methods and partial methods keep their function under these names, properties that libraries
# compute once under the second.
_NAMES = ("__func__", "func")


def is_stage(value: Any) -> bool:
    """Whether a member of a class is a stage, perhaps as a class method or a static method."""
    inner = _below(value, "__func__")
    return getattr(type(inner), "is_transparent_wrapper", None) is True


def wrapped_function(value: Any) -> Any:
    """The function that a value wraps, as a class method or a stage does; else the value."""
    while True:
        inner = value
        for name in _NAMES:
            inner = _below(inner, name)
        if is_stage(inner):
            inner = vars(inner).get("__wrapped__", inner)  # none, for a stage without a function
        if inner is value:
            return value
        value = inner


def _below(value: Any, name: str) -> Any:
    if type(value) is FunctionType and name not in vars(value):
        return value  # most members, at little cost
    # Not by getattr, which for some libraries' attributes builds a class anew.
    if inspect.getattr_static(value, name, None) is None:
        return value
    inner = getattr(value, name)
    return inner if callable(inner) else value
