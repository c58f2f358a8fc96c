"""A study as plain rows, read from its storage alone: the code of its pipeline is not needed.

Everything is known by the names of stages. A trial whose stages are unknown, because it was made
outside of this library, has rows without stages.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from eeipu.errors import ConfigurationError, EeipuError
from eeipu.methods.budget import STUDY_ID, spent
from eeipu.methods.history import History
from eeipu.methods.several_objectives.fronts import best_first
from eeipu.methods.trials.ledger import CHANGES, is_interrupted
from eeipu.pipeline import Pipeline
from eeipu.studies.records.told_pipeline import SPACE, told_pipeline

if TYPE_CHECKING:
    from eeipu.methods.search_models import SearchModels

__all__ = ["LIMITS", "STATES", "StudyLike", "StudyRecord", "TrialRecord"]

# The study's user attribute with its constraints on outcomes: pairs of a name and a text.
LIMITS = "eeipu:limits"

# What becomes of a trial. An interrupted one was cut off, and its configuration runs again.
STATES = ("complete", "pruned", "failed", "interrupted", "running", "waiting")

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

# Models of fewer values say more about their priors.
LEAST_VALUES = 5


@dataclass(frozen=True)
class TrialRecord:
    """A trial, with what is known of its stages by their names.

    Attributes:
        trial: The trial in the study.
        stage_names: The names of its stages.
    """

    trial: FrozenTrial
    stage_names: tuple[str, ...]

    @property
    def number(self) -> int:
        """Its number in the study."""
        return self.trial.number

    @property
    def state(self) -> str:
        """What became of it; see `STATES`."""
        return "interrupted" if is_interrupted(self.trial) else _STATES[self.trial.state]

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, well or not."""
        return self.trial.state.is_finished()

    @property
    def values(self) -> tuple[float, ...]:
        """The objectives, where it succeeded."""
        return tuple(self.trial.values) if self.trial.state is TrialState.COMPLETE else ()

    @property
    def value(self) -> float | None:
        """The objective, where it succeeded, and there is only one."""
        return self.values[0] if len(self.values) == 1 else None

    @property
    def beyond(self) -> dict[str, float]:
        """How far it is beyond limits, by the constraints that it does not keep."""
        return {text: by for text, by in self.trial.constraints.items() if by > 0}

    @property
    def asked_s(self) -> float | None:
        """When the choice of its configuration began, in seconds since 1970."""
        asked_at, began = self.attr("asked_at"), self.trial.datetime_start
        if asked_at is None and began is not None:
            return began.timestamp()
        return None if asked_at is None else float(asked_at)

    @property
    def charged(self) -> float:
        """What the budget paid for it."""
        return float(self.attr("charged") or 0.0)

    @property
    def costs(self) -> dict[str, float]:
        """The cost of each stage that was executed."""
        return {name: cost for name, cost in self._noted("stage_costs").items() if cost is not None}

    @property
    def reused(self) -> tuple[str, ...]:
        """The stages whose output was reused."""
        left_out = {name for name, key in self.keys.items() if key is None}
        found = self._noted("memoized").items()
        return tuple(name for name, is_free in found if is_free and name not in left_out)

    @property
    def keys(self) -> dict[str, str | None]:
        """The content key of each stage call; `None` for a stage that it left out."""
        return self._noted("stage_keys")

    @property
    def error(self) -> str | None:
        """The traceback, where it failed."""
        error = self.attr("error")
        return None if error is None else str(error)

    @property
    def chosen_by(self) -> str | None:
        """Who chose its configuration: `"models"`, `"warm-up"`, `"random"` or `"enqueued"`."""
        if "fixed_params" in self.trial.system_attrs:
            return "enqueued"
        by = (self.attr("chosen") or {}).get("by")
        return None if by is None else str(by)

    def attr(self, name: str, default: Any = None) -> Any:
        """One of its user attributes."""
        return self.trial.user_attrs.get(name, default)

    def _noted(self, attr: str) -> dict[str, Any]:
        noted = self.attr(attr) or ()
        return dict(zip(self.stage_names, noted, strict=False))


StudyLike = Union[optuna.Study, "StudyRecord"]


