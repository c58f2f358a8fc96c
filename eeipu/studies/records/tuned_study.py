"""A study that shows itself in a notebook."""

import optuna

from eeipu.html_tables import box, facts, table
from eeipu.studies.records.amounts import amount
from eeipu.studies.records.study_record import StudyRecord
from eeipu.studies.records.tables import aim, stage_facts, states

__all__ = ["TunedStudy", "study_html"]


class TunedStudy(optuna.Study):
    """The study of a tuner: an `optuna.Study` in everything, which shows itself in a notebook."""

    def _repr_html_(self) -> str:
        return study_html(self)


def study_html(study: optuna.Study) -> str:
    """How a study stands, as a short piece of HTML: its account, stages and best trial."""
    record = StudyRecord.of(study)
    best, unit = record.best, record.unit
    of = "" if record.budget is None else f" of {amount(record.budget, unit)}"
    known = {
        "trials": states(record),
        "spent": f"{amount(record.spent, unit)}{of}",
        "saved by the cache": amount(record.saved, unit),
    }
    stages = []
    for name in record.stage_names:
        found = stage_facts(record, name)
        mean = found["mean_cost"]
        cost = None if mean is None else amount(mean, unit)
        stages.append((name, found["executed"], found["reused"], found["failed"], cost))
    heads = ("stage", "executed", "reused", "failed", "mean cost")
    parts = [facts(known), table(heads, stages, right=range(1, 5)) if stages else ""]
    if best is not None:
        parts.append(facts({f"best {record.objective}": best.value, "in trial": best.number}))
        params = best.trial.params.items()
        parts.append(table(("hyper-parameter", "best value"), params, right={1}))
    if record.has_several_objectives:
        front = [(each.number, *each.values) for each in record.front]
        parts.append(table(("on the front: trial", *record.objectives), front))
    return box(f"Study {record.name} ({aim(record)})", *parts)
