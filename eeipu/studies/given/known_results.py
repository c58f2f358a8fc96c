"""Results from elsewhere, with which a study begins: they are data, and cost it nothing.

Such a trial has the user attribute `"added"`. What Optuna's `study.add_trial` adds needs none, and
is data as well, as long as it has a configuration of the pipeline.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from eeipu.errors import ConfigurationError
from eeipu.methods.budget import PAID_BY
from eeipu.pipeline import Pipeline
from eeipu.space import Params
from eeipu.stages.running.calls import StageCall
from eeipu.stages.running.outcomes import violations_of
from eeipu.studies.changes import stored_space
from eeipu.studies.given.ask_and_tell import checked_costs
from eeipu.studies.given.reported_values import Reported, check_outcomes, reported_values
from eeipu.studies.storages import using_storage
from eeipu.studies.study import study_id

__all__ = ["add_result"]


def add_result(
    study: optuna.Study,
    pipeline: Pipeline,
    params: Params,
    value: Reported,
    stage_costs: Sequence[float | None] | None,
) -> None:
    """Add a known result to a study, unless it has been added already.

    Args:
        study: The study.
        pipeline: The pipeline that it tunes.
        params: The whole configuration, `"stage.param"` -> value.
        value: The objective, or all of them, or the metrics of which they are some.
        stage_costs: See `Tuner.add_trial`.

    Raises:
        SpaceError: The configuration does not lie in the space.
        ConfigurationError: The value is no finite number, or lacks the objective; or the costs do
            not fit the stages.
    """
    active = pipeline.cube.conditions.active
    stored, names = active(pipeline.cube.canonical(params)), pipeline.stage_names
    values, metrics = reported_values(value, pipeline, "the value of a known result", _number)
    check_outcomes(pipeline, metrics, {})
    calls = {call.stage.name: call for call in pipeline.calls(stored)}
    left_out = [name not in calls for name in names]
    if stage_costs is None:
        costs = [_declared(calls[name]) if name in calls else None for name in names]
    else:
        costs = checked_costs(stage_costs, names, left_out)
    attrs: dict[str, Any] = {
        "added": True,
        "stage_costs": costs,
        "memoized": left_out,
        "charged": 0.0,
    }
    if metrics:
        attrs["metrics"] = metrics
    with using_storage():
        if any(
            trial.user_attrs.get("added")
            and tuple(trial.values) == values
            and active(trial.params) == stored
            and trial.user_attrs.get("stage_costs") == costs
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        ):
            return  # a script that begins with its known results is run again
        distributions = stored_space(study, pipeline)
        trial = create_trial(
            params=stored,
            distributions={name: distributions[name] for name in stored},
            values=values,
            user_attrs={**attrs, PAID_BY: study_id(study)},
            constraints=violations_of(pipeline.outcome_constraints, attrs),
        )
        study.add_trial(trial)


def _declared(call: StageCall) -> float | None:
    """The declared cost of a call; `None` where it is measured, or depends on the inputs."""
    return None if call.stage.cost_takes_inputs else call.stage.declared_cost(call.params)


def _number(value: object, what: str) -> float:
    """A finite number of the user's."""
    item = getattr(value, "item", None)  # of NumPy's numbers and of tensors with one element
    try:
        number = value if item is None else item()
    except (TypeError, ValueError, RuntimeError):  # it has several elements
        number = value
    if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):
        raise ConfigurationError(
            f"{what} must be a finite number, but got {value!r}; leave results out that failed."
        )
    return float(number)
