"""The queue in which the drivers of one study choose configurations, one driver at a time.

Two drivers that choose at the same moment see the same trials and choose the same configuration.
The number of a trial, which the storage gives out only once, is its place in the queue: a driver
waits until all trials with smaller numbers have their configurations.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.methods.trials.ledger import is_interrupted
from eeipu.space import Params
from eeipu.stages.running.trial_notes import TrialNotes

__all__ = [
    "AGAIN",
    "CHOOSER",
    "NOBODY",
    "await_turn",
    "begun",
    "is_chosen",
    "is_to_run_once",
    "repeated",
]

# User attributes of a trial: the process that chooses its configuration, if no driver runs it; and
# the number of the trial that was cut off, if its configuration was enqueued to run again.
CHOOSER, AGAIN = "chooser", "again"

# What a trial names as its driver that its driver has left, alive, for others to go on with.
NOBODY = ""

# A suggestion takes a second or two. A driver that takes longer than this may have died on another
# host, where this cannot be seen. To choose without knowing its configuration is then better than
# to wait for ever.
PATIENCE_S = 60.0

# A trial is created with the name of the process that chooses its configuration. One without a name
# belongs to a user of plain Optuna, and may remain without a configuration for long.
NAMELESS_PATIENCE_S = 1.0

# The pause between two looks at the study grows, so that drivers do not keep the database busy.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.5


def begun(study: optuna.Study, attrs: Mapping[str, Any]) -> optuna.Trial:
    """The same as `study.ask`, for a trial that has user attributes from the first moment.

    Between `ask` and the first attribute, others would see a trial that nobody may ever choose a
    configuration for. Nor does this warn, as `ask` does, about heartbeats outside of Optuna's loop:
    `eeipu.studies.drivers.heartbeats` sends them.

    Args:
        study: The study.
        attrs: The user attributes.

    Returns:
        The first enqueued trial, or a new one.
    """
    study._thread_local.cached_all_trials = None  # as `ask` does
    trial_id = study._pop_waiting_trial_id()
    if trial_id is None:
        template = create_trial(state=TrialState.RUNNING, user_attrs=dict(attrs))
        return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template))
    trial = optuna.Trial(study, trial_id)
    notes = TrialNotes(trial)
    for name, value in attrs.items():
        notes.set_user_attr(name, value)
    notes.write()
    return trial


def await_turn(
    study: optuna.Study,
    number: int,
    is_whole: Callable[[Params], bool],
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> float:
    """Wait until the trials before this one have their configurations.

    Args:
        study: The study.
        number: The number of the trial that needs a configuration.
        is_whole: Whether values are a whole configuration.
        clock: A monotonic clock, in seconds.
        pause: A function that waits for a number of seconds.

    Returns:
        The seconds spent waiting.
    """
    if isinstance(study._storage, InMemoryStorage):
        return 0.0  # no other process sees this study
    start, pause_s = clock(), FIRST_PAUSE_S
    while (waited_s := clock() - start) < PATIENCE_S and any(
        _is_awaited(trial, waited_s)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if trial.number < number and not is_chosen(trial, is_whole)
    ):
        pause(pause_s)
        pause_s = min(1.5 * pause_s, LAST_PAUSE_S)
    return waited_s


def is_chosen(trial: FrozenTrial, is_whole: Callable[[Params], bool]) -> bool:
    """Whether a trial has its whole configuration, chosen or enqueued.

    Args:
        trial: The trial.
        is_whole: Whether values are a whole configuration.
    """
    return is_whole({**_configuration(trial), **trial.params})


def is_to_run_once(trial: optuna.Trial | FrozenTrial) -> bool:
    """Whether the tuner may have enqueued a trial, for a configuration that shall not run twice."""
    return "warm_up" in trial.user_attrs or AGAIN in trial.user_attrs


def repeated(study: optuna.Study, number: int) -> int | None:
    """Find the trial that makes one needless which the tuner has enqueued.

    Drivers that start together all enqueue the same warm-up, which shall run only once; trials that
    were interrupted do not count, since their configurations run again. A configuration that was
    cut off and enqueued again need not run if it has been chosen since.

    Args:
        study: The study.
        number: The number of the trial that may repeat an earlier one.

    Returns:
        The number of the earlier trial; `None` if there is none, or if the user enqueued this one.
    """
    trials = study.get_trials(deepcopy=False)
    trial = trials[number]
    if not (is_to_run_once(trial) and "fixed_params" in trial.system_attrs):
        return None
    same = (
        earlier.number
        for earlier in trials[:number]
        if not is_interrupted(earlier)
        and _configuration(earlier) == _configuration(trial)
        and (
            "warm_up" in trial.user_attrs
            or (
                earlier.number > trial.user_attrs[AGAIN]
                and "fixed_params" not in earlier.system_attrs
            )
        )
    )
    return next(same, None)


def _configuration(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial was enqueued with, or else those chosen for it so far."""
    fixed: dict[str, Any] = trial.system_attrs.get("fixed_params", trial.params)
    return fixed


def _is_awaited(trial: FrozenTrial, waited_s: float) -> bool:
    """Whether a trial without a configuration can still be expected to get one."""
    process = trial.user_attrs.get("driver", trial.user_attrs.get(CHOOSER))
    if process is None:
        return waited_s < NAMELESS_PATIENCE_S
    return process != NOBODY and ProcessIdentity.parse(process).is_alive() is not False
