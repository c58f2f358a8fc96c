"""A configuration from an Optuna trial."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial, Trial

from eeipu.spaces.conditions import Conditions
from eeipu.spaces.distributions import Distribution

__all__ = ["suggest"]


def suggest(
    trial: BaseTrial, space: Mapping[str, Distribution], conditions: Conditions | None = None
) -> dict[str, Any]:
    """Let an Optuna trial suggest a value for every active parameter of a space.

    Args:
        trial: The trial.
        space: Parameter -> distribution.
        conditions: When parameters are active; `None`: always.
    """
    if not conditions:
        return {name: _suggest_one(trial, name, dist) for name, dist in space.items()}
    found: dict[str, Any] = {}
    for name in conditions.order:
        if conditions.holds(name, found):
            found[name] = _suggest_one(trial, name, space[name])
    return {name: found[name] for name in space if name in found}


def _suggest_one(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    if type(trial) is Trial and isinstance(distribution, CategoricalDistribution):
        # The trial gets this very distribution. Optuna would make and check an equal one, and who
        # reads the trial would have to compare all of its choices.
        return trial._suggest(name, distribution)
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case _:  # pragma: no cover - Stage has refused it
            raise AssertionError
