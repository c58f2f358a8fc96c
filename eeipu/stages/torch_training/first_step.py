"""What a model sets once, on its first batch, such as the `config.problem_type` of Hugging Face.

A checkpoint keeps such attributes, since no other step changes them: a value that changes again
later is refused as any other state that no checkpoint has.
"""

from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

import numpy as np

from eeipu.errors import TrainingError
from eeipu.stages.torch_training.object_graph import PLAIN, ReachedObject, reached_objects

__all__ = ["attributes_set", "set_attributes"]


def attributes_set(
    roots: Mapping[str, Any], before: Mapping[str, Any], changed: Iterable[str]
) -> dict[str, Any]:
    """The attributes that the first step has set for good, as far as can be seen.

    These are plain values that only the model has. An object that is also reached from the user's
    functions or inputs may be that of other trainings too. A number that has become another one is
    a counter.

    Args:
        roots: Name -> object to start from; the model is `"model"`.
        before: Path -> comparable value before the step.
        changed: The paths whose values are new or others since.

    Returns:
        Path -> value.
    """
    paths = {path for path in changed if path.startswith("model.")}
    if not paths:
        return {}
    return {
        each.path: each.value
        for each in reached_objects(roots)
        if each.path in paths and _is_attribute(each) and not _counts(each, before)
    }


def set_attributes(roots: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Set what `attributes_set` has found, in a model that was made anew.

    Raises:
        TrainingError: An object that has one is not there now.
    """
    if not attributes:
        return
    holders = {each.path: each.value for each in reached_objects(roots)}
    for path, value in attributes.items():
        place, _, name = path.rpartition(".")
        held = getattr(holders.get(place), "__dict__", None)
        if not isinstance(held, dict):
            raise TrainingError(
                f"the checkpoint has the value of {path!r}, which is not there now; make the same "
                f"model, optimiser and loaders wherever the training is resumed."
            )
        held[name] = value


def _is_attribute(each: ReachedObject) -> bool:
    """Whether a plain value is held as an attribute by an object that is neither class nor code."""
    if not isinstance(each.value, PLAIN) or isinstance(each.holder, type | FunctionType):
        return False
    return each.path.rpartition(".")[2] in getattr(each.holder, "__dict__", {})


def _counts(each: ReachedObject, before: Mapping[str, Any]) -> bool:
    is_number = isinstance(each.value, int | float | complex | np.number)
    is_first = before.get(each.path, "None") in ("None", "True", "False")
    return is_number and not isinstance(each.value, bool) and not is_first