# More than 15 methods, because each is one fact of a study that reads alone: reports and commands
# know no names of user attributes but through these.
@dataclass(frozen=True)
class StudyRecord:
    """A study, read once.

    Attributes:
        study: The study.
        trials: All of its trials, by number.
    """

    study: optuna.Study
    trials: tuple[TrialRecord, ...]

    @classmethod
    def of(cls, study: StudyLike) -> "StudyRecord":
        """Read a study; a record is returned as it is."""
        if isinstance(study, StudyRecord):
            return study
        trials, told = study.get_trials(deepcopy=False), study.user_attrs
        names = tuple(told.get(SPACE) or ())
        earlier = told.get(CHANGES, {}).get("stages", ())
        records = []
        for trial in trials:
            then = next((tuple(s) for end, s in earlier if trial.number < end), names)
            records.append(TrialRecord(trial, then or _guessed_stages(trial)))
        return cls(study, tuple(records))

    @property
    def name(self) -> str:
        """The name of the study."""
        return str(self.study.study_name)

    @cached_property
    def told(self) -> Mapping[str, Any]:
        """The study's user attributes."""
        attrs: Mapping[str, Any] = self.study.user_attrs
        return attrs

    @property
    def is_minimized(self) -> bool:
        """Whether smaller objectives are better."""
        return self.study.directions[0] is StudyDirection.MINIMIZE

    @property
    def has_several_objectives(self) -> bool:
        """Whether there are several objectives, so that no trial is the best one."""
        return len(self.study.directions) > 1

    @property
    def objective(self) -> str:
        """The name of the objective: a metric's, or `"value"`; of several, their names."""
        return ", ".join(self.objectives)

    @property
    def objectives(self) -> list[str]:
        """The names of the objectives."""
        named = self.told.get("eeipu:objective") or ()
        count = len(self.study.directions)
        if count == 1:
            return [str(next(iter(named), None) or "value")]
        return [str(name) for name in named] or [f"value {k + 1}" for k in range(count)]

    @property
    def aims(self) -> list[str]:
        """What it is for, such as `["maximize auc", "memory_mb <= 500"]`."""
        pairs = zip(self.study.directions, self.objectives, strict=True)
        limits = [str(text) for _, text in self.told.get(LIMITS) or ()]
        return [f"{direction.name.lower()} {name}" for direction, name in pairs] + limits

    @property
    def is_measured(self) -> bool:
        """Whether costs are measured seconds."""
        return bool(self.told.get("eeipu:unit", "seconds") == "seconds")

    @property
    def unit(self) -> str:
        """The text after an amount of cost: `" s"`, or nothing where stages declare their costs."""
        return " s" if self.is_measured else ""

    @property
    def budget(self) -> float | None:
        """What all trials may cost together; `None` where nothing limits it, or it is unknown."""
        budget = (self.told.get("eeipu:tuner") or {}).get("budget")
        return None if budget is None else float(budget)

    @property
    def spent(self) -> float:
        """What the budget has paid so far, also for trials that still run."""
        return spent((each.trial for each in self.trials), self.told.get(STUDY_ID))

    @property
    def saved(self) -> float:
        """What reused stages would have cost."""
        return math.fsum(float(each.attr("saved") or 0.0) for each in self.trials)

    @cached_property
    def stage_names(self) -> tuple[str, ...]:
        """The names of all stages, those of the pipeline as it is now first."""
        names = dict.fromkeys(self.told.get(SPACE) or ())
        for each in self.trials:
            names.update(dict.fromkeys(each.stage_names))
        return tuple(names)

    @cached_property
    def ended(self) -> tuple[TrialRecord, ...]:
        """The trials that have ended, in the order in which they did."""
        ended = [each for each in self.trials if each.has_ended]
        return tuple(sorted(ended, key=lambda each: (_ended_at(each), each.number)))

    @property
    def ranked(self) -> list[TrialRecord]:
        """The trials that succeeded, within all limits, best first; earlier ones win ties.

        With several objectives, those of the front come first.
        """
        within = [each for each in self.trials if each.values and not each.beyond]
        maximized = [d is StudyDirection.MAXIMIZE for d in self.study.directions]
        values = np.array([each.values for each in within], dtype=np.float64)
        values = values.reshape(len(within), len(maximized)) * np.where(maximized, 1.0, -1.0)
        order = best_first(values, np.empty((len(within), 0)))
        return [within[i] for i in order]

    @property
    def front(self) -> list[TrialRecord]:
        """The trials that no other one is better than: with one objective, the best ones."""
        numbers = {trial.number for trial in self.study.best_trials} if self.ranked else ()
        return [each for each in self.ranked if each.number in numbers]

    @property
    def best(self) -> TrialRecord | None:
        """The best trial; `None` before the first success, and with several objectives."""
        return None if self.has_several_objectives else next(iter(self.ranked), None)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline as the study remembers it: its spaces and its graph, without its code.

        Raises:
            ConfigurationError: The study does not tell it.
        """
        try:
            return told_pipeline(self.told)
        # No text, choices of own types, or a layout that does not fit.
        except (KeyError, ValueError, AttributeError, EeipuError) as error:
            raise ConfigurationError(
                f"the study {self.name!r} does not tell its space; models are fitted for studies "
                f"whose choices are texts and numbers, and that a tuner has run."
            ) from error

    @cached_property
    def models(self) -> "SearchModels":
        """The models that a search would fit to the trials that have ended; this loads torch.

        Raises:
            ConfigurationError: Too few trials have a value, or the study does not tell its space.
        """
        from eeipu.methods.search_models import SearchModels

        history = History.of(self.study, self.pipeline)
        if int(history.objectives.succeeded.sum()) < LEAST_VALUES:
            raise ConfigurationError(
                f"the study {self.name!r} has fewer than {LEAST_VALUES} trials with a value, from "
                f"which models could be fitted."
            )
        return SearchModels(history)


def _ended_at(each: TrialRecord) -> float:
    ended = each.trial.datetime_complete
    return math.inf if ended is None else ended.timestamp()


def _guessed_stages(trial: FrozenTrial) -> tuple[str, ...]:
    """The stages of a trial of a plain Optuna study, as far as its parameters tell them."""
    count = len(trial.user_attrs.get("stage_costs") or ())
    named = tuple(dict.fromkeys(name.partition(".")[0] for name in trial.params if "." in name))
    return named if len(named) == count else tuple(f"stage {k + 1}" for k in range(count))
