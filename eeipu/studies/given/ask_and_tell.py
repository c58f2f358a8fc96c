"""Trials whose stages the caller runs: what is suggested, and what the caller reports."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from numbers import Real
from typing import Any

import optuna
from optuna.trial import TrialState

from eeipu.counts import counted
from eeipu.errors import ConfigurationError
from eeipu.pipeline import Pipeline
from eeipu.stages.observing.observers import as_observation
from eeipu.stages.running.records import keys_of
from eeipu.stages.running.trial_notes import TrialNotes, flat_notes
from eeipu.stages.runs import observations_of
from eeipu.studies.given.reported_values import Reported, check_outcomes, reported_values

__all__ = ["Outcome", "Suggestion", "checked_costs", "note_suggestion", "outcome_of", "trial_told"]

Costs = Sequence[float | None]


@dataclass(frozen=True)
class Suggestion:
    """A configuration for the caller to evaluate.

    Attributes:
        number: The number of its trial in the study.
        params: The configuration, `"stage.param"` -> value.
        memoized: For each stage, whether the tuner assumes that the caller still has its output.
    """

    number: int
    params: dict[str, Any]
    memoized: tuple[bool, ...]


def note_suggestion(
    notes: TrialNotes, params: dict[str, Any], pipeline: Pipeline, kept: Container[str] | None
) -> None:
    """Note of a trial which of its stages the caller need not run.

    Args:
        notes: Are written into the trial.
        params: Its configuration.
        pipeline: The pipeline.
        kept: The content keys of the outputs that the caller keeps; `None`: the caller keeps none.
    """
    keys = keys_of(pipeline.stage_names, pipeline.calls(params))
    memoized = pipeline.graph.free([key is None or key in (kept or ()) for key in keys])
    notes.set_user_attr("stage_keys", keys)
    notes.set_user_attr("memoized", memoized)


@dataclass(frozen=True)
class Outcome:
    """What a trial gave and cost, as its caller reported.

    Attributes:
        values: The objectives; `None` if the trial failed.
        error: Why the trial failed; `None` if it succeeded.
        failed_stage: The stage that failed or pruned the trial, where that is known.
        stage_costs: The cost of each stage; `None` where it was not executed, or is not known.
        memoized: For each stage, whether its output was reused.
        charged: What the budget pays for the trial.
        is_pruned: Whether the trial was pruned; `values` are then what it reported last, if
            anything.
        observations: What was observed of the stages, by flat names.
        metrics: All metrics, where the caller reported a dict of them.
    """

    values: tuple[float, ...] | None
    error: str | None
    failed_stage: str | None
    stage_costs: list[float | None]
    memoized: list[bool]
    charged: float
    is_pruned: bool = False
    observations: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def write(self, trial: optuna.Trial, stage_names: Sequence[str]) -> None:
        """Write everything but the value of a trial into the trial.

        Args:
            trial: The trial.
            stage_names: The names of the pipeline's stages.
        """
        notes = TrialNotes(trial)
        notes.set_user_attr("stage_costs", self.stage_costs)
        notes.set_user_attr("memoized", self.memoized)
        notes.set_user_attr("charged", self.charged)
        keys = trial.user_attrs.get("stage_keys") or [""] * len(self.memoized)
        pairs = zip(self.memoized, keys, strict=True)
        reused = [is_free and key is not None for is_free, key in pairs]  # not those left out
        flat = flat_notes(stage_names, self.stage_costs, reused, self.metrics)
        for name, value in flat.items():
            notes.set_user_attr(name, value)
        if self.observations:
            notes.set_user_attr("observations", dict(self.observations))
        if self.metrics:
            notes.set_user_attr("metrics", dict(self.metrics))
        if self.failed_stage is not None:
            name = "pruned_stage" if self.is_pruned else "failed_stage"
            notes.set_user_attr(name, self.failed_stage)
        if self.is_pruned and self.values is not None and len(self.values) == 1:
            with notes.gathering():
                trial.report(self.values[0], step=0)
        if self.error is not None:
            notes.set_user_attr("error", self.error)
        notes.write()


def trial_told(
    study: optuna.Study, suggestion: Suggestion, asked: Mapping[int, optuna.Trial]
) -> optuna.Trial:
    """The running trial of a suggestion, which may have been begun by an earlier process.

    Args:
        study: The study.
        suggestion: What the caller reports about.
        asked: The trials that this process has begun, by number.

    Raises:
        ConfigurationError: There is no such trial, or this is no suggestion.
    """
    if not isinstance(suggestion, Suggestion):
        raise ConfigurationError(
            f"tell takes what ask returned, a Suggestion, but got {suggestion!r}."
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number == suggestion.number and trial.params == suggestion.params:
            begun = asked.get(suggestion.number)
            return begun if begun is not None else optuna.Trial(study, trial._trial_id)
    raise ConfigurationError(
        f"trial {suggestion.number} is not running: it has been told already, or belongs to "
        f"another study than {study.study_name!r}."
    )


def outcome_of(
    suggestion: Suggestion,
    trial: optuna.Trial,
    pipeline: Pipeline,
    *,
    value: Reported | None,
    stage_costs: Costs | None,
    failed: bool,
    pruned: bool = False,
    observations: Mapping[str, Any] | None = None,
) -> Outcome:
    """Check what the caller reports about a suggestion, and complete it.

    Args:
        suggestion: The suggestion.
        trial: Its trial, which is running.
        pipeline: The pipeline that is tuned.
        value: See `Tuner.tell`.
        stage_costs: See `Tuner.tell`.
        failed: See `Tuner.tell`.
        pruned: See `Tuner.tell`.
        observations: See `Tuner.tell`.

    Raises:
        ConfigurationError: The report does not fit the pipeline, or has neither a value nor a
            failure.
    """
    if failed and pruned:
        raise ConfigurationError(
            f"trial {suggestion.number} was told both failed=True and pruned=True."
        )
    values: tuple[float, ...] | None = None
    metrics: dict[str, float] = {}
    error = None
    if not (pruned and value is None):
        values, metrics, error = _values_or_error(suggestion, value, failed, pipeline)
    is_whole = error is None and not pruned
    failed_stage = None
    made = {call.stage.name for call in pipeline.calls(suggestion.params)}
    if stage_costs is None:
        costs, charged = _unreported_costs(suggestion, trial, pipeline)
        memoized = list(suggestion.memoized)
    else:
        left_out = [name not in made for name in pipeline.stage_names]
        costs = checked_costs(stage_costs, pipeline.stage_names, left_out)
        charged = _total(costs)
        reached = max((k + 1 for k, cost in enumerate(costs) if cost is not None), default=0)
        if is_whole:
            reached = len(costs)
        elif reached > 0:
            failed_stage = pipeline.stage_names[reached - 1]
        memoized = [cost is None and k < reached for k, cost in enumerate(costs)]
    charged = math.fsum([charged, trial.user_attrs.get("overhead", 0.0)])
    if pruned:
        error = None
    observed = _checked_observations(observations or {}, pipeline.stage_names, made)
    if is_whole and len(made) == len(pipeline.stages):
        check_outcomes(pipeline, metrics, observed)
    return Outcome(values, error, failed_stage, costs, memoized, charged, pruned, observed, metrics)


def _values_or_error(
    suggestion: Suggestion, value: Reported | None, failed: bool, pipeline: Pipeline
) -> tuple[tuple[float, ...] | None, dict[str, float], str | None]:
    """The values to store and all metrics, or the error message of a trial that has failed."""
    if failed:
        return None, {}, "told as failed"
    if value is None:
        raise ConfigurationError(
            f"trial {suggestion.number} was told neither a value nor failed=True."
        )
    values, metrics = reported_values(
        value, pipeline, f"the value of trial {suggestion.number}", _number
    )
    wrong = [each for each in values if not math.isfinite(each)]
    if wrong:
        return None, metrics, f"told the value {wrong[0]!r}, which is not finite"
    return values, metrics, None


def _unreported_costs(
    suggestion: Suggestion, trial: optuna.Trial, pipeline: Pipeline
) -> tuple[list[float | None], float]:
    """The stage costs, and the amount to charge, where the caller reports no costs."""
    calls = {call.stage.name: call for call in pipeline.calls(suggestion.params)}
    costs = [
        None if is_free else calls[name].stage.declared_cost(calls[name].params)
        for name, is_free in zip(pipeline.stage_names, suggestion.memoized, strict=True)
    ]
    if all(c is not None or r for c, r in zip(costs, suggestion.memoized, strict=True)):
        return costs, _total(costs)
    assert trial.datetime_start is not None
    elapsed = datetime.now() - trial.datetime_start
    # Optuna's start is local time, which can be set back.
    return [None] * len(costs), max(0.0, elapsed.total_seconds())


def _total(costs: Costs) -> float:
    return math.fsum(cost for cost in costs if cost is not None)


def checked_costs(
    stage_costs: Costs, names: Sequence[str], left_out: Sequence[bool]
) -> list[float | None]:
    """The cost of each stage, as a caller reports them.

    Args:
        stage_costs: The costs; that of a stage which the configuration leaves out may be 0.
        names: The names of the stages.
        left_out: Whether the configuration leaves a stage out.

    Raises:
        ConfigurationError: There is not one for each stage, or it is negative or not finite, or
            that of a stage which is left out.
    """
    given: Any = stage_costs  # an array will do as well
    is_list = hasattr(given, "__len__") and not isinstance(given, Mapping | str)
    if not is_list or len(given) != len(names):
        raise ConfigurationError(
            f"stage_costs must be a list with {counted(len(names), 'entry', 'entries')}, one for "
            f"each of the stages {list(names)}, but got {stage_costs!r}."
        )
    for name, cost in zip(names, stage_costs, strict=True):
        if cost is not None and not (_is_finite(cost) and cost >= 0):
            raise ConfigurationError(
                f"the cost of stage {name!r} must be finite and not negative, or None where "
                f"it was reused, but got {cost!r}."
            )
    costs = [None if cost is None else float(cost) for cost in stage_costs]
    for k, (name, is_left_out) in enumerate(zip(names, left_out, strict=True)):
        if is_left_out and costs[k]:
            raise ConfigurationError(
                f"the cost of stage {name!r} is {costs[k]!r}, but its configuration leaves this "
                f"stage out; report None for it. The stages are {list(names)}."
            )
        costs[k] = None if is_left_out else costs[k]
    return costs


def _checked_observations(
    observations: Mapping[str, Any], names: Sequence[str], made: Container[str]
) -> dict[str, float]:
    if not isinstance(observations, Mapping):
        raise ConfigurationError(
            f'observations must be a dict such as {{"{names[0]}.loss": 0.5}}, but got '
            f"{observations!r}."
        )
    unknown = [each for each in observations if str(each).partition(".")[0] not in names]
    if unknown:
        raise ConfigurationError(
            f"observations has {unknown[0]!r}, which names none of the stages {list(names)}; write "
            f'"stage" or "stage.entry".'
        )
    try:
        flat = observations_of(
            (name, as_observation(found, f"observations has under {name!r}"))
            for name, found in observations.items()
            if found is not None
        )
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    left_out = [name for name in flat if name.partition(".")[0] not in made]
    if left_out:
        raise ConfigurationError(
            f"observations has {left_out[0]!r}, and its configuration leaves this stage out; "
            f"report what the stages that have run have shown."
        )
    both = [name for name in names if name in flat and any(n.startswith(f"{name}.") for n in flat)]
    if both:
        raise ConfigurationError(
            f"observations has a number for stage {both[0]!r} and numbers under its name, "
            f"{observations!r}; name all of them."
        )
    return flat


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{what} must be a number, but got {value!r}.") from error
