"""The objective of a configuration: a number that its last stage returned."""

import math
from collections.abc import Mapping
from typing import Any

from eeipu.stages.runs import StageRun, number_of

__all__ = ["objective_of"]


def objective_of(run: StageRun, objective: str | None) -> tuple[float, dict[str, float]]:
    """The value to optimise and all metrics, from the run of the last stage.

    Raises:
        TypeError: The stage returned something of which the objective cannot be made.
        ValueError: The objective is not finite.
    """
    output, metrics = run.output, {}
    if isinstance(output, Mapping):
        metrics = {
            str(name): _number(metric, f"a number as the metric {name!r}", run.name)
            for name, metric in output.items()
        }
        if objective not in metrics:
            raise TypeError(
                f"the last stage, {run.name!r}, returned the metrics {list(metrics)}, and the "
                f"objective is {objective!r}; name one of them with Pipeline(objective=...)."
            )
        output = metrics[objective]
    value = _number(output, "a number or a dict of numbers", run.name)
    if not math.isfinite(value):
        raise ValueError(
            f"the objective must be finite, but the last stage, {run.name!r}, returned {value!r}."
        )
    return value, metrics


def _number(output: Any, wanted: str, stage_name: str) -> float:
    number = number_of(output)
    if number is None:
        raise TypeError(
            f"the last stage, {stage_name!r}, must return {wanted}, but it returned "
            f"{type(output).__name__}: {output!r:.80}; {_remedy(output)}."
        )
    return number


def _remedy(output: Any) -> str:
    """What to write in place of something that is not a number."""
    if output is None:
        return "end its function with `return` and the number"
    if isinstance(output, list | tuple):
        return "return the number alone, or a dict with Pipeline(objective=...)"
    shape = getattr(output, "shape", ())
    if isinstance(shape, tuple) and shape and math.prod(shape) == 1:
        return f"it has the shape {list(shape)}: return its one element with .item()"
    return "return a float"
