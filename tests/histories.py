"""Trials and histories for tests."""

import optuna
from optuna.trial import TrialState, create_trial
from toys import declared

from eeipu import Float
from eeipu.methods.history import History

PIPELINE = declared()


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
