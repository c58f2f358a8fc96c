"""The best trial of a study, or why there is none."""

import optuna
from optuna.trial import FrozenTrial, TrialState

from eeipu.errors import ConfigurationError
from eeipu.methods.history import History

__all__ = ["best_trial"]


def best_trial(
    study: optuna.Study, history: History | None = None, number: int | None = None
) -> FrozenTrial:
    """The best trial of a study with one objective, among those within all limits; or another one.

    Args:
        study: The study.
        history: Its trials. If it is given, only those count that fit the pipeline, with the
            values that parameters which came later have in them.
        number: The number of a trial that has a value; `None`: the best one.

    Raises:
        ConfigurationError: No trial has a value yet, or this one has none; or none is within all
            limits, or there are several objectives.
    """
    if number is not None:
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        found = next((trial for trial in ended if trial.number == number), None)
        if found is None:
            raise ConfigurationError(
                f"the study {study.study_name!r} has no trial {number!r} with a value; see "
                f"study.best_trials for those to choose from."
            )
        return found
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)):
            raise ConfigurationError(
                f"no trial of the study {study.study_name!r} has come to its end yet; call "
                f"run(...) with more trials or a larger budget."
            )
        raise ConfigurationError(
            f"no trial of the study {study.study_name!r} has a value yet; call run(...) first, or "
            f"see the errors in trial.user_attrs['error']."
        )
    if len(study.directions) > 1:
        front = [trial.number for trial in study.best_trials]
        raise ConfigurationError(
            f"the study {study.study_name!r} has several objectives, and no trial is the best one; "
            f"choose one by its number, with best_run(..., number=...); the front is {front}."
        )
    if history is not None:
        return _best_that_fits(study, history)
    try:
        return study.best_trial
    except ValueError as error:
        raise ConfigurationError(_beyond_limits(study)) from error


def _best_that_fits(study: optuna.Study, history: History) -> FrozenTrial:
    best = history.best_first[:1]
    if not len(best):
        raise ConfigurationError(
            f"no trial of the study {study.study_name!r} that has a value fits the pipeline as it "
            f"is now; call run(...) first."
        )
    if not history.feasible[best].all():
        raise ConfigurationError(_beyond_limits(study))
    return history.top(1)[0]


def _beyond_limits(study: optuna.Study) -> str:
    return (
        f"no trial of the study {study.study_name!r} is within all limits of the pipeline's "
        f"constraints; call run(...) with more trials, or widen the limits."
    )
