"""A configuration from an Optuna trial."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from eeipu.spaces.distributions import Distribution

__all__ = ["suggest"]


def suggest(trial: BaseTrial, space: Mapping[str, Distribution]) -> dict[str, Any]:
    """Let an Optuna trial suggest a value for every parameter of a space."""
    return {name: _suggest_one(trial, name, dist) for name, dist in space.items()}


def _suggest_one(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case _:  # pragma: no cover - Stage has refused it
            raise AssertionError
