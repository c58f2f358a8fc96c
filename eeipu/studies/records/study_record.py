"""A study as plain rows, read from its storage alone: the code of its pipeline is not needed.

Everything is known by the names of stages. A trial whose stages are unknown, because it was made
outside of this library, has rows without stages.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Union

import optuna
from optuna.distributions import json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from eeipu.errors import ConfigurationError
from eeipu.methods.budget import PAID_BY, STUDY_ID, spent
from eeipu.methods.history import History
from eeipu.methods.ledger import CHANGES, is_interrupted
from eeipu.pipeline import Pipeline
from eeipu.space import Distribution
from eeipu.stages.runs import error_line

if TYPE_CHECKING:
    from eeipu.methods.search_models import SearchModels

__all__ = [
    "STATES",
    "StudyLike",
    "StudyRecord",
    "TrialRecord",
    "as_json",
    "export_rows",
    "stage_facts",
]

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

# The parts of what a trial was charged beside its stages, by the names of its user attributes.
_PARTS = ("load_s", "keep_s", "overhead")


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
    def value(self) -> float | None:
        """The objective, where it succeeded."""
        return self.trial.values[0] if self.trial.state is TrialState.COMPLETE else None

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
        return tuple(name for name, is_reused in self._noted("memoized").items() if is_reused)

    @property
    def keys(self) -> dict[str, str]:
        """The content key of each stage call."""
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
        names = tuple(told.get("eeipu:space") or ())
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
    def direction(self) -> str:
        """`"maximize"` or `"minimize"`."""
        return "minimize" if self.is_minimized else "maximize"

    @property
    def objective(self) -> str:
        """The name of the objective: a metric's, or `"value"`."""
        named = self.told.get("eeipu:objective") or [None]
        return str(named[0] or "value")

    @property
    def is_measured(self) -> bool:
        """Whether costs are measured seconds."""
        return bool(self.told.get("eeipu:unit", "seconds") == "seconds")

    @property
    def unit(self) -> str:
        """The text after an amount of cost: `" s"`, or nothing where stages declare their costs."""
        return " s" if self.is_measured else ""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the last tuner of the study was told: `budget`, `method`, `top_q`, `n_initial`."""
        return self.told.get("eeipu:tuner") or {}

    @property
    def budget(self) -> float | None:
        """What all trials may cost together; `None` where nothing limits it, or it is unknown."""
        budget = self.settings.get("budget")
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
        names = dict.fromkeys(self.told.get("eeipu:space") or ())
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
        """The trials that succeeded, best first; earlier ones win ties."""
        sign = 1.0 if self.is_minimized else -1.0
        known = [(each.value, each) for each in self.trials]
        finite = [(value, each) for value, each in known if value is not None and value == value]
        return [
            each for _, each in sorted(finite, key=lambda pair: (sign * pair[0], pair[1].number))
        ]

    @property
    def best(self) -> TrialRecord | None:
        """The best trial; `None` before the first success."""
        return next(iter(self.ranked), None)

    @cached_property
    def models(self) -> "SearchModels":
        """The models that a search would fit to the trials that have ended; this loads torch.

        Raises:
            ConfigurationError: Too few trials have a value, or the study does not tell its space.
        """
        from eeipu.methods.search_models import SearchModels

        history = History.of(self.study, Pipeline.declare(_spaces(self)))
        if int(history.succeeded.sum()) < LEAST_VALUES:
            raise ConfigurationError(
                f"the study {self.name!r} has fewer than {LEAST_VALUES} trials with a value, from "
                f"which models could be fitted."
            )
        return SearchModels(history)

    def is_better(self, value: float, than: float) -> bool:
        """Whether one value of the objective is better than another."""
        return bool(value < than if self.is_minimized else value > than)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials there are of each state that occurs."""
        states = [each.state for each in self.trials]
        return {state: states.count(state) for state in STATES if state in states}

    @property
    def failures(self) -> list[TrialRecord]:
        """The trials that failed, the last one first."""
        return [each for each in reversed(self.trials) if each.state == "failed"]

    @property
    def account(self) -> dict[str, float]:
        """What was charged, by what it was for: each stage, loading, keeping, choosing, the rest.

        What stages were charged includes attempts that were repeated; this is in the rest.
        """
        parts: dict[str, float] = dict.fromkeys(self.stage_names, 0.0)
        parts |= {"loading": 0.0, "keeping": 0.0, "choosing": 0.0}
        names = dict(zip(_PARTS, ("loading", "keeping", "choosing"), strict=True))
        own = [each for each in self.trials if self.pays(each)]
        for each in own:
            for stage, cost in each.costs.items():
                parts[stage] += cost
            for attr, name in names.items():
                parts[name] += float(each.attr(attr) or 0.0)
        rest = math.fsum([self.spent, *(-cost for cost in parts.values())])
        parts["other"] = max(0.0, rest)
        return parts

    def pays(self, each: TrialRecord) -> bool:
        """Whether this study has paid for a trial, which may have been added from another one."""
        study_id = self.told.get(STUDY_ID)
        return study_id is None or each.attr(PAID_BY) in (None, study_id)


