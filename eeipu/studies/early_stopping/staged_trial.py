"""One trial that is trained in stretches: its values, and what it has paid."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from eeipu.stage_tree.payments import Purpose
from eeipu.stages.running.trial_notes import TrialNotes
from eeipu.studies.early_stopping.common_step import COSTS_BY_STEP, KEYS_BY_STEP

__all__ = ["StagedTrial"]

# User attributes of a trial with the parts of what it has paid that are not a first run.
_TOLD_APART = {
    "load_s": Purpose.TRANSFERS,
    "lost_s": Purpose.LOSSES,
    "repeated_s": Purpose.REPEATS,
}


@dataclass(eq=False)
class StagedTrial:
    """A trial, and how far it is.

    Attributes:
        trial: The trial in the study.
        params: Its configuration.
        curve: Step -> value, as evaluated.
        costs: The same for what the stages have cost up to there, by the step as text.
        keys: The same for the content keys of the stages' outputs.
        overhead: What the budget pays for the choice of the configuration.
        paid_s: What it has paid in this run, by stage and purpose.
        told_before: The parts of what it has paid in earlier runs; see `told_apart`.
        ran: The calls that were run for it, with the times of the system's clock.
        is_open: Whether the study has it as running: it may be trained further.
        runs: Whether a call of it runs, or has run since it reached a value.
        has_failed: Whether a stage has failed or pruned it; it gives no further value.
        has_died: Whether its process has died since it reached a value.
    """

    trial: optuna.Trial
    params: Mapping[str, Any]
    curve: dict[int, float] = field(default_factory=dict)
    costs: dict[str, list[float | None]] = field(default_factory=dict)
    keys: dict[str, list[str | None]] = field(default_factory=dict)
    overhead: float = 0.0
    paid_s: dict[tuple[str, Purpose], float] = field(default_factory=lambda: defaultdict(float))
    told_before: dict[str, float] = field(default_factory=dict)
    ran: list[tuple[str, float, float]] = field(default_factory=list)
    is_open: bool = True
    runs: bool = False
    has_failed: bool = False
    has_died: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_died = bool(self.trial.user_attrs.get("deaths"))

    @classmethod
    def of(cls, mine: optuna.Trial, trial: FrozenTrial, space: Mapping[str, Any]) -> "StagedTrial":
        """A trial that an earlier run has begun, with what it has reached.

        Args:
            mine: The trial, to be written.
            trial: The same as the study has it.
            space: The pipeline's space.
        """
        params = {name: trial.params[name] for name in space if name in trial.params}
        known = cls(mine, params, dict(trial.intermediate_values))
        known.ran = list(trial.user_attrs.get("ran", ()))
        known.costs = dict(trial.user_attrs.get(COSTS_BY_STEP, {}))
        known.keys = dict(trial.user_attrs.get(KEYS_BY_STEP, {}))
        known.has_failed = trial.state is TrialState.FAIL or "error" in trial.user_attrs
        known.overhead = trial.user_attrs.get("charged") or 0.0  # all that was paid before
        known.told_before = {name: trial.user_attrs.get(name, 0.0) for name in _TOLD_APART}
        known.is_open = trial.state is TrialState.RUNNING
        return known

    @property
    def number(self) -> int:
        """The trial's number in the study."""
        return self.trial.number

    def paid_for(self, stage: str) -> float:
        """What it has paid for a stage."""
        return math.fsum(s for (name, _), s in self.paid_s.items() if name == stage)

    def has_run(self, stage: str) -> bool:
        """Whether a call of a stage was run for it."""
        return any((stage, purpose) in self.paid_s for purpose in (Purpose.RUNS, Purpose.REPEATS))

    @property
    def told_apart(self) -> dict[str, float]:
        """User attribute -> the part of `charged` that it tells apart, also of earlier runs."""
        told = {}
        for name, purpose in _TOLD_APART.items():
            now = (s for (_, each), s in self.paid_s.items() if each is purpose)
            told[name] = math.fsum([self.told_before.get(name, 0.0), *now])
        return told

    @property
    def charged(self) -> float:
        """All that the budget has paid for it."""
        return math.fsum([self.overhead, *self.paid_s.values()])

    def note_account(self, notes: TrialNotes) -> None:
        """Note what it has paid."""
        for name, seconds in {"charged": self.charged, **self.told_apart}.items():
            notes.set_user_attr(name, seconds)
