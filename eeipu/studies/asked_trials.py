"""The trials of a tuner whose stages the caller runs."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import optuna

from eeipu.methods.budget import Budget
from eeipu.stages.code_changes import refresh_code
from eeipu.stages.running.trial_notes import TrialNotes
from eeipu.studies.given.ask_and_tell import Suggestion, note_suggestion, outcome_of, trial_told
from eeipu.studies.given.reported_values import Reported
from eeipu.studies.storages import using_storage
from eeipu.studies.trials import Trials, is_enqueued

__all__ = ["AskedTrials"]


class AskedTrials:
    """Begins trials for a caller, and ends them as the caller says.

    Args:
        trials: The trials of the study.
        budget: What all of them may cost together.
        keeps_best: Whether the caller keeps the outputs of the best trials.
    """

    def __init__(self, trials: Trials, budget: Budget, *, keeps_best: bool) -> None:
        self._trials = trials
        self._budget = budget
        self._keeps_best = keeps_best
        self._asked: dict[int, optuna.Trial] = {}

    def ask(self) -> Suggestion:
        """Begin a trial; see `Tuner.ask`."""
        refresh_code(self._trials.pipeline.stages)
        with using_storage():
            trial, params, _ = self._trials.begin_for_caller(
                keeps_best=self._keeps_best, note_more=self._note_suggestion
            )
        self._asked[trial.number] = trial
        return Suggestion(trial.number, params, tuple(trial.user_attrs["memoized"]))

    def _note_suggestion(
        self,
        notes: TrialNotes,
        trial: optuna.Trial,
        params: dict[str, Any],
        kept: Container[str] | None,
    ) -> None:
        """Note what is suggested, and what the budget pays for that."""
        note_suggestion(notes, params, self._trials.pipeline, kept)
        overhead = self._budget.overhead
        if overhead and not is_enqueued(trial):
            notes.set_user_attr("overhead", overhead)
            notes.set_user_attr("charged", overhead)

    def tell(
        self,
        suggestion: Suggestion,
        value: Reported | None,
        *,
        stage_costs: Sequence[float | None] | None,
        failed: bool,
        pruned: bool,
        observations: Mapping[str, Any] | None,
    ) -> None:
        """End a trial; see `Tuner.tell`."""
        pipeline = self._trials.pipeline
        with using_storage():
            trial = trial_told(self._trials.study, suggestion, self._asked)
            outcome = outcome_of(
                suggestion,
                trial,
                pipeline,
                value=value,
                stage_costs=stage_costs,
                failed=failed,
                pruned=pruned,
                observations=observations or {},
            )
            outcome.write(trial, pipeline.stage_names)
            self._asked.pop(suggestion.number, None)
            values = None if outcome.is_pruned else outcome.values
            self._trials.end(trial, values, is_pruned=outcome.is_pruned)
