"""Checks of the arguments of a tuner, before any work begins.

All of them raise a `ConfigurationError`, or a `PipelineError`, that names the value and the remedy.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import optuna
import torch
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection

from eeipu.errors import ConfigurationError, PipelineError
from eeipu.methods.budget import Budget, check_one_unit
from eeipu.methods.warm_up import USUAL_TRIALS
from eeipu.pipeline import Pipeline
from eeipu.sampler import EEIPUSampler
from eeipu.studies.study import Direction
from eeipu.studies.trials import Callback, StageCallback

logger = logging.getLogger("eeipu")

# The last words of names of metrics that say which direction is meant, unless they are negated.
_SMALLER = frozenset({"loss", "error", "mse", "rmse", "mae", "nll", "perplexity"})
_LARGER = frozenset({"accuracy", "acc", "auc", "f1", "iou", "precision", "recall", "r2"})
_NEGATED = frozenset({"neg", "negative", "minus", "inverse"})

__all__ = [
    "check_count",
    "check_ends",
    "check_if_given",
    "check_method",
    "check_on_change",
    "check_pipeline",
    "checked_callbacks",
    "checked_directions",
    "checked_texts",
    "sampler_of",
    "usual_warm_up",
]


def check_pipeline(pipeline: Pipeline) -> None:
    """Check that there is something to tune, and that its costs can be added up."""
    check_one_unit(pipeline)
    if not pipeline.space:
        raise PipelineError(
            f"{pipeline!r} has nothing to tune; give a stage a space with @stage(space=...)."
        )


def checked_directions(
    direction: Direction | Sequence[Direction],
    directions: Sequence[Direction] | None,
    objectives: Sequence[str | None],
) -> list[Direction]:
    """The direction of each objective.

    Args:
        direction: What the user gives for one objective, by its name or as Optuna's
            `StudyDirection`; a list is taken for `directions`.
        directions: What the user gives for several.
        objectives: The names of the objectives.
    """
    if directions is None and not isinstance(direction, str):
        directions = direction
    if directions is None and len(objectives) > 1:
        raise ConfigurationError(
            f"there are the objectives {list(objectives)}; give the direction of each with "
            f'Tuner(directions=["maximize", "minimize", ...]).'
        )
    given: Any = [direction] if directions is None else directions
    entries = list(given) if isinstance(given, list | tuple) else [given]
    found: list[Any] = [
        each.name.lower() if isinstance(each, StudyDirection) else each for each in entries
    ]
    for each in found:
        if each not in ("maximize", "minimize"):
            raise ConfigurationError(
                f'direction must be "maximize" or "minimize", but got {each!r}.'
            )
    if len(found) != len(objectives):
        raise ConfigurationError(
            f"directions must have one entry for each of the {len(objectives)} objectives "
            f"{list(objectives)}, but got {found!r}; name objectives with Pipeline(objective=...)."
        )
    for objective, each in zip(objectives, found, strict=True):
        _hint_at_direction(objective, each)
    return found


def _hint_at_direction(objective: str | None, direction: Direction) -> None:
    """Tell the user where the name of an objective says that the other direction is meant."""
    words = re.split(r"[^a-z0-9]+", (objective or "").lower())
    better = "smaller" if words[-1] in _SMALLER else "larger" if words[-1] in _LARGER else None
    other: Direction = "minimize" if better == "smaller" else "maximize"
    if better is not None and other != direction and _NEGATED.isdisjoint(words):
        logger.warning(
            "the objective %r has the direction %r, and of a metric with this name %s values are "
            "usually better; if so, give Tuner(direction=%r).",
            objective,
            direction,
            better,
            other,
        )


def check_ends(budget: Budget, max_trials: int | None) -> None:
    """Check that something ends a run."""
    if max_trials is not None:
        check_count("max_trials", max_trials, 0)
    elif not budget.ends:
        raise ConfigurationError(
            "nothing ends this run; give Tuner(budget=...) or Tuner(timeout=...), or "
            "run(..., max_trials=...)."
        )


def check_method(
    method: object,
    pipeline: Pipeline,
    price: float | None,
    device: object,
    *,
    stop_when_done: bool = False,
) -> None:
    """Check that what needs eeipu's models has them, and what needs one objective has one."""
    if not isinstance(stop_when_done, bool):
        raise ConfigurationError(f"stop_when_done must be True or False, not {stop_when_done!r}.")
    asked = {"price": price is not None, "stop_when_done": stop_when_done}
    for name, is_asked in asked.items():
        if is_asked and len(pipeline.objectives) > 1:
            raise ConfigurationError(
                f"{name} needs one objective, and the pipeline has {list(pipeline.objectives)}; "
                f"leave it out, or name one of them."
            )
    if not isinstance(method, BaseSampler):
        return
    if stop_when_done and not isinstance(method, EEIPUSampler):
        raise ConfigurationError(
            f"stop_when_done needs one of eeipu's methods, whose models say when a search is done; "
            f"{type(method).__name__} has none of them."
        )
    if price is not None:
        raise ConfigurationError(
            f"a price needs one of eeipu's methods, which model the objective and its cost; "
            f"{type(method).__name__} does not."
        )
    if device is not None:
        raise ConfigurationError(
            f"a device needs one of eeipu's methods, whose models are fitted there; "
            f"{type(method).__name__} fits its own, but got device={device!r}."
        )


