"""Studies made by hand, to be looked at."""

from datetime import datetime, timedelta

import optuna
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.trial import TrialState, create_trial

SPACE = {"prep.x": FloatDistribution(0.0, 1.0), "fit.y": FloatDistribution(0.0, 1.0)}
BEGAN = datetime(2026, 1, 1, 12)


def study_of(*trials, direction="maximize", name="by hand", **told):
    """A study of two stages, `prep` and `fit`.

    Args:
        trials: See `add`.
        direction: Its direction.
        name: Its name.
        told: Further user attributes of the study.
    """
    study = optuna.create_study(direction=direction, study_name=name)
    by_stage = {"prep": ["prep.x"], "fit": ["fit.y"]}
    told = {
        "eeipu:space": {
            stage: {n.partition(".")[2]: distribution_to_json(SPACE[n]) for n in names}
            for stage, names in by_stage.items()
        },
        "eeipu:objective": ["auc"],
        "eeipu:unit": "seconds",
        **told,
    }
    for key, value in told.items():
        study.set_user_attr(key, value)
    for trial in trials:
        add(study, **trial)
    return study


def add(
    study, /, value=None, x=0.5, y=0.5, state=None, began_s=0.0, took_s=1.0, reports=None, **attrs
):
    """Add a trial to a study of `study_of`; without a value it has failed.

    Args:
        study: The study.
        value: Its value.
        x: The hyper-parameter of the first stage.
        y: That of the second one.
        state: Its state, if the value does not tell it.
        began_s: When it began, in seconds.
        took_s: For how long it ran.
        reports: Its intermediate values.
        attrs: Its user attributes.
    """
    usual = TrialState.FAIL if value is None else TrialState.COMPLETE
    trial = create_trial(
        state=usual if state is None else state,
        value=value,
        params={"prep.x": x, "fit.y": y},
        distributions=SPACE,
        user_attrs=attrs,
        intermediate_values=reports,
    )
    if trial.state.is_finished():
        trial.datetime_start = BEGAN + timedelta(seconds=began_s)
        trial.datetime_complete = BEGAN + timedelta(seconds=began_s + took_s)
    study.add_trial(trial)


def paid(*costs, keys="ab", **attrs):
    """The user attributes of a trial that paid for its stages, `None` for a reused one."""
    return {
        "stage_costs": list(costs),
        "memoized": [cost is None for cost in costs],
        "stage_keys": list(keys),
        "charged": sum(cost or 0.0 for cost in costs),
        **attrs,
    }
