"""The Optuna study that holds a pipeline's trials.

A study remembers the pipeline that it was made for (its stages and their spaces, its objective, the
unit of its costs, the inputs of its first run, the code of its last run), so that it is never
continued with something else unnoticed.
"""

import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import json_to_distribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from eeipu.cache import StageCache
from eeipu.errors import ConfigurationError, SpaceError, StudyMismatchError
from eeipu.methods.budget import STUDY_ID, Budget
from eeipu.methods.trials.forgotten_failures import FORGET
from eeipu.pipeline import Pipeline
from eeipu.sampler import EEIPUSampler
from eeipu.studies.changes import adopt, are_comparable, as_text, noted_places, places_of
from eeipu.studies.records.study_record import LIMITS
from eeipu.studies.records.told_pipeline import LAYOUT, noted_layout
from eeipu.studies.records.told_pipeline import SPACE as _SPACE
from eeipu.studies.records.tuned_study import TunedStudy
from eeipu.studies.storages import open_storage, using_storage

__all__ = [
    "Direction",
    "how_to_resume",
    "note_settings",
    "open_study",
    "stoppable",
    "study_id",
    "warn_of_changed_code",
    "warn_of_other_inputs",
]

Direction = Literal["maximize", "minimize"]

# The study's user attributes in which it remembers its pipeline.
_PLACES = "eeipu:places"
_SOURCES = "eeipu:sources"
_INPUTS = "eeipu:inputs"
_OBJECTIVE = "eeipu:objective"
_UNIT = "eeipu:unit"
_CODE = "eeipu:code"

# What its last tuner was told, for people who look at the study later.
_SETTINGS = "eeipu:tuner"

_REMEDY = "Choose another study_name, or another storage."


@using_storage()
def open_study(
    pipeline: Pipeline,
    *,
    directions: Sequence[Direction],
    sampler: BaseSampler,
    storage: str | BaseStorage | None,
    study_name: str | None,
    adopts: bool = False,
) -> optuna.Study:
    """Create a study, or load the study that already has this name in the storage.

    Args:
        pipeline: The pipeline to tune.
        directions: For each objective, whether larger or smaller values are better.
        sampler: The sampler that suggests configurations.
        storage: A database URL (see `eeipu.studies.storages`), an Optuna storage, or `None` for the
            memory of this process.
        study_name: The study's name in the storage; `None` stands for the pipeline's name.
        adopts: Whether a study of a pipeline that has changed since goes on; see
            `eeipu.studies.changes`.

    Raises:
        ConfigurationError: `storage` is neither a URL nor an Optuna storage, or it cannot be
            opened, or cannot hold the study's name.
        StorageError: The storage fails.
        SpaceError: The pipeline has choices that the storage cannot hold.
        StudyMismatchError: The study was made for another pipeline, space, direction or objective,
            or its costs have another unit.
    """
    _check_storage(storage, pipeline)
    name = study_name if study_name is not None else pipeline.name
    _check_name(name)
    study = optuna.create_study(
        storage=open_storage(storage) if isinstance(storage, str) else storage,
        study_name=name,
        directions=[*directions],
        sampler=sampler,
        load_if_exists=True,
    )
    study = TunedStudy(name, study._storage, sampler)
    known_directions = [each.name.lower() for each in study.directions]
    if known_directions != [*directions]:
        raise StudyMismatchError(
            f"the study {name!r} has the direction {', '.join(map(repr, known_directions))}, but "
            f"{', '.join(map(repr, directions))} was asked for. {_REMEDY}"
        )
    _check_space(study, pipeline, adopts=adopts)
    _check_objective(study, pipeline)
    _check_unit(study, pipeline)
    limits = [[each.name, each.text] for each in pipeline.outcome_constraints]
    if limits != study.user_attrs.get(LIMITS, []):
        study.set_user_attr(LIMITS, limits)
    layout = noted_layout(pipeline)
    if study.user_attrs.get(LAYOUT) != layout:
        study.set_user_attr(LAYOUT, layout)
    return study


def _check_space(study: optuna.Study, pipeline: Pipeline, *, adopts: bool) -> None:
    """Check that a study is one of this pipeline's space, or adopt it; and note the space."""
    space, places = _stored_space(pipeline), places_of(pipeline)
    known, known_places = study.user_attrs.get(_SPACE), study.user_attrs.get(_PLACES)
    if known_places is None:
        known_places = noted_places(study, pipeline)
    if known is None and all(_fits(trial, pipeline) for trial in study.get_trials(deepcopy=False)):
        study.set_user_attr(_SPACE, space)
        known = study.user_attrs[_SPACE]  # another driver may have written at the same time
    study_id(study)  # made now, so that all drivers agree on it before any of them uses it
    is_other = known != space or list(known) != list(space) or known_places != places
    if is_other and adopts:
        may_choose = isinstance(study.sampler, EEIPUSampler)
        adopt(study, known or {}, known_places, pipeline, may_choose=may_choose)
        study.set_user_attr(_SPACE, space)
    elif is_other:
        difference = _difference(known, space, known_places, places)
        may_adopt = are_comparable(known or {}, known_places, pipeline)
        remedy = f"{_REMEDY[:-1]}, or Tuner(on_change='adopt') to go on." if may_adopt else _REMEDY
        raise StudyMismatchError(
            f"the study {study.study_name!r} belongs to another pipeline: {difference}. {remedy}"
        )
    if study.user_attrs.get(_PLACES, {}) != places:
        study.set_user_attr(_PLACES, places)


