"""What a display says of all trials of a study together, kept from change to change."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.budget import spent
from eeipu.methods.trials.following import ExactSum, changed_places
from eeipu.methods.trials.ledger import is_interrupted

__all__ = ["Tally"]


class Tally:
    """How many trials there are of each kind, the best value, and what was spent.

    Args:
        study_id: The study's own name.
        better: The better of two values, `max` or `min`.

    Attributes:
        best_value: The best value of a trial that has come to its end, within all limits; of
            several objectives it is that of the first. `None`: there is none.
    """

    def __init__(self, study_id: str, better: Callable[[float, float], float]) -> None:
        self.best_value: float | None = None
        self._study_id, self._better = study_id, better
        self._trials: list[FrozenTrial] = []
        self._notes: list[tuple[str, float, float]] = []  # kind, charge, seconds of choosing
        self._kinds: Counter[str] = Counter()
        self._spent, self._choosing_s = ExactSum(), ExactSum()
        self._own: set[int] = set()

    def add_own(self, number: int) -> None:
        """Take note that this run has worked on a trial."""
        if number not in self._own:
            self._own.add(number)
            if number < len(self._notes):
                self._choosing_s.add(self._notes[number][2])

    def look(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in what has changed, of all trials of the study."""
        for place in changed_places(self._trials, trials):
            if place < len(self._notes):
                self._count(place, -1)
            trial = trials[place]
            note = _kind(trial), spent((trial,), self._study_id), _suggest_s(trial)
            self._notes[place : place + 1] = [note]
            self._count(place, +1)
            self._compare(trial)
        self._trials = [*trials]

    def _count(self, place: int, by: int) -> None:
        kind, charge, suggest_s = self._notes[place]
        self._kinds[kind] += by
        self._spent.add(charge, by)
        if place in self._own:
            self._choosing_s.add(suggest_s, by)

    def _compare(self, trial: FrozenTrial) -> None:
        is_within = all(violation <= 0 for violation in trial.constraints.values())
        if trial.state is TrialState.COMPLETE and is_within and not math.isnan(trial.values[0]):
            value, best = trial.values[0], self.best_value
            self.best_value = value if best is None else self._better(best, value)

    @property
    def succeeded(self) -> int:
        """How many trials have a value of their ends."""
        return self._kinds["succeeded"]

    @property
    def stopped(self) -> int:
        """How many were pruned, or pause before their ends."""
        return self._kinds["stopped"]

    @property
    def failed(self) -> int:
        """How many have failed."""
        return self._kinds["failed"]

    @property
    def spent(self) -> float:
        """What the budget has paid for all of them."""
        return self._spent.value

    @property
    def choosing_s(self) -> float:
        """How long the search took to choose the configurations of this run."""
        return self._choosing_s.value

    def charged(self, number: int) -> float:
        """What the budget has paid for one of them; nothing for one that is not there yet."""
        return math.fsum(charge for _, charge, _ in self._notes[number : number + 1])


def _kind(trial: FrozenTrial) -> str:
    if trial.state is TrialState.COMPLETE:
        return "succeeded"
    if trial.state is TrialState.PRUNED:
        return "stopped"
    return "failed" if trial.state is TrialState.FAIL and not is_interrupted(trial) else ""


def _suggest_s(trial: FrozenTrial) -> float:
    return trial.user_attrs.get("suggest_s") or 0.0
