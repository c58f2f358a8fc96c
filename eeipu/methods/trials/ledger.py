"""What is remembered of the trials of a study, so that each is looked at once."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from eeipu.methods.budget import spent
from eeipu.methods.trials.ended_arrays import EndedArrays, identity
from eeipu.methods.trials.following import ExactSum, changed_places
from eeipu.methods.trials.unended import Unended, UnendedCount
from eeipu.pipeline import Pipeline

__all__ = ["CHANGES", "Ledger", "SortedTrials", "is_interrupted"]

# The study's user attribute with what its trials lack since its pipeline has changed: "defaults",
# values of parameters that came later; "removed", parameters that are gone, with the values that
# they have now; "stages", pairs of a number and the names of the stages of trials before it.
CHANGES = "eeipu:changes"


def is_interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial was cut off by the user or by the end of its driver, not by an error."""
    attrs = trial.user_attrs
    cut_off = "interrupted" in attrs or ("driver" in attrs and "error" not in attrs)
    return trial.state is TrialState.FAIL and cut_off


@dataclass
class SortedTrials:
    """Trials of a study, by what became of them.

    Attributes:
        ended: Those that succeeded, failed or were pruned, by number.
        waiting: Those that are enqueued with a whole configuration, and that nobody has begun.
        running: Those that have a configuration but no result yet.
        interrupted: Those that were cut off.
        left_out: Those that ended and have no configuration of the pipeline, with the reason.
    """

    ended: list[FrozenTrial] = field(default_factory=list)
    waiting: list[FrozenTrial] = field(default_factory=list)
    running: list[FrozenTrial] = field(default_factory=list)
    interrupted: list[FrozenTrial] = field(default_factory=list)
    left_out: list[tuple[FrozenTrial, str]] = field(default_factory=list)


@dataclass
class _Entry:
    """What the ledger knows of one trial.

    Attributes:
        seen: The trial as the study has it; storages hand out the same object until it changes.
        fitted: The trial with its whole configuration.
        kind: The name of the list that has it (`SortedTrials`); empty: none.
        why: Why it has no configuration of the pipeline, if it has none.
        charge: What the budget has paid for it.
    """

    seen: FrozenTrial
    fitted: FrozenTrial
    kind: str
    why: str | None
    charge: float