def _check_name(name: object) -> None:
    try:
        is_text = isinstance(name, str) and len(name.encode()) > 0 and "\0" not in name
    except UnicodeEncodeError:  # half of a surrogate pair
        is_text = False
    if not is_text:
        raise ConfigurationError(
            f"a study's name must be text, but got {name!r:.80}; choose another study_name."
        )


def _check_objective(study: optuna.Study, pipeline: Pipeline) -> None:
    """Refuse to compare the values of one metric with those of another."""
    name, objectives = study.study_name, list(pipeline.objectives)
    if not pipeline.layout.is_runnable:
        return  # the caller runs the stages, and reports the objective
    if _OBJECTIVE not in study.user_attrs:
        # A study of an earlier version does not remember its objective, but its trials do.
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            metrics = trial.user_attrs.get("metrics", {})
            if metrics and [metrics.get(str(each)) for each in objectives] != trial.values:
                raise StudyMismatchError(
                    f"the study {name!r} has another objective than {_named(objectives)}: trial "
                    f"{trial.number} has the value {_named(trial.values)}, of the metrics "
                    f"{metrics}. {_REMEDY}"
                )
    known = _remembered(study, _OBJECTIVE, objectives)
    if known != objectives:
        raise StudyMismatchError(
            f"the study {name!r} has the objective {_named(known)}, and this pipeline's is "
            f"{_named(objectives)}; their values cannot be compared. {_REMEDY} With the same "
            f"cache, no stage runs again for a configuration that was evaluated here."
        )


def _named(objectives: Sequence[Any]) -> str:
    return ", ".join(map(repr, objectives))


def _check_unit(study: optuna.Study, pipeline: Pipeline) -> None:
    """Refuse to add declared costs to measured seconds."""
    unit = "seconds" if pipeline.stages[0].cost is None else "the unit of the declared costs"
    if unit == "seconds" and not pipeline.layout.is_runnable:
        return  # the caller runs the stages, and reports their costs in a unit of their own
    known = _remembered(study, _UNIT, unit)
    if known != unit:
        raise StudyMismatchError(
            f"the costs of the study {study.study_name!r} are in {known}, and this pipeline's are "
            f"in {unit}, so that they cannot be added up. {_REMEDY}"
        )


def _remembered(study: optuna.Study, name: str, value: Any) -> Any:
    """What a study remembers under a name; it is this value, where it remembers nothing yet."""
    known = study.user_attrs.get(name)
    if known is None:
        study.set_user_attr(name, value)
        known = study.user_attrs[name]  # another driver may have written at the same time
    return known


def _check_storage(storage: str | BaseStorage | None, pipeline: Pipeline) -> None:
    if storage is None or isinstance(storage, InMemoryStorage):
        return
    if not (isinstance(storage, BaseStorage) or (isinstance(storage, str) and "://" in storage)):
        raise ConfigurationError(
            f'storage must be a URL such as "sqlite:///tune.db", an Optuna storage or None, '
            f"but got {storage!r}."
        )
    for name, distribution in pipeline.space.items():
        for choice in getattr(distribution, "choices", ()):
            # Storages keep JSON, which turns tuples into lists and has no other objects.
            if not isinstance(choice, str | int | float | None):
                raise SpaceError(
                    f"{name} has the choice {choice!r}, which a storage cannot hold; name it by "
                    f"a string or a number and look it up in the stage, or leave storage=None."
                )


