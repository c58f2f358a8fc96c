"""The trials that were suspended after a stage, as the search sees them."""

from bisect import bisect_left
from collections.abc import Mapping
from copy import copy
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.history import History
from eeipu.methods.trials.ended_arrays import identity
from eeipu.methods.trials.ledger import SUSPENDED

__all__ = ["as_if_suspended", "most_promising"]

# The kept outputs of so many suspended trials are offered beside those of the best trials.
OFFERED = 5


def most_promising(history: History) -> tuple[FrozenTrial, ...]:
    """The suspended trials from whose outputs the best values are expected, best first.

    A configuration counts once, as it was suspended last, and not at all once it has run or runs.

    Args:
        history: The trials so far.
    """
    suspended = [trial for trial in history.suspended if "expected" in trial.user_attrs[SUSPENDED]]
    if not suspended:
        return ()
    last = {identity(trial.params, history.pipeline): trial for trial in suspended}
    begun = history.configurations.begun
    found = [trial for key, trial in last.items() if key not in begun]

    def expected(trial: FrozenTrial) -> float:
        return history.sign * float(trial.user_attrs[SUSPENDED]["expected"])

    return tuple(sorted(found, key=expected, reverse=True)[:OFFERED])


def as_if_suspended(
    history: History, trial: FrozenTrial, observations: Mapping[str, float]
) -> History:
    """The history as it would be if a running trial was suspended now.

    Args:
        history: The trials so far.
        trial: One of those that run.
        observations: What its stages have shown, by flat names.
    """
    stopped = copy(trial)
    stopped.state = TrialState.PRUNED
    stopped.user_attrs = {**trial.user_attrs, "observations": {**observations}, SUSPENDED: {}}
    place = bisect_left([each.number for each in history.ended], trial.number)
    ended = (*history.ended[:place], stopped, *history.ended[place:])
    running = tuple(each for each in history.running if each.number != trial.number)
    return replace(history, ended=ended, running=running)
