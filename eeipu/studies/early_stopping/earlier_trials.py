"""Trials that earlier runs have begun, and that a run goes on with."""

from collections.abc import Iterable, Iterator

import optuna
from optuna.trial import FrozenTrial, TrialState

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.methods.budget import PAID_BY
from eeipu.methods.trials.ledger import is_interrupted
from eeipu.stages.running.trial_notes import TrialNotes
from eeipu.studies.drivers.dead_drivers import (
    MAX_DEATHS,
    RUNS,
    abandoned_trials,
    close_dead,
    deaths_of,
)
from eeipu.studies.drivers.driver_queue import NOBODY
from eeipu.studies.early_stopping.common_step import COSTS_BY_STEP, KEYS_BY_STEP
from eeipu.studies.early_stopping.staged_trial import StagedTrial
from eeipu.studies.trials import Trials

__all__ = ["continue_ended", "earlier_trials", "other_drivers", "superseded"]

# What a trial that goes on where another one was stopped takes over from it.
_TAKEN = (
    "warm_up",
    "stage_keys",
    "best_step",
    "best_value",
    "pruned_stage",
    COSTS_BY_STEP,
    KEYS_BY_STEP,
)


def other_drivers(study: optuna.Study) -> set[str]:
    """The other processes that run trials of a study and live, by their names."""
    own, abandoned = str(ProcessIdentity.here()), {t.number for t in abandoned_trials(study)}
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    names = {t.user_attrs.get("driver") for t in running if t.number not in abandoned}
    return {name for name in names if name not in (None, own, NOBODY)}


def earlier_trials(trials: Trials, driver: str, *, joins: bool) -> Iterator[StagedTrial]:
    """Yield the trials that earlier runs have begun, by number, with what they have reached.

    Those that have ended without a value are left out, and so are those that go on under other
    numbers.

    Args:
        trials: The trials of the study.
        driver: The name of this process, which takes over trials that nobody runs.
        joins: Whether other processes run trials of the study. Then only those count that this
            process has begun.
    """
    is_whole, space = trials.pipeline.cube.is_whole, trials.pipeline.space
    all_trials = trials.study.get_trials(deepcopy=False)
    others, gone_on = other_drivers(trials.study), superseded(all_trials)
    for trial in all_trials:
        has_all, is_open = is_whole(trial.params), trial.state is TrialState.RUNNING
        begun_by = trial.user_attrs.get("driver")
        if joins and begun_by != driver:
            continue
        if is_open and begun_by is not None and begun_by not in others:
            mine = _take_over(trials, trial, driver, is_whole=has_all)
            if mine is not None:
                yield StagedTrial.of(mine, trial, space)
        elif (
            has_all
            and trial.state.is_finished()
            and trial.intermediate_values
            and trial.number not in gone_on
        ):
            yield StagedTrial.of(optuna.Trial(trials.study, trial._trial_id), trial, space)


def superseded(trials: Iterable[FrozenTrial]) -> set[int]:
    """The numbers of the trials that go on under other numbers."""
    return {
        t.user_attrs["goes_on_from"]
        for t in trials
        if "goes_on_from" in t.user_attrs and not is_interrupted(t)
    }


def _take_over(
    trials: Trials, trial: FrozenTrial, driver: str, *, is_whole: bool
) -> optuna.Trial | None:
    """Go on with a running trial that no process runs any more.

    Args:
        trials: The trials of the study.
        trial: The trial.
        driver: The name of this process.
        is_whole: Whether it has its whole configuration; otherwise it is closed.

    Returns:
        The trial; `None` where it is closed.
    """
    mine = optuna.Trial(trials.study, trial._trial_id)
    if not is_whole:
        trials.interrupt(mine)
        return None
    deaths = deaths_of(trial)
    if deaths >= MAX_DEATHS:
        close_dead(trials.study, trial, deaths)
        return None
    notes = TrialNotes(mine)
    if deaths:
        notes.set_user_attr("deaths", deaths)
    notes.set_user_attr(RUNS, False)
    notes.set_user_attr("driver", driver)
    notes.write()
    trials.heart.beat_for(mine)
    return mine


def continue_ended(trials: Trials, trial: FrozenTrial, driver: str, step: int) -> optuna.Trial:
    """Begin a trial that goes on where another one was stopped, with its values so far.

    Args:
        trials: The trials of the study.
        trial: The other trial, which has paid for what it reached.
        driver: The name of this process.
        step: The step to which it will be trained next.
    """
    study = trials.study
    attrs = {name: trial.user_attrs[name] for name in _TAKEN if name in trial.user_attrs}
    begun = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=attrs
        | {PAID_BY: trials.study_id, "driver": driver, "goes_on_from": trial.number, RUNS: False},
        intermediate_values={
            at: value for at, value in trial.intermediate_values.items() if at < step
        },
    )
    # `study.add_trial` does not say which number the trial has got.
    id_ = study._storage.create_new_trial(study._study_id, template_trial=begun)
    mine = optuna.Trial(study, id_)
    trials.heart.beat_for(mine)
    return mine
