"""What callers report of a trial's result: its objective, or several, or a dict of metrics."""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from eeipu.errors import ConfigurationError
from eeipu.pipeline import Pipeline
from eeipu.stages.running.outcomes import outcome_named
from eeipu.stages.runs import by_own_names

__all__ = ["Reported", "check_outcomes", "reported_values"]

Reported = float | Sequence[float] | Mapping[str, float]
"""The objective; or a number for each of several, in their order; or a dict of metrics."""


def reported_values(
    value: Reported, pipeline: Pipeline, what: str, number: Callable[[Any, str], float]
) -> tuple[tuple[float, ...], dict[str, float]]:
    """The objectives, and all metrics that were given with them.

    Args:
        value: What the caller reports.
        pipeline: The pipeline that is tuned.
        what: What it is, for messages.
        number: Reads a number, given what it is.

    Raises:
        ConfigurationError: It does not have all objectives, or something in it is no number.
    """
    names = pipeline.objectives
    given: Any = by_own_names(value)
    if isinstance(given, Mapping):
        metrics = {str(name): number(each, f"the metric {name!r}") for name, each in given.items()}
        missing = [name for name in names if name not in metrics]
        if missing:
            raise ConfigurationError(
                f"{what} has the metrics {list(metrics)}, and the pipeline's objective is "
                f"{missing[0]!r}; give its value, or name one of the metrics with "
                f"Pipeline(objective=...)."
            )
        return tuple(metrics[str(name)] for name in names), metrics
    if len(names) == 1:
        return (number(value, what),), {}
    is_list = hasattr(given, "__len__") and not isinstance(given, str | Set)
    if not is_list or len(given) != len(names):
        raise ConfigurationError(
            f"{what} must have a number for each of the objectives {list(names)}, as a list or a "
            f"dict, but got {value!r}."
        )
    named = {str(name): number(each, what) for name, each in zip(names, given, strict=True)}
    return tuple(named.values()), named


def check_outcomes(
    pipeline: Pipeline, metrics: Mapping[str, float], observations: Mapping[str, float]
) -> None:
    """Check that a caller has reported everything that has a limit.

    Args:
        pipeline: The pipeline that is tuned.
        metrics: The metrics.
        observations: What stages have shown, by flat names.

    Raises:
        ConfigurationError: An outcome is missing, or is not a number.
    """
    for constraint in pipeline.outcome_constraints:
        try:
            value = outcome_named(constraint.name, metrics, observations)
        except TypeError as error:
            raise ConfigurationError(str(error)) from error
        if value is None or math.isnan(value):
            raise ConfigurationError(
                f"there is a constraint on {constraint.name!r}, and its value is {value}; report "
                f"it in a dict of metrics, such as {{..., {constraint.name!r}: 1.0}}."
            )
