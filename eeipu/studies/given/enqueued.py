"""Configurations, or parts of them, that users have evaluated before all others."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from eeipu.errors import ConfigurationError, SpaceError
from eeipu.pipeline import Pipeline
from eeipu.sampler import EEIPUSampler
from eeipu.space import Params
from eeipu.studies.storages import using_storage

__all__ = ["enqueue", "enqueue_best_of_earlier", "is_refused", "pass_over"]

logger = logging.getLogger("eeipu")


def enqueue(study: optuna.Study, pipeline: Pipeline, params: Params) -> None:
    """Enqueue a configuration, or a part of one, unless the study already has it.

    The sampler chooses the values of the other parameters when the trial begins. Those without
    which a value would not be active are chosen at once.

    Args:
        study: The study.
        pipeline: The pipeline that it tunes.
        params: Some or all parameters, `"stage.param"` -> value.

    Raises:
        SpaceError: A value does not lie in the space, or is never active with the others; or the
            constraints do not allow the configuration, or any that was found with this part.
    """
    cube = pipeline.cube
    part = cube.canonical_part(params)
    if not part:
        raise SpaceError(f"nothing to enqueue; give a value of at least one of {list(cube.names)}.")
    if cube.is_whole(part):
        part = cube.conditions.active(cube.canonical(params))
    else:
        part = cube.canonical_part(cube.conditions.with_parents(part))
        if not _can_be_completed(part, pipeline):
            raise pipeline.feasible.error(part)
    with using_storage():
        study.enqueue_trial(part, user_attrs={"warm_up": True}, skip_if_exists=True)


def enqueue_best_of_earlier(sampler: BaseSampler, study: optuna.Study) -> None:
    """Enqueue the best configurations of the studies that a sampler learns from, in a new study.

    Args:
        sampler: The sampler, which need not learn from any.
        study: The study; it stays as it is if it has begun.
    """
    if not isinstance(sampler, EEIPUSampler) or sampler.earlier is None:
        return
    with using_storage():
        if study.get_trials(deepcopy=False):
            return
    for trial in sampler.earlier.best:
        params = {name: trial.params[name] for name in sampler.pipeline.space}
        enqueue(study, sampler.pipeline, params)


def is_refused(trial: optuna.Trial, pipeline: Pipeline) -> bool:
    """Whether the space or its constraints do not have what was enqueued; if so, this is logged.

    Args:
        trial: A trial that has just begun.
        pipeline: The pipeline.
    """
    cube, given = pipeline.cube, _enqueued(trial)
    part = cube.fitting_part(given)
    unfit = next((name for name in cube.names if name in given and name not in part), None)
    why: str | None
    if unfit is not None:
        why = f"{unfit}={given[unfit]!r} does not lie in the space"
    elif not part or not cube.constraints:
        return False
    elif cube.is_whole(part):
        violated = cube.constraints.violated(part)
        why = None if violated is None else f"it violates {violated}"
    else:
        why = None if _can_be_completed(part, pipeline) else "nothing was found that completes it"
    if why is not None:
        logger.warning("the enqueued configuration %s is left out: %s.", dict(given), why)
    return why is not None


def pass_over(
    study: optuna.Study,
    trial: optuna.Trial,
    pipeline: Pipeline,
    *,
    in_a_row: int | None = None,
) -> None:
    """Close a trial for which a sampler that knows no constraints has chosen what violates one.

    Samplers of Optuna's do not look at failed trials. If it were pruned, TPE would take it for good
    while nothing has a value. If a part of it was enqueued, this is enqueued again.

    Args:
        study: The study.
        trial: The trial, in which the constraint is noted already.
        pipeline: The pipeline that the study tunes.
        in_a_row: How often the sampler has done so, if that is enough: then a configuration that
            is allowed is drawn at random, and enqueued. `None`: it is asked again.

    Raises:
        ConfigurationError: No such configuration was found.
    """
    study.tell(trial, state=TrialState.FAIL)
    part = pipeline.cube.fitting_part(_enqueued(trial))
    if in_a_row is not None:
        what = f"the last {in_a_row} configurations of {type(study.sampler).__name__}"
        study.enqueue_trial(_drawn(part, pipeline, trial.number, what))
    elif part and not pipeline.cube.is_whole(part):
        study.enqueue_trial(part, user_attrs={"warm_up": True})


def _drawn(part: Params, pipeline: Pipeline, seed: int, those_before: str) -> dict[str, Any]:
    """A configuration with these values that the constraints allow."""
    cube = pipeline.cube
    points = pipeline.feasible.draw(np.random.default_rng(seed), 1, fixed=part)
    if not len(points):
        raise ConfigurationError(
            f"{those_before} violate the constraints of the pipeline, and none was found that "
            f"keeps them: {pipeline.feasible.error(part)}"
        )
    logger.info("%s violate the constraints; one that keeps them is drawn instead.", those_before)
    return cube.conditions.active(cube.decode_all(points[:1], part)[0])


def _enqueued(trial: optuna.Trial) -> Mapping[str, Any]:
    """The values that were enqueued for a trial."""
    fixed: Mapping[str, Any] = trial._cached_frozen_trial.system_attrs.get("fixed_params", {})
    return fixed


def _can_be_completed(part: Params, pipeline: Pipeline) -> bool:
    """Whether a configuration with these values was found that satisfies the constraints."""
    return len(pipeline.feasible.draw(np.random.default_rng(0), 1, fixed=part)) > 0
