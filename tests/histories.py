"""Trials and histories for tests."""

import optuna
from optuna.trial import TrialState, create_trial
from toys import declared

from eeipu import Float, Pipeline
from eeipu.methods.history import History
from eeipu.methods.search_models import SearchModels

PIPELINE = declared()
TWO_STAGES = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


def trial(x=0.5, y=0.5, value=1.0, *, extra=None, **attrs):
    params = {"prep.x": x, "fit.y": y, **(extra or {})}
    return create_trial(
        params=params,
        distributions={name: Float(0.0, 1.0) for name in params},
        value=value,
        state=TrialState.FAIL if value is None else TrialState.COMPLETE,
        user_attrs=attrs,
    )


def history_of(*trials, direction="maximize", pipeline=PIPELINE):
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    return History.of(study, pipeline)


def models_of(trials, direction="maximize"):
    """The models of trials `(x, y, value)`; a value of `None` is a failure."""
    study = optuna.create_study(direction=direction)
    for x, y, value in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params={"prep.x": x, "fit.y": y},
                distributions=TWO_STAGES.space,
                value=value,
                state=TrialState.COMPLETE if value is not None else TrialState.FAIL,
            )
        )
    return SearchModels(History.of(study, TWO_STAGES))
