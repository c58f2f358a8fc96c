"""What a trial was trained with, as schedules with which another training can be run alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from eeipu.errors import ConfigurationError, PipelineError
from eeipu.pipeline import Pipeline
from eeipu.stages.iterative import IterativeStage
from eeipu.stages.schedules import Constant, Piecewise, Schedule
from eeipu.studies.early_stopping.trial_paths import iterative_stages

__all__ = ["schedules_of"]


def schedules_of(
    trial: FrozenTrial, pipeline: Pipeline, stage: str | None = None
) -> dict[str, Schedule]:
    """The hyper-parameters of a stage of a trial, as functions of the stage's step.

    Args:
        trial: The trial.
        pipeline: Its pipeline.
        stage: The name of the stage; `None`: the last one that trains in steps.

    Returns:
        Hyper-parameter -> schedule. Where it has changed while the trial was trained, as in
        population-based training, that is the sequence of its values, to the last bit.

    Raises:
        PipelineError: No stage trains in steps, or there is none of that name.
        ConfigurationError: The trial has no value for a hyper-parameter of the stage.
    """
    found = _stage_named(pipeline, stage)
    noted = trial.user_attrs.get("schedules", {}).get(found.name)
    if noted:
        return {name: _sequence(noted, name) for name in noted[0][1]}
    prefix = f"{found.name}."
    own = {k.removeprefix(prefix): v for k, v in trial.params.items() if k.startswith(prefix)}
    missing = [name for name in found.space if name not in own]
    if missing:
        raise ConfigurationError(
            f"trial {trial.number} has no value for {prefix}{missing[0]}; it belongs to another "
            f"space, or left the stage out."
        )
    if isinstance(found, IterativeStage):
        return found.schedules(own)
    return {name: Constant(value) for name, value in own.items()}


def _stage_named(pipeline: Pipeline, name: str | None) -> Any:
    if name is None:
        trained = iterative_stages(pipeline)
        if not trained:
            raise PipelineError(
                f"no stage of {pipeline.name!r} trains in steps; the best trial's hyper-parameters "
                f"are study.best_params."
            )
        return trained[-1]
    for each in pipeline.stages:
        if each.name == name:
            return each
    raise PipelineError(
        f"{pipeline.name!r} has no stage {name!r}; it has {list(pipeline.stage_names)}."
    )


def _sequence(noted: Sequence[tuple[int, Mapping[str, Any]]], name: str) -> Schedule:
    """The values of a hyper-parameter, as they were noted with the steps at which they began."""
    values, boundaries = [noted[0][1][name]], []
    for since, params in noted[1:]:
        if (type(params[name]), params[name]) != (type(values[-1]), values[-1]):
            values.append(params[name])
            boundaries.append(since)
    return Piecewise(values, boundaries) if boundaries else Constant(values[0])