def _stored_space(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """The space of each stage, by its name, in the form that the study stores."""
    return {
        stage.name: {param: as_text(distribution) for param, distribution in stage.space.items()}
        for stage in pipeline.stages
    }


def _fits(trial: FrozenTrial, pipeline: Pipeline) -> bool:
    """Whether the pipeline has all parameters of a trial."""
    return trial.params.keys() <= pipeline.space.keys()


def _difference(
    known: dict[str, dict[str, str]] | None,
    space: dict[str, dict[str, str]],
    known_places: dict[str, list[str]],
    places: dict[str, list[str]],
) -> str:
    """The first difference between a study's stored space and a pipeline's, for an error message.

    Args:
        known: The stored space; `None` where a plain Optuna study has none.
        space: The pipeline's space.
        known_places: The stored choices of the places for alternatives.
        places: The pipeline's.
    """
    if known is None:
        return "its trials have parameters that this pipeline does not have"
    if list(known) != list(space):
        return f"its stages are {list(known)}, and this pipeline's are {list(space)}"
    if known == space:
        return f"its alternatives are {known_places}, and this pipeline's are {places}"
    stage = next(name for name in known if known[name] != space[name])
    return (
        f"its space of stage {stage!r} is {_readable(known[stage])}, and this pipeline's is "
        f"{_readable(space[stage])}"
    )


def _readable(space: dict[str, str]) -> str:
    """The stored space of a stage, for people."""
    each = []
    for name, text in space.items():
        with suppress(ValueError):  # choices of the user's own types have no JSON
            text = str(json_to_distribution(text))
        each.append(f'"{name}": {text}')
    return f"{{{', '.join(each)}}}"


def warn_of_other_inputs(study: optuna.Study, key: str) -> None:
    """Warn if a study continues with other inputs than those of its first run.

    Args:
        study: The study.
        key: The digest of the inputs of the run that begins.
    """
    known = study.user_attrs.get(_INPUTS)
    if known is None:
        study.set_user_attr(_INPUTS, key)
    elif known != key:
        warnings.warn(
            f"the study {study.study_name!r} began with other inputs; its old trials are "
            f"compared with new ones as if they were the same. Choose another study_name if "
            f"they are not.",
            UserWarning,
            stacklevel=3,
        )


def warn_of_changed_code(study: optuna.Study, pipeline: Pipeline) -> None:
    """Warn if the code of a stage, or what it gets, has changed since the study last ran.

    Args:
        study: The study.
        pipeline: The pipeline that the study tunes, with its present code.
    """
    code = {stage.name: stage.fingerprint for stage in pipeline.stages}
    noted = study.user_attrs
    known = noted.get(_CODE, code)
    changed = [name for name in code if known.get(name, code[name]) != code[name]]
    sources = {name: list(each) for name, each in pipeline.layout.source_names.items()}
    got = noted.get(_SOURCES, sources)
    joined = [
        name for name in sources if got.keys() == sources.keys() and got[name] != sources[name]
    ]
    found = {"the code of": changed, "what goes into": joined}
    for what, names in found.items():
        if names:
            warnings.warn(
                f"{what} the stages {names} has changed since the study {study.study_name!r} last "
                f"ran; old values are compared with new ones as if they were the same. Choose "
                f"another study_name if they are not.",
                UserWarning,
                stacklevel=3,
            )
    for name, value in ((_CODE, code), (_SOURCES, sources)):
        if noted.get(name) != value:
            study.set_user_attr(name, value)


def study_id(study: optuna.Study) -> str:
    """The study's identifier, which no other study has in any storage; made on first use."""
    name = study.user_attrs.get(STUDY_ID)
    if name is None:
        name = f"{study.study_name} {uuid.uuid4().hex}"
        study.set_user_attr(STUDY_ID, name)
    return str(name)


def note_settings(
    study: optuna.Study,
    budget: Budget,
    method: str | BaseSampler,
    top_q: int,
    n_initial: int,
    cache: StageCache | None,
    forgotten: Sequence[str] = (),
) -> None:
    """Note in the study what its tuner was told, for reports, unless it says so already.

    Args:
        study: The study.
        budget: What all trials may cost together.
        method: The method's name, or a sampler of the user's own.
        top_q: The stage outputs of this many best trials are kept.
        n_initial: The number of trials in the warm-up, if the budget is large enough for it.
        cache: The cache, whose place is noted.
        forgotten: Texts of errors that do not count as failures.
    """
    if [*forgotten] != study.user_attrs.get(FORGET, []):
        study.set_user_attr(FORGET, [*forgotten])
    place = None if cache is None else cache.location
    if place is not None and "://" not in place:
        place = str(Path(place).resolve())
    settings = {
        "budget": budget.total if budget.is_limited else None,
        "method": method if isinstance(method, str) else type(method).__name__,
        "top_q": int(top_q),
        "n_initial": int(n_initial),
        "cache": place,
    }
    if study.user_attrs.get(_SETTINGS) != settings:
        study.set_user_attr(_SETTINGS, settings)


@contextmanager
def stoppable(study: optuna.Study) -> Iterator[None]:
    """Allow `study.stop()`, which Optuna refuses outside of its own loop.

    It is allowed in the thread that enters this context. It stops the run in all threads.
    """
    was = getattr(study._thread_local, "in_optimize_loop", False)
    study._thread_local.in_optimize_loop = True
    try:
        yield
    finally:
        study._thread_local.in_optimize_loop = was


def how_to_resume(study: optuna.Study, cache: StageCache | None, remaining: str | None) -> str:
    """A sentence for the user, after Ctrl-C: what is left, and how to continue.

    Args:
        study: The study.
        cache: The cache of stage outputs, if there is one.
        remaining: What is left of the budget, with its unit; `None` without a budget.
    """
    left = "stopped by Ctrl-C" + ("" if remaining is None else f" with {remaining} left")
    if isinstance(study._storage, InMemoryStorage):
        return (
            f"{left}. Nothing is lost while this process lives: call run(...) again to go on. "
            f"With storage=... a study outlives its process."
        )
    is_lost = cache is not None and cache.location is None
    outputs = ", without the stage outputs, which were kept in memory" if is_lost else ""
    return (
        f"{left}. Nothing is lost: call run(...) again, or run the same script on the same "
        f"storage (study {study.study_name!r}){outputs}, to go on."
    )