class Ledger:
    """The trials of a study, each looked at once after every change, however often they are read.

    A storage hands out the same object for a trial until the trial changes. A reading therefore
    takes time in proportion to what has changed since the last one, but for comparing the objects.

    Args:
        pipeline: The pipeline that the study tunes.

    Attributes:
        lock: To hold while the ledger is read: a trial may be chosen on one thread while another
            adds up what is spent.
        arrays: The trials that have ended as numbers.
        sorted: The trials as they were last read, by what became of them.
        failures: How many of those that ended have failed.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.lock = RLock()
        self._study_id: str | None = None
        self._changes: Mapping[str, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._trials: list[FrozenTrial] = []
        self._read: Sequence[FrozenTrial] = self._trials
        self._entries: list[_Entry] = []
        self._unended = UnendedCount()
        self.sorted = SortedTrials()
        self.failures = 0
        self._ended: tuple[FrozenTrial, ...] = ()
        self._running: tuple[FrozenTrial, ...] = ()
        self._charged = ExactSum()
        self._configurations: Counter[tuple[float, ...]] = Counter()
        self.arrays = EndedArrays(self.pipeline, self.sorted.ended, self.lock)

    def read(
        self, trials: Sequence[FrozenTrial], study_id: str | None, changes: Mapping[str, Any]
    ) -> None:
        """Take in what has changed. Call it while holding the lock.

        Args:
            trials: All trials of the study.
            study_id: The study's own name, where it has one.
            changes: What has changed since the first trials; see `CHANGES`.
        """
        if (study_id, changes) != (self._study_id, self._changes):
            self._forget()
            self._study_id, self._changes = study_id, changes
        places = () if trials is self._read else changed_places(self._trials, trials)
        self._read = trials
        for place in reversed(range(len(trials), len(self._trials))):
            self._remove(place)
            self._entries.pop()
        for place in places:
            self._take_in(place, trials[place])
        if places or len(trials) != len(self._trials):
            self._trials = [*trials]
            self._ended = tuple(self.sorted.ended)
            self._running = tuple(self.sorted.running)

    def _take_in(self, place: int, trial: FrozenTrial) -> None:
        """Take in a trial that is new or has changed."""
        state = trial.state
        fitted, why = self._fitted(place, trial)
        if why is not None:
            is_told = state in (TrialState.COMPLETE, TrialState.PRUNED)
            kind = "left_out" if is_told else ""
        elif state is TrialState.WAITING:
            kind = "waiting"
        elif state is TrialState.RUNNING:
            kind = "running"
        else:
            kind = "interrupted" if is_interrupted(trial) else "ended"
        entry = _Entry(trial, fitted, kind, why, spent((trial,), self._study_id))
        if place == len(self._entries):
            self._entries.append(entry)
        elif self._replaced(place, entry):
            return
        else:
            self._remove(place)
            self._entries[place] = entry
        self._insert(place, entry)

    def _fitted(self, place: int, trial: FrozenTrial) -> tuple[FrozenTrial, str | None]:
        """A trial with a whole configuration, or why it has none; known where it has the same."""
        before = self._entries[place] if place < len(self._entries) else None
        if (
            before is not None
            and before.fitted is before.seen
            and before.seen.params is trial.params
            and before.seen.distributions is trial.distributions
        ):
            return trial, before.why
        return _fitted(trial, self.pipeline, self._changes)

    def _replaced(self, place: int, entry: _Entry) -> bool:
        """Put a trial in the place of the same one, where it has not moved; else return False."""
        before = self._entries[place]
        is_same = entry.kind == before.kind in ("running", "ended")
        if not is_same or entry.fitted.params != before.fitted.params:
            return False
        self._unended.remove(place, before.seen)
        self._unended.add(place, entry.seen, is_chosen=bool(entry.kind))
        found = getattr(self.sorted, entry.kind)
        at = _place(found, entry.fitted.number)
        found[at] = entry.fitted
        if entry.kind == "ended":
            self.failures += _has_failed(entry) - _has_failed(before)
            self.arrays.forget_values(at)
        self._charged.add(entry.charge)
        self._charged.add(before.charge, -1)
        self._entries[place] = entry
        return True

    def _remove(self, place: int) -> None:
        entry = self._entries[place]
        self._unended.remove(place, entry.seen)
        self._charged.add(entry.charge, -1)
        if not entry.kind:
            return
        found = getattr(self.sorted, entry.kind)
        at = _place(found, entry.fitted.number)
        del found[at]
        if entry.kind == "ended":
            self.arrays.forget(at)
            self.failures -= _has_failed(entry)
        if entry.kind in ("ended", "running"):
            key = identity(entry.fitted.params, self.pipeline)
            self._configurations[key] -= 1
            if not self._configurations[key]:
                del self._configurations[key]

    def _insert(self, place: int, entry: _Entry) -> None:
        self._unended.add(place, entry.seen, is_chosen=bool(entry.kind))
        self._charged.add(entry.charge)
        if not entry.kind:
            return
        found = getattr(self.sorted, entry.kind)
        at = _place(found, entry.fitted.number)
        found.insert(at, entry.fitted if entry.kind != "left_out" else (entry.fitted, entry.why))
        if entry.kind == "ended":
            self.arrays.forget(at)
            self.failures += _has_failed(entry)
        if entry.kind in ("ended", "running"):
            self._configurations[identity(entry.fitted.params, self.pipeline)] += 1

    @property
    def ended(self) -> tuple[FrozenTrial, ...]:
        """The trials that have ended; the same object until one of any kind changes."""
        return self._ended

    @property
    def running(self) -> tuple[FrozenTrial, ...]:
        """The trials that run; the same object until one of any kind changes."""
        return self._running

    @property
    def spent(self) -> float:
        """What was charged for all trials."""
        return self._charged.value

    def has(self, configuration: tuple[float, ...]) -> bool:
        """Whether a configuration, as `identity` gives it, has run or is running."""
        return configuration in self._configurations

    def unended(self, trials: Sequence[FrozenTrial]) -> Unended:
        """What is known of those that have not ended, given all trials of the study."""
        with self.lock:
            self.read(trials, self._study_id, self._changes)
            return self._unended.among(trials)


def _has_failed(entry: _Entry) -> bool:
    return entry.kind == "ended" and entry.seen.state is TrialState.FAIL


def _place(trials: Sequence[Any], number: int) -> int:
    """The place of a number in a list of trials, or of pairs that begin with a trial."""
    last = trials[-1] if trials else None
    if last is None or _number(last) < number:  # as nearly always
        return len(trials)
    return bisect_left(trials, number, key=_number)


def _number(entry: FrozenTrial | tuple[FrozenTrial, str]) -> int:
    return entry[0].number if isinstance(entry, tuple) else entry.number


def _has_space(trial: FrozenTrial, pipeline: Pipeline) -> bool:
    """Whether a trial's distributions are those of a pipeline."""
    own, space = trial.distributions, pipeline.space
    are_same = len(own) == len(space) and all(own.get(name) is space[name] for name in space)
    return are_same or own == space  # which looks at each choice, and takes a while


def _fitted(
    trial: FrozenTrial, pipeline: Pipeline, changes: Mapping[str, Any]
) -> tuple[FrozenTrial, str | None]:
    """A trial with a whole configuration of a pipeline, or why it has none.

    What a trial was enqueued with is its configuration before it has begun, and until its driver
    has written the last of its parameters.

    Args:
        trial: The trial.
        pipeline: The pipeline.
        changes: What has changed since; see `CHANGES`.
    """
    if not trial.state.is_finished() and "fixed_params" in trial.system_attrs:
        trial = copy(trial)
        trial.params = {**trial.system_attrs["fixed_params"], **trial.params}
    params = trial.params
    for name, values in changes.get("removed", {}).items():
        if name in params and params[name] not in values:
            return trial, f"{name} is gone"
    defaults = changes.get("defaults", {})
    if defaults and not defaults.keys() <= params.keys():
        trial = copy(trial)
        trial.params = {**defaults, **params}
    elif _has_space(trial, pipeline) and not pipeline.cube.constraints:
        return trial, None  # which is quickly seen, and nearly always so
    why = pipeline.cube.misfit(trial.params)
    if why is None and pipeline.cube.conditions:
        trial = copy(trial)
        trial.params = pipeline.cube.settled(trial.params)
    return trial, why
