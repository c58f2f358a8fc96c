"""Drivers of one study choose one after another, so that each knows what the others run.

Two drivers that choose at the same moment see the same trials, and choose alike. The number of a
trial, which the storage gives out once, is the place in the queue: whoever has a larger one waits
until all before it have their configurations.
"""

import time
from collections.abc import Callable, Collection
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.history import is_interrupted
from eeipu.studies.study import is_dead

__all__ = ["await_turn", "is_chosen", "repeated"]

# A suggestion takes a second or two. A driver that takes longer than this may be gone, on a host
# where nobody can see it: to choose without its configuration is better than not to.
PATIENCE_S = 60.0

# A trial has no driver until it has said who runs it, at once. One that never says so belongs to
# somebody who asks and tells, and may have no configuration for long.
NAMELESS_PATIENCE_S = 1.0

# Between two looks, so that many drivers do not keep the database busy.
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
        number: The trial's that is to choose.
        names: The parameters of a whole configuration.
        clock: Seconds that only grow.
        pause: Waits so many seconds.

    Returns:
        The seconds it took.
    """
    if isinstance(study._storage, InMemoryStorage):
        return 0.0  # nobody else
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
    """Whether a trial's configuration is known."""
    return _configuration(trial).keys() >= set(names)


def repeated(study: optuna.Study, number: int) -> int | None:
    """The number of an earlier trial with the configuration that this trial was enqueued with.

    Several drivers that start together enqueue the same warm-up. Only what the tuner enqueued is
    looked at, and interrupted trials do not count: they are to run again.
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
    fixed: dict[str, Any] = trial.system_attrs.get("fixed_params", trial.params)
    return fixed


def _is_awaited(trial: FrozenTrial, waited_s: float) -> bool:
    driver = trial.user_attrs.get("driver")
    if driver is None:
        return waited_s < NAMELESS_PATIENCE_S
    return not is_dead(driver)
