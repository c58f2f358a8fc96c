"""The trials of a study that other processes train, for rules that compare all with each other."""

import math
from collections.abc import Callable, Collection

from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from eeipu.algorithms.moves import OtherTrial
from eeipu.caching.leases.processes import ProcessIdentity
from eeipu.methods.trials.following import changed_places
from eeipu.methods.trials.ledger import is_interrupted
from eeipu.space import Params

__all__ = ["OtherTrials"]


class OtherTrials:
    """Follows the trials that other processes have begun, by way of the study's storage.

    A trial that was cut off is not one of them: it begins again, and then counts once. One that
    goes on under a new number counts under that. A failure from before, without a value, is not
    compared with anything either: its cause may be mended since.

    Args:
        study: The study.
        own: The numbers of the trials of earlier runs that this process has taken up.
        is_whole: Whether parameters are a configuration of the pipeline that is tuned.
    """

    def __init__(
        self, study: Study, own: Collection[int], is_whole: Callable[[Params], bool]
    ) -> None:
        self._study = study
        self._own, self._driver = frozenset(own), str(ProcessIdentity.here())
        self._is_whole = is_whole
        self._sign = -1.0 if study.direction is StudyDirection.MINIMIZE else 1.0
        self._seen: list[FrozenTrial] = []
        self._known: dict[int, OtherTrial] = {}
        self._gone_on: dict[int, set[int]] = {}  # to which numbers, that were not cut off
        failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        self._failed_before = {trial.number for trial in failed if not trial.intermediate_values}

    def __call__(self) -> list[tuple[OtherTrial | None, OtherTrial | None]]:
        """What has changed since the last call; see `eeipu.algorithms.moves.News`."""
        if isinstance(self._study._storage, InMemoryStorage):
            return []
        trials = self._study.get_trials(deepcopy=False)
        changed = set(changed_places(self._seen, trials))
        self._seen = trials
        for trial in [trials[number] for number in changed]:
            before = trial.user_attrs.get("goes_on_from")
            if before is not None:
                numbers = self._gone_on.setdefault(before, set())
                (numbers.discard if is_interrupted(trial) else numbers.add)(trial.number)
                changed.add(before)
        news = []
        for number in sorted(changed):
            known, now = self._known.get(number), self._now(trials[number])
            if known != now:
                news.append((known, now))
            if now is None:
                self._known.pop(number, None)
            else:
                self._known[number] = now
        return news

    def _now(self, trial: FrozenTrial) -> OtherTrial | None:
        """A trial as it is now; `None` where it is no other process's, or counts no more."""
        is_own = trial.number in self._own or trial.user_attrs.get("driver") == self._driver
        if is_own or self._gone_on.get(trial.number) or is_interrupted(trial):
            return None
        if trial.number in self._failed_before or not self._is_whole(trial.params):
            return None
        has_failed = trial.state is TrialState.FAIL or "error" in trial.user_attrs
        curve = {
            step: self._sign * value
            for step, value in trial.intermediate_values.items()
            if math.isfinite(value)
        }
        if not curve and not has_failed:
            return None
        has_ended = trial.state.is_finished()
        return OtherTrial(trial.number, dict(trial.params), curve, has_ended, has_failed)