def _spaces(record: StudyRecord) -> dict[str, dict[str, Distribution]]:
    """The space of each stage, as the study remembers it."""
    try:
        return {
            stage: {name: json_to_distribution(text) for name, text in space.items()}
            for stage, space in record.told["eeipu:space"].items()
        }
    except (KeyError, ValueError, AttributeError) as error:  # no text, or choices of own types
        raise ConfigurationError(
            f"the study {record.name!r} does not tell its space; models are fitted for studies "
            f"whose choices are texts and numbers, and that a tuner has run."
        ) from error


def stage_facts(record: StudyRecord, stage: str) -> dict[str, Any]:
    """What a stage has done in all trials: how often it was executed, reused, failed, and its cost.

    Args:
        record: The study.
        stage: The stage's name.
    """
    costs = [each.costs[stage] for each in record.trials if stage in each.costs]
    return {
        "stage": stage,
        "executed": len(costs),
        "reused": sum(stage in each.reused for each in record.trials),
        "failed": sum(each.attr("failed_stage") == stage for each in record.trials),
        "mean_cost": sum(costs) / len(costs) if costs else None,
        "total_cost": sum(costs),
    }


def export_rows(study: StudyLike) -> list[dict[str, Any]]:
    """A flat row for each trial, for tables: parameters, metrics, and what each stage cost.

    Args:
        study: The study.

    Returns:
        Rows with the same columns each: `number`, `state`, `value`, the parameters by their names,
        `metric:NAME`, `cost:STAGE`, `reused:STAGE`, `charged`, `saved`, the parts of what was
        charged, the times, and the first line of an error. What is not known is `None`.
    """
    record = StudyRecord.of(study)
    params = dict.fromkeys(name for each in record.trials for name in each.trial.params)
    metrics = dict.fromkeys(name for each in record.trials for name in each.attr("metrics") or {})
    return [
        _exported(each, record.stage_names, list(params), list(metrics)) for each in record.trials
    ]


def _exported(
    each: TrialRecord, stages: Sequence[str], params: Sequence[str], metrics: Sequence[str]
) -> dict[str, Any]:
    trial, costs, measured = each.trial, each.costs, each.attr("metrics") or {}
    times = {"started": trial.datetime_start, "ended": trial.datetime_complete}
    return {
        "number": each.number,
        "state": each.state,
        "value": each.value,
        **{name: trial.params.get(name) for name in params},
        **{f"metric:{name}": measured.get(name) for name in metrics},
        **{f"cost:{name}": costs.get(name) for name in stages},
        **{f"reused:{name}": name in each.reused for name in stages},
        "charged": each.attr("charged"),
        "saved": each.attr("saved"),
        **{part: each.attr(part) for part in (*_PARTS, "suggest_s", "waited_s")},
        **{name: None if time is None else time.isoformat() for name, time in times.items()},
        "error": None if each.error is None else error_line(each.error),
    }


def as_json(value: Any) -> str:
    """A value as JSON, in which numbers that are not finite are `null`."""
    return json.dumps(_finite(value), default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ended_at(each: TrialRecord) -> float:
    ended = each.trial.datetime_complete
    return math.inf if ended is None else ended.timestamp()


def _guessed_stages(trial: FrozenTrial) -> tuple[str, ...]:
    """The stages of a trial of a plain Optuna study, as far as its parameters tell them."""
    count = len(trial.user_attrs.get("stage_costs") or ())
    named = tuple(dict.fromkeys(name.partition(".")[0] for name in trial.params if "." in name))
    return named if len(named) == count else tuple(f"stage {k + 1}" for k in range(count))
