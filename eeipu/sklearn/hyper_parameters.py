"""Hyper-parameters as scikit-learn's searches take them, as distributions of a stage's space.

A study can store numbers, texts, booleans and `None`. Other choices, such as functions, tuples and
whole estimators, are stored by a label.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from eeipu.errors import SpaceError
from eeipu.space import Categorical, Distribution, Float, Int

__all__ = ["HyperParameter", "choice", "hyper_parameter"]

_STORED = (type(None), bool, int, float, str)


@dataclass(frozen=True)
class HyperParameter:
    """A hyper-parameter of a step.

    Attributes:
        name: What scikit-learn calls it, with the step's name in front: `"clf__C"`; or the step's
            name alone, where it stands for the whole step.
        distribution: Its distribution.
        labelled: Label -> choice, for choices that a study cannot store.
    """

    name: str
    distribution: Distribution
    labelled: Mapping[str, Any] = field(default_factory=dict)

    def value(self, stored: Any) -> Any:
        """The value for scikit-learn of one that a study has stored."""
        return choice(self.labelled, stored)


def choice(labelled: Mapping[str, Any], stored: Any) -> Any:
    """What a stored value stands for."""
    return labelled.get(stored, stored) if isinstance(stored, str) else stored


def hyper_parameter(name: str, given: Any) -> HyperParameter:
    """Make a hyper-parameter of what was given for it.

    Args:
        name: What scikit-learn calls it.
        given: A distribution of eeipu or Optuna; a list, tuple or array of choices; a `range` of
            whole numbers; or `uniform`, `loguniform` or `randint` of `scipy.stats`.

    Raises:
        SpaceError: It is none of these.
    """
    if isinstance(given, CategoricalDistribution):
        return _categorical(name, given.choices)
    if isinstance(given, BaseDistribution):
        return HyperParameter(name, given)
    if isinstance(given, range):
        if len(given) == 0 or given.step < 0:
            raise SpaceError(f"the range of {name!r} must ascend and have a value: {given!r}.")
        return HyperParameter(name, Int(given[0], given[-1], step=given.step))
    if hasattr(given, "dist") and hasattr(given, "support"):
        return HyperParameter(name, _of_scipy(name, given))
    if isinstance(given, list | tuple | np.ndarray):
        return _categorical(name, given)
    raise SpaceError(
        f"the space of {name!r} must be a Float, Int or Categorical, a list of choices, a range, "
        f"or a uniform, loguniform or randint of scipy.stats, but got {given!r:.80}."
    )


def _of_scipy(name: str, frozen: Any) -> Distribution:
    low, high = frozen.support()
    match frozen.dist.name:
        case "uniform":
            return Float(float(low), float(high))
        case "loguniform" | "reciprocal":
            return Float(float(low), float(high), log=True)
        case "randint":
            return Int(int(low), int(high))
        case other:
            raise SpaceError(
                f"the space of {name!r} is {other!r} of scipy.stats, of which only uniform, "
                f"loguniform and randint have bounds that a search knows; give a Float or an Int."
            )


def _categorical(name: str, choices: Iterable[Any]) -> HyperParameter:
    stored: list[Any] = []
    labelled: dict[str, Any] = {}
    for each in choices:
        plain = each.item() if isinstance(each, np.generic) else each
        if not isinstance(plain, _STORED):
            plain = _label(plain, stored)
            labelled[plain] = each
        stored.append(plain)
    return HyperParameter(name, Categorical(stored), labelled)


def _label(value: Any, taken: list[Any]) -> str:
    """A label of a choice that none of the others has."""
    named = getattr(value, "__qualname__", None)
    text = " ".join(repr(value).split()) if named is None else str(named)
    label, number = text, 2
    while label in taken:
        label, number = f"{text} ({number})", number + 1
    return label
