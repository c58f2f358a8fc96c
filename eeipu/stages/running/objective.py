"""The objective of a configuration: a number that its last stage returned, or several of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eeipu.errors import PipelineError
from eeipu.stages.runs import StageRun, by_own_names, number_of

__all__ = ["Objective", "checked_objective", "names_of", "objective_of"]

Objective = str | tuple[str, ...] | None
"""The metric that is the objective, or the several that are; `None`: the output is the number."""


def checked_objective(objective: str | Sequence[str] | None) -> Objective:
    """The objective as a user names it; a list with one name is that name.

    Raises:
        PipelineError: It is neither a name nor a list of different names.
    """
    if objective is None or isinstance(objective, str):
        return objective
    names = tuple(objective) if isinstance(objective, Sequence) else ()
    are_texts = all(isinstance(name, str) for name in names)
    if not names or not are_texts or len({*names}) < len(names):
        raise PipelineError(
            f"objective must be the name of a metric, or a list of different names, but got "
            f"{objective!r}."
        )
    return names if len(names) > 1 else names[0]


def names_of(objective: Objective) -> tuple[str | None, ...]:
    """The names of all objectives, at least one entry."""
    return objective if isinstance(objective, tuple) else (objective,)


def objective_of(run: StageRun, objective: Objective) -> tuple[tuple[float, ...], dict[str, float]]:
    """The values to optimise and all metrics, from the run of the last stage.

    Raises:
        TypeError: The stage returned something of which the objective cannot be made.
        ValueError: An objective is not finite.
    """
    output, metrics = by_own_names(run.output), {}
    if isinstance(objective, tuple):
        output = _named(output, objective)
    if isinstance(output, Mapping):
        metrics = {
            str(name): _number(
                metric, f"a number as the metric {name!r}", run.name, _metric_remedy(name, metric)
            )
            for name, metric in output.items()
        }
        missing = [name for name in names_of(objective) if name not in metrics]
        if missing:
            none_named = "none of them is named as the objective"
            why = none_named if missing[0] is None else f"the objective is {missing[0]!r}"
            raise TypeError(
                f"the last stage, {run.name!r}, returned the metrics {list(metrics)}, and {why}; "
                f"name one of them with Pipeline(objective=...)."
            )
        values = tuple(metrics[str(name)] for name in names_of(objective))
    elif isinstance(objective, tuple):
        raise TypeError(
            f"the last stage, {run.name!r}, must return a dict with the metrics "
            f"{list(objective)}, but it returned {type(output).__name__}: {output!r:.80}."
        )
    else:
        wanted = "a number or a dict of numbers"
        values = (_number(output, wanted, run.name, _remedy(output)),)
    for value in values:
        if not math.isfinite(value):
            raise ValueError(
                f"the objective must be finite, but the last stage, {run.name!r}, returned "
                f"{value!r}."
            )
    return values, metrics


def _named(output: Any, objective: tuple[str, ...]) -> Any:
    """A list of as many numbers as there are objectives, by their names."""
    is_list = isinstance(output, list | tuple) or getattr(output, "ndim", None) == 1
    if is_list and len(output) == len(objective):
        return dict(zip(objective, output, strict=True))
    return output


def _number(output: Any, wanted: str, stage_name: str, remedy: str) -> float:
    number = number_of(output)
    if number is None:
        raise TypeError(
            f"the last stage, {stage_name!r}, must return {wanted}, but it returned "
            f"{type(output).__name__}: {output!r:.80}; {remedy}."
        )
    return number


def _metric_remedy(name: object, metric: Any) -> str:
    """What to write in place of a metric that is not a number."""
    if metric is None:
        return f"give {name!r} a value in every trial, which may be math.nan"
    if _has_one_element(metric):
        return _remedy(metric)
    return f"leave {name!r} out, or let a stage before the last one return it"


def _has_one_element(output: Any) -> bool:
    """Whether something is an array, of any library, with one element in a dimension."""
    shape = getattr(output, "shape", ())
    return isinstance(shape, tuple) and bool(shape) and math.prod(shape) == 1


def _remedy(output: Any) -> str:
    """What to write in place of something that is not a number."""
    if output is None:
        return "end its function with `return` and the number"
    if isinstance(output, list | tuple):
        return "return the number alone, or a dict with Pipeline(objective=...)"
    if _has_one_element(output):
        return f"it has the shape {list(output.shape)}: return its one element with .item()"
    return "return a float"