def sampler_of(
    method: str | BaseSampler,
    pipeline: Pipeline,
    budget: Budget,
    *,
    top_q: int,
    n_initial: int | None,
    seed: int | None,
    device: str | torch.device | None,
    learn_from: Sequence[optuna.Study] = (),
) -> BaseSampler:
    """The sampler of a method: the user's own, or one that draws on the tuner's budget."""
    if isinstance(method, BaseSampler):
        if learn_from:
            raise ConfigurationError(
                f"learn_from needs one of eeipu's methods, whose models begin from earlier "
                f"studies; {type(method).__name__} has none of them."
            )
        return method
    return EEIPUSampler(
        pipeline,
        budget=budget,
        top_q=top_q,
        n_initial=n_initial,
        method=method,
        seed=seed,
        device=device,
        learn_from=learn_from,
    )


def usual_warm_up(sampler: BaseSampler) -> int:
    """The number of trials in a sampler's warm-up, if the user does not say it."""
    return sampler.n_initial if isinstance(sampler, EEIPUSampler) else USUAL_TRIALS


def check_count(name: str, count: int, least: int) -> int:
    """A whole number of the user, which is at least `least`."""
    if not (_is_whole(count) and count >= least):
        raise ConfigurationError(f"{name} must be a whole number >= {least}, but got {count!r}.")
    return int(count)


def check_if_given(name: str, count: int | None, least: int) -> int | None:
    """The same, where the user may give none."""
    return None if count is None else check_count(name, count, least)


def check_on_change(on_change: object) -> bool:
    """Whether a study is adopted after its pipeline has changed."""
    if on_change not in ("refuse", "adopt"):
        raise ConfigurationError(f'on_change must be "refuse" or "adopt", but got {on_change!r}.')
    return on_change == "adopt"


def checked_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """The functions that are called after each trial, and the objects that see its stages."""
    found = tuple(callbacks) if isinstance(callbacks, Iterable) else (None,)
    if not all(callable(each) or isinstance(each, StageCallback) for each in found):
        raise ConfigurationError(
            f"callbacks must be a list of functions of (study, trial), or of objects with a method "
            f"on_stage(study, trial, run), but got {callbacks!r}."
        )
    return found


def checked_texts(name: str, texts: str | Iterable[str]) -> list[str]:
    """One or several texts of the user, none of them empty."""
    found = [texts] if isinstance(texts, str) else list(texts)
    if not all(isinstance(text, str) and text for text in found):
        raise ConfigurationError(f"{name} must be a text or a list of texts, but got {texts!r}.")
    return found


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)  # NumPy's integers too
