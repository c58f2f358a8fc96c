"""The trials of a study that have not ended: which wait, which run, and who runs them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

__all__ = ["Unended", "UnendedCount"]


@dataclass(frozen=True)
class Unended:
    """What is known of the trials of a study that have not ended.

    Attributes:
        has_waiting: Whether one is enqueued.
        unchosen: Those that run, and have no whole configuration yet.
        drivers: The processes that run one, by their names; `None` for a trial that names none.
    """

    has_waiting: bool
    unchosen: tuple[FrozenTrial, ...]
    drivers: frozenset[str | None]


class UnendedCount:
    """Keeps count of the trials that have not ended, as they come and go."""

    def __init__(self) -> None:
        self._waiting: set[int] = set()  # places of the trials that are enqueued
        self._unchosen: set[int] = set()  # of those that run without a configuration so far
        self._drivers: Counter[str | None] = Counter()  # of those that run

    def add(self, place: int, trial: FrozenTrial, *, is_chosen: bool) -> None:
        """Count a trial.

        Args:
            place: Its place among all trials of the study.
            trial: The trial, which may have ended.
            is_chosen: Whether it has a whole configuration.
        """
        if trial.state is TrialState.WAITING:
            self._waiting.add(place)
        elif trial.state is TrialState.RUNNING:
            if not is_chosen:
                self._unchosen.add(place)
            self._drivers[_driver_of(trial)] += 1

    def remove(self, place: int, trial: FrozenTrial) -> None:
        """Take back a trial, as it was when it was added."""
        self._waiting.discard(place)
        self._unchosen.discard(place)
        if trial.state is TrialState.RUNNING:
            driver = _driver_of(trial)
            self._drivers[driver] -= 1
            if not self._drivers[driver]:
                del self._drivers[driver]

    def among(self, trials: Sequence[FrozenTrial]) -> Unended:
        """What is known of those that have not ended, given all trials of the study."""
        unchosen = tuple(trials[place] for place in sorted(self._unchosen))
        return Unended(bool(self._waiting), unchosen, frozenset(self._drivers))


def _driver_of(trial: FrozenTrial) -> str | None:
    name: str | None = trial.user_attrs.get("driver")
    return name
