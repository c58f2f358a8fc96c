"""The configuration that models believe to be best, beside the one whose value is best.

Of a stored study, it is what `Tuner.recommend` says, with two differences: the study does not know
the trials of earlier studies that its tuner learns from, nor whether failures belong to code that
has changed since.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eeipu.errors import ConfigurationError
from eeipu.html_tables import box, facts, shown, table
from eeipu.studies.records.study_record import LEAST_VALUES, StudyLike, StudyRecord
from eeipu.studies.records.tuned_study import study_html

if TYPE_CHECKING:
    from eeipu.methods.recommendation import Recommendation

__all__ = ["recommendation_facts", "recommendation_html", "recommended_by", "tuner_html"]

# A tuner that shows itself in a notebook fits models to so many trials, which takes half a second
# of CPU (`Tuner.recommend` with four hyper-parameters). With 400 it would take two.
MOST_TRIALS = 200


def recommended_by(record: StudyRecord) -> "Recommendation":
    """The configuration that the models of a stored study believe to be best; this loads torch.

    Raises:
        ConfigurationError: Too few trials have a value, none is within all limits, the study does
            not tell its space, or there are several objectives.
    """
    if record.has_several_objectives:
        raise ConfigurationError(
            f"the study {record.name!r} has several objectives, and no configuration is the best "
            f"one; choose from the front."
        )
    from eeipu.methods.recommendation import best_believed

    return best_believed(record.models)


def recommendation_facts(record: StudyRecord, found: "Recommendation") -> dict[str, str]:
    """What there is to say of a recommendation in one line.

    Args:
        record: The study.
        found: What is recommended.
    """
    is_best = _is_best(record, found)
    return {
        "recommended": f"trial {found.number}" + (", the best one" if is_best else ""),
        "expected": f"{found.mean:.6g} ± {found.std:.2g}",
        "it gave": ", ".join(map(shown, found.values)),
    }


def recommendation_html(record: StudyRecord, found: "Recommendation") -> str:
    """A recommendation as HTML; its hyper-parameters, where it is not the trial that looked best.

    Args:
        record: The study.
        found: What is recommended.
    """
    line = facts(recommendation_facts(record, found))
    if _is_best(record, found):
        return line
    best: Mapping[str, Any] = {} if record.best is None else record.best.trial.params
    rows = [(name, value, best.get(name)) for name, value in found.params.items()]
    heads = ("hyper-parameter", "recommended", "best trial")
    return f"<div>{line}</div>{table(heads, rows, right={1, 2})}"


def tuner_html(name: str, study: StudyLike, recommend: "Callable[[], Recommendation]") -> str:
    """What a tuner shows of itself in a notebook: its study, and what it recommends.

    Args:
        name: The pipeline's name.
        study: Its study.
        recommend: `Tuner.recommend`; it is asked where there are a few values, and not so many
            that it would take long.
    """
    record, recommended = StudyRecord.of(study), ""
    if len(record.ranked) >= LEAST_VALUES and len(record.ended) <= MOST_TRIALS:
        with suppress(ConfigurationError):  # several objectives, or no trial fits the pipeline
            recommended = recommendation_html(record, recommend())
    return box(f"Tuner of {name}", study_html(record.study), recommended)


def _is_best(record: StudyRecord, found: "Recommendation") -> bool:
    return record.best is not None and record.best.number == found.number
