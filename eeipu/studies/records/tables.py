"""What a study has cost and done, as tables; and all of its trials, for other programs."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from eeipu.methods.budget import PAID_BY, STUDY_ID
from eeipu.stages.runs import error_line
from eeipu.studies.records.study_record import STATES, StudyLike, StudyRecord, TrialRecord

__all__ = [
    "account",
    "aim",
    "as_json",
    "counts",
    "export_rows",
    "failures",
    "is_paid_here",
    "stage_facts",
    "states",
]

# The parts of what a trial was charged beside its stages, by the names of its user attributes.
_PARTS = ("load_s", "keep_s", "overhead")


def aim(record: StudyRecord) -> str:
    """What a study is for, such as `"maximize auc"`."""
    return ", ".join(record.aims)


def counts(record: StudyRecord) -> dict[str, int]:
    """How many trials there are of each state that occurs."""
    states = [each.state for each in record.trials]
    return {state: states.count(state) for state in STATES if state in states}


def states(record: StudyRecord) -> str:
    """The same in words, such as `"12 complete, 1 failed"`."""
    return ", ".join(f"{count} {state}" for state, count in counts(record).items()) or "none yet"


def failures(record: StudyRecord) -> list[TrialRecord]:
    """The trials that failed, the last one first."""
    return [each for each in reversed(record.trials) if each.state == "failed"]


def is_paid_here(each: TrialRecord, record: StudyRecord) -> bool:
    """Whether a study has paid for a trial, which may have been added from another one."""
    study_id = record.told.get(STUDY_ID)
    return study_id is None or each.attr(PAID_BY) in (None, study_id)


def account(record: StudyRecord) -> dict[str, float]:
    """What was charged, by what it was for: each stage, loading, keeping, choosing, the rest.

    Attempts that were repeated are in the rest.
    """
    parts: dict[str, float] = dict.fromkeys(record.stage_names, 0.0)
    parts |= {"loading": 0.0, "keeping": 0.0, "choosing": 0.0}
    names = dict(zip(_PARTS, ("loading", "keeping", "choosing"), strict=True))
    for each in record.trials:
        if is_paid_here(each, record):
            for stage, cost in each.costs.items():
                parts[stage] += cost
            for attr, name in names.items():
                parts[name] += float(each.attr(attr) or 0.0)
    rest = math.fsum([record.spent, *(-cost for cost in parts.values())])
    parts["other"] = max(0.0, rest)
    return parts


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
        Rows with the same columns each: `number`, `state`, `value` (with several objectives
        `value:OBJECTIVE`), the parameters by their names,
        `metric:NAME`, `cost:STAGE`, `reused:STAGE`, `charged`, `saved`, the parts of what was
        charged, the times, and the first line of an error. What is not known is `None`.
    """
    record = StudyRecord.of(study)
    params = dict.fromkeys(name for each in record.trials for name in each.trial.params)
    metrics = dict.fromkeys(name for each in record.trials for name in each.attr("metrics") or {})
    names = [f"value:{name}" for name in record.objectives]
    several = names if record.has_several_objectives else []
    return [
        _exported(each, record.stage_names, list(params), list(metrics), several)
        for each in record.trials
    ]


def _exported(
    each: TrialRecord,
    stages: Sequence[str],
    params: Sequence[str],
    metrics: Sequence[str],
    several: Sequence[str],
) -> dict[str, Any]:
    trial, costs, measured = each.trial, each.costs, each.attr("metrics") or {}
    times = {"started": trial.datetime_start, "ended": trial.datetime_complete}
    return {
        "number": each.number,
        "state": each.state,
        "value": each.value,
        **(dict.fromkeys(several) | dict(zip(several, each.values, strict=False))),
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
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
