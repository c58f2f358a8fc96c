"""Trials that a driver left running when it died: close them, and have them run again.

A driver is a process that runs trials of a study. Every trial names its driver, in the user
attribute `"driver"`, so that the other drivers of the study notice when it has died.
"""

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.counts import counted
from eeipu.pipeline import Pipeline
from eeipu.studies.drivers.driver_queue import AGAIN, NOBODY
from eeipu.studies.drivers.heartbeats import silent_trials

__all__ = [
    "MAX_DEATHS",
    "RUNS",
    "abandoned_trials",
    "close_dead",
    "deaths_of",
    "enqueue_again",
    "reclaim_dead_trials",
]

# User attribute of a trial that is open also while none of its calls runs: whether one does. Where
# its driver dies meanwhile, the configuration is not the cause.
RUNS = "runs"

# A machine may go down twice while the same configuration runs. A third time suggests that the
# configuration itself is the cause.
MAX_DEATHS = 3


def reclaim_dead_trials(study: optuna.Study, pipeline: Pipeline) -> None:
    """Close the trials that a dead driver left running, and enqueue their configurations again.

    The cost of a closed trial stays charged, and its stage outputs are still in the cache. Where a
    configuration's process has died `MAX_DEATHS` times in a row, it is not enqueued again: the
    trial has failed, since the configuration may be what kills the process (by running out of
    memory, say). If several drivers find the same trial, only one of them enqueues it.

    Args:
        study: The study.
        pipeline: The pipeline that the study tunes.
    """
    for trial in abandoned_trials(study):
        deaths = deaths_of(trial)
        if close_dead(study, trial, deaths) and deaths < MAX_DEATHS:
            enqueue_again(study, trial, pipeline, deaths=deaths)


def abandoned_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials whose driver has died, or is on another host and has stopped beating."""
    own, dead, unseen = str(ProcessIdentity.here()), [], []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        driver = trial.user_attrs.get("driver")
        if driver == own:
            continue
        if driver == NOBODY:
            dead.append(trial)
            continue
        is_alive = None if driver is None else ProcessIdentity.parse(driver).is_alive()
        if is_alive is None:
            unseen.append(trial)
        elif not is_alive:
            dead.append(trial)
    silent = silent_trials(study) if unseen else ()
    return dead + [trial for trial in unseen if trial._trial_id in silent]


def deaths_of(trial: FrozenTrial) -> int:
    """How many times in a row the process has died that ran the configuration of a dead trial."""
    has_run = trial.user_attrs.get(RUNS, True) and trial.user_attrs.get("driver") != NOBODY
    return int(trial.user_attrs.get("deaths", 0)) + int(has_run)


def close_dead(study: optuna.Study, trial: FrozenTrial, deaths: int) -> bool:
    """Mark a trial as failed; return False if another driver already has.

    Args:
        study: The study.
        trial: The trial.
        deaths: See `deaths_of`; from `MAX_DEATHS` on, the trial says so.
    """
    try:
        if deaths >= MAX_DEATHS:
            reached = trial.user_attrs.get("stage_costs") or []
            optuna.Trial(study, trial._trial_id).set_user_attr(
                "error",
                f"the process died {deaths} times in a row while it ran this configuration, the "
                f"last time after {counted(sum(cost is not None for cost in reached), 'stage')}.",
            )
        return study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False


def enqueue_again(
    study: optuna.Study, trial: FrozenTrial, pipeline: Pipeline, *, deaths: int = 0
) -> None:
    """Enqueue the configuration of a trial that was cut off, so that it is the next one to run.

    A trial that was cut off while its configuration was being chosen has computed nothing: it is
    not enqueued, and the sampler proposes another configuration; but a part of it that was enqueued
    is enqueued again.

    Args:
        study: The study.
        trial: The trial that was cut off.
        pipeline: The pipeline that the study tunes.
        deaths: How many times in a row the process that ran this configuration has died.
    """
    names = pipeline.space.keys()
    is_whole = pipeline.cube.is_whole(trial.params) and trial.params.keys() <= names
    params = trial.params if is_whole else trial.system_attrs.get("fixed_params", {})
    if params and params.keys() <= names:
        attrs = {"warm_up": trial.user_attrs.get("warm_up"), "deaths": deaths}
        attrs = {name: value for name, value in attrs.items() if value}
        study.enqueue_trial(params, user_attrs={**attrs, AGAIN: trial.number})
