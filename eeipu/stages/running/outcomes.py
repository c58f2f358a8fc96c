"""Constraints on outcomes: limits for metrics, and for what stages show on the way.

A constraint names a metric of the last stage, `"memory_mb"`; or something that a stage shows,
`"train.memory_mb"`, also by the name of its entry alone where one stage shows such an entry.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from optuna.trial import Trial

from eeipu.errors import PipelineError
from eeipu.stages.runs import StageRun, observations_of

__all__ = [
    "OutcomeConstraint",
    "OutcomeLimits",
    "check_outcomes",
    "constraints_on_outcomes",
    "names_entry",
    "note_violations",
    "outcome_named",
    "violations_of",
]

OutcomeLimits = Mapping[str, str | Sequence[str]]
"""The name of an outcome -> its limit, such as `"<= 500"`, or several limits."""

_LIMIT = re.compile(r"\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class OutcomeConstraint:
    """A limit that an outcome must keep.

    Attributes:
        name: The outcome.
        is_upper: Whether the limit is the most that it may be, or the least.
        limit: The limit itself keeps the constraint.
        text: The constraint as the user has written it, such as `"memory_mb <= 500"`.
    """

    name: str
    is_upper: bool
    limit: float
    text: str

    def violation(self, value: float) -> float:
        """How far a value is beyond the limit; zero or less where it keeps the constraint."""
        return value - self.limit if self.is_upper else self.limit - value


def constraints_on_outcomes(limits: OutcomeLimits) -> tuple[OutcomeConstraint, ...]:
    """Constraints as a user writes them.

    Args:
        limits: The name of an outcome -> `"<= 500"`, or with `<`, `>=` or `>`, or a list of such
            texts.

    Raises:
        PipelineError: A limit cannot be read.

    >>> [each.text for each in constraints_on_outcomes({"memory_mb": "<= 500"})]
    ['memory_mb <= 500']
    """
    if not isinstance(limits, Mapping):
        raise PipelineError(
            f'constraints on outcomes are a dict such as {{"memory_mb": "<= 500"}}, but got '
            f"{limits!r}."
        )
    empty = [name for name, texts in limits.items() if _is_list(texts) and not texts]
    if empty:
        raise PipelineError(
            f"the constraint on {empty[0]!r} has no limit; give one such as '<= 500', or leave "
            f"{empty[0]!r} out."
        )
    return tuple(
        _read(name, text)
        for name, texts in limits.items()
        for text in ([texts] if isinstance(texts, str) or not _is_list(texts) else texts)
    )


def _is_list(texts: Any) -> bool:
    return isinstance(texts, list | tuple)


def _read(name: Any, text: Any) -> OutcomeConstraint:
    found = _LIMIT.fullmatch(text) if isinstance(text, str) else None
    try:
        limit = math.nan if found is None else float(found[2])
    except ValueError:
        limit = math.nan
    if found is None or not math.isfinite(limit) or not isinstance(name, str):
        raise PipelineError(
            f"the constraint on {name!r} must be a text such as '<= 500' or '>= 0.9', but got "
            f"{text!r}."
        )
    is_upper = found[1].startswith("<")
    if found[1] in "<>":  # the next number within
        limit = math.nextafter(limit, -math.inf if is_upper else math.inf)
    return OutcomeConstraint(name, is_upper, limit, f"{name} {found[1]} {found[2]}")


def names_entry(flat: str, name: str) -> bool:
    """Whether a name stands for what a stage shows under a flat name, such as `"train.loss"`."""
    return name in (flat, flat.partition(".")[2])


def outcome_named(
    name: str, metrics: Mapping[str, float], observations: Mapping[str, float]
) -> float | None:
    """The outcome of this name; `None` where it is not known.

    Args:
        name: The name.
        metrics: What the last stage returned, by name.
        observations: What stages have shown, by flat names.

    Raises:
        TypeError: Several stages show such an entry.
    """
    for known in (metrics, observations):
        if name in known:
            return known[name]
    found = [flat for flat in observations if names_entry(flat, name)]
    if len(found) > 1:
        raise TypeError(
            f"there is a constraint on {name!r}, and several stages show it; name one of {found}."
        )
    return observations[found[0]] if found else None


def violations_of(
    constraints: Iterable[OutcomeConstraint], attrs: Mapping[str, Any]
) -> dict[str, float]:
    """How far a trial is beyond each limit, by the text of the constraint; where it is known.

    Args:
        constraints: The constraints.
        attrs: The user attributes of the trial.
    """
    metrics, observations = attrs.get("metrics") or {}, attrs.get("observations") or {}
    found = {}
    for each in constraints:
        with suppress(TypeError):  # several stages show it, for which the trial has failed
            value = outcome_named(each.name, metrics, observations)
            if value is not None and not math.isnan(value):
                found[each.text] = each.violation(value)
    return found


def note_violations(trial: Trial, constraints: Iterable[OutcomeConstraint]) -> None:
    """Tell Optuna how far a running trial is beyond each limit, so that its tools know it.

    Args:
        trial: The trial, in whose user attributes the outcomes are noted already.
        constraints: The constraints.
    """
    found = violations_of(constraints, trial._cached_frozen_trial.user_attrs)
    noted = trial._cached_frozen_trial.constraints
    for text, violation in found.items():
        if text not in noted:
            trial.set_constraint(text, violation)


def check_outcomes(
    constraints: Iterable[OutcomeConstraint],
    runs: Sequence[StageRun],
    metrics: Mapping[str, float],
) -> None:
    """Check that a run has shown everything that is constrained.

    Args:
        constraints: The constraints.
        runs: The runs of its stages.
        metrics: What the last stage returned, by name.

    Raises:
        TypeError: An outcome is missing, or its name fits several.
        ValueError: It is not a number.
    """
    observations = observations_of((run.name, run.observation) for run in runs)
    for each in constraints:
        value = outcome_named(each.name, metrics, observations)
        if value is None:
            raise TypeError(
                f"there is a constraint on {each.name!r}, but the last stage returned the metrics "
                f"{list(metrics)}, and stages have shown {list(observations)}; return it with the "
                f"metrics, or show it with stage(observe=...)."
            )
        if math.isnan(value):
            raise ValueError(
                f"there is a constraint on {each.name!r}, and it was {value!r}, which is neither "
                f"within its limit nor beyond it."
            )
