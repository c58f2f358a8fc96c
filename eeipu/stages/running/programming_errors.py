"""Errors of programming, which every configuration would meet: the search ends at the first one.

An error is one of programming if it is

- a `NameError`, `AttributeError`, `ImportError` or `SyntaxError`;
- a `TrainingError`: eeipu's own word that a training is written wrongly;
- a `TypeError` about the arguments of a call, such as `f() missing 1 required positional
  argument`;
- any other `TypeError` whose traceback has no line of the user's code: the stage itself could not
  be called, or what the last stage returned is no objective (`Pipeline.join`).

All other errors may depend on the configuration: a `ValueError`, a `RuntimeError`, running out of
memory, a `TypeError` inside of the stage, an objective that is not finite. Those that usually do
are told apart from those that usually come from the surroundings, such as a missing file.
"""

import re
import traceback

from eeipu.errors import TrainingError
from eeipu.stages.accelerators import is_out_of_memory

__all__ = ["is_about_values", "is_programming_error"]

_KINDS = (NameError, AttributeError, ImportError, SyntaxError, TrainingError)

# What CPython says where the arguments of a call and the parameters of a function do not match.
_WRONG_ARGUMENTS = re.compile(
    r"\(\) (missing \d+ required|takes |got an unexpected keyword|got multiple values"
    r"|got some positional-only)"
)

# The kinds of errors that say that a value or a result is wrong. Division by zero is no such error:
# Python raises it where the code forgot a case.
_ABOUT_VALUES = (ValueError, RuntimeError, ArithmeticError, AssertionError)
_NOT_ABOUT_VALUES = (ZeroDivisionError, OSError)

# The modules that call stages, and judge what they return. Benchmark problems are users of eeipu.
_CALLERS = ("eeipu.stages.", "eeipu.pipeline")


def is_programming_error(error: BaseException) -> bool:
    """Whether an error that a stage raised, or that its output gave, is one of programming."""
    if not isinstance(error, TypeError):
        return isinstance(error, _KINDS)
    return bool(_WRONG_ARGUMENTS.search(str(error))) or not _is_from_user_code(error)


def is_about_values(error: BaseException) -> bool:
    """Whether an error probably means that this configuration does not work.

    It does if it is a `ValueError`, a `RuntimeError`, an `ArithmeticError` other than a division by
    zero, an `AssertionError`, or of a class that is derived from `Exception` directly; but not if
    memory is full, which another program may have filled.
    """
    is_own_kind = Exception in (type(error), *type(error).__bases__)
    is_of_kind = isinstance(error, _ABOUT_VALUES) and not isinstance(error, _NOT_ABOUT_VALUES)
    is_builtin = type(error).__module__ == "builtins" and type(error) is not Exception
    return (is_of_kind or (is_own_kind and not is_builtin)) and not is_out_of_memory(error)


def _is_from_user_code(error: BaseException) -> bool:
    """Whether a line of the user's code is in the traceback."""
    modules = (f.f_globals.get("__name__", "") for f, _ in traceback.walk_tb(error.__traceback__))
    return not all(module.startswith(_CALLERS) for module in modules)
