"""What the functions of a training take, checked when its stage is declared."""

import inspect
from collections.abc import Mapping
from typing import Any

from eeipu.errors import PipelineError
from eeipu.stages.functions.signatures import binds

__all__ = ["check_training_functions", "whole_steps"]

# What functions get by position. `init` gets the stage's inputs, whose number is not known, and
# `load` may take them behind what was saved.
_GETS = {
    "advance": ("the state", "start", "stop", "the hyper-parameters"),
    "evaluate": ("the state",),
    "save": ("the state",),
}


def check_training_functions(stage: str, functions: Mapping[str, Any]) -> None:
    """Check that the functions of a training can be called with what they get.

    Args:
        stage: The stage's name.
        functions: Name -> function.

    Raises:
        PipelineError: One cannot, or is no function.
    """
    for name, function in functions.items():
        if not callable(function):
            raise PipelineError(
                f"stage {stage!r}: {name} must be a function, but got {function!r}; see "
                f"eeipu.stages.iterative.Training."
            )
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # a builtin that does not tell what it takes
            continue
        given = _GETS.get(name)
        if given is not None and not binds(signature, given, {}):
            raise PipelineError(
                f"stage {stage!r}: {name} gets {', '.join(given)} by position, but takes "
                f"{name}{signature}; give it {len(given)} positional parameters."
            )


def whole_steps(stage: str, steps: Any) -> int:
    """The number of steps of a whole training as an `int`.

    Raises:
        PipelineError: It is no whole number of at least 1.
    """
    is_number = hasattr(steps, "__int__") and not isinstance(steps, bool | str)
    if not is_number or steps < 1 or steps != int(steps):
        raise PipelineError(
            f"stage {stage!r} must train for at least 1 step, got {steps!r}; steps are whole."
        )
    return int(steps)
