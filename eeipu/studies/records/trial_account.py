"""What a trial has cost, as it is written into the study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import optuna

from eeipu.pipeline import PipelineRun, record_run
from eeipu.stages.running.calls import StageCall
from eeipu.stages.running.trial_notes import TrialNotes, flat_notes

__all__ = ["TrialAccount"]


@dataclass(eq=False)
class TrialAccount:
    """What the budget pays for a trial beside its calls, and what was run for it.

    Attributes:
        trial: The trial in the study.
        overhead: What the budget pays for the choice of its configuration.
        lost_cost: What was spent on calls that returned nothing. It is charged to the next call
            that ends.
        ran: The calls that workers ran, each with the times of the pool's clock when it was given
            to a worker and when it ended.
    """

    trial: optuna.Trial
    overhead: float = 0.0
    lost_cost: float = 0.0
    ran: list[tuple[str, float, float]] = field(default_factory=list)

    def note_progress(self, notes: TrialNotes, so_far: PipelineRun) -> None:
        """Note what the trial has cost and shown so far.

        If this process dies, the budget still pays for it.

        Args:
            notes: Are written into the trial.
            so_far: The results of the stages that the trial has run or reused so far.
        """
        notes.set_user_attr("stage_costs", so_far.stage_costs)
        notes.set_user_attr("memoized", so_far.memoized)
        if so_far.observations:
            notes.set_user_attr("observations", so_far.observations)
        self._note_charge(notes, so_far)

    def write_result(self, calls: Sequence[StageCall], result: PipelineRun, epoch_s: float) -> None:
        """Write all that is known of a trial that has ended into the study, but for its value.

        Args:
            calls: Its stage calls.
            result: The results of its stages.
            epoch_s: The time of the system's clock when the pool's clock was at zero.
        """
        notes = TrialNotes(self.trial)
        record_run(notes, calls, result)
        self._note_charge(notes, result)
        notes.set_user_attr("load_s", result.load_s)
        notes.set_user_attr("keep_s", result.keep_s)
        names, metrics = result.stage_names, result.metrics
        flat = flat_notes(names, result.stage_costs, result.reused, metrics)
        for name, value in flat.items():
            notes.set_user_attr(name, value)
        times = [(name, round(a + epoch_s, 3), round(b + epoch_s, 3)) for name, a, b in self.ran]
        notes.set_user_attr("ran", times)
        notes.write()

    def _note_charge(self, notes: TrialNotes, so_far: PipelineRun) -> None:
        """Note what the budget pays for the trial."""
        paid = math.fsum([so_far.charged, self.lost_cost, self.overhead])
        notes.set_user_attr("charged", paid)
