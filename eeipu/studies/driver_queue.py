"""The queue in which the drivers of one study choose configurations, one driver at a time.

Two drivers that choose at the same moment see the same trials and choose the same configuration.
The number of a trial, which the storage gives out only once, is its place in the queue: a driver
waits until all trials with smaller numbers have their configurations.
"""

import time
from collections.abc import Callable, Collection
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.methods.ledger import is_interrupted

__all__ = ["await_turn", "is_chosen", "repeated"]

# A suggestion takes a second or two. A driver that takes longer than this may have died on another
# host, where this cannot be seen. To choose without knowing its configuration is then better than
# to wait for ever.
PATIENCE_S = 60.0

# A driver writes its name into a trial immediately after it has begun it. A trial that still has no
# driver belongs to a user who asks and tells, and may remain without a configuration for long.
NAMELESS_PATIENCE_S = 1.0

# The pause between two looks at the study grows, so that drivers do not keep the database busy.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.5


def await_turn(
    study: optuna.Study,
    number: int,
    names: Collection[str],
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> float:
    """Wait until the trials before this one have their configurations.

    Args:
        study: The study.
        number: The number of the trial that needs a configuration.
        names: The names of all parameters of a configuration.
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
        if trial.number < number and not is_chosen(trial, names)
    ):
        pause(pause_s)
        pause_s = min(1.5 * pause_s, LAST_PAUSE_S)
    return waited_s


def is_chosen(trial: FrozenTrial, names: Collection[str]) -> bool:
    """Whether a trial has its whole configuration, chosen or enqueued.

    Args:
        trial: The trial.
        names: The names of all parameters of a configuration.
    """
    return {*_configuration(trial), *trial.params} >= set(names)


def repeated(study: optuna.Study, number: int) -> int | None:
    """Find an earlier trial with the same configuration as a trial that the tuner enqueued.

    Drivers that start together all enqueue the same warm-up, which shall run only once. Trials that
    were interrupted do not count, since their configurations run again.

    Args:
        study: The study.
        number: The number of the trial that may repeat an earlier one.

    Returns:
        The number of the earlier trial; `None` if there is none, or if the user enqueued this one.
    """
    trials = study.get_trials(deepcopy=False)
    trial = trials[number]
    if not (trial.user_attrs.get("warm_up") and "fixed_params" in trial.system_attrs):
        return None
    same = (
        earlier.number
        for earlier in trials[:number]
        if not is_interrupted(earlier) and _configuration(earlier) == _configuration(trial)
    )
    return next(same, None)


def _configuration(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial was enqueued with, or else those chosen for it so far."""
    fixed: dict[str, Any] = trial.system_attrs.get("fixed_params", trial.params)
    return fixed


def _is_awaited(trial: FrozenTrial, waited_s: float) -> bool:
    """Whether a trial without a configuration can still be expected to get one."""
    driver = trial.user_attrs.get("driver")
    if driver is None:
        return waited_s < NAMELESS_PATIENCE_S
    return ProcessIdentity.parse(driver).is_alive() is not False
