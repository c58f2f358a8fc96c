"""Opening the Optuna study that holds a pipeline's trials, and going on with it after a crash."""

import json
import socket
import uuid
import warnings
from typing import Literal

import optuna
import psutil
from optuna.distributions import distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from eeipu.errors import ConfigurationError, SpaceError, StudyMismatchError
from eeipu.pipeline import Pipeline
from eeipu.space import Distribution
from eeipu.studies.heartbeats import silent_trials
from eeipu.studies.storages import open_storage

__all__ = [
    "Direction",
    "driver_name",
    "enqueue_again",
    "is_dead",
    "open_study",
    "reclaim_dead_trials",
    "same_code",
    "same_inputs",
    "study_id",
]

Direction = Literal["maximize", "minimize"]

_SPACE = "eeipu:space"
_INPUTS = "eeipu:inputs"
_CODE = "eeipu:code"
_ID = "eeipu:id"

# A machine may go down while a configuration runs, even twice; three times points at what runs.
MAX_DEATHS = 3


def open_study(
    pipeline: Pipeline,
    *,
    direction: Direction,
    sampler: BaseSampler,
    storage: str | BaseStorage | None,
    study_name: str | None,
) -> optuna.Study:
    """Create the study, or load the one of that name.

    Args:
        pipeline: What is tuned. Its name is the default for the study's.
        direction: Whether larger or smaller objectives are better.
        sampler: Suggests configurations.
        storage: Anything Optuna takes; `None` is this process's memory. Of a URL, see
            `eeipu.studies.storages`.
        study_name: The name in the storage.

    Raises:
        ConfigurationError: The storage is not one, or cannot hold this pipeline's choices.
        StudyMismatchError: The study was made for another pipeline, space or direction.
    """
    _check_storage(storage, pipeline)
    name = study_name if study_name is not None else pipeline.name
    study = optuna.create_study(
        storage=open_storage(storage) if isinstance(storage, str) else storage,
        study_name=name,
        direction=direction,
        sampler=sampler,
        load_if_exists=True,
    )
    remedy = "Choose another study_name, or another storage."
    if study.direction.name.lower() != direction:
        raise StudyMismatchError(
            f"the study {name!r} has the direction {study.direction.name.lower()!r}, but "
            f"{direction!r} was asked for. {remedy}"
        )
    description = _describe(pipeline)
    known = study.user_attrs.get(_SPACE)
    if known is None and all(_fits(trial, pipeline) for trial in study.get_trials(deepcopy=False)):
        study.set_user_attr(_SPACE, description)
        known = study.user_attrs[_SPACE]  # another driver may have written at the same time
    study_id(study)  # settled now, long before anything is kept under it
    if known != description or list(known) != list(description):
        raise StudyMismatchError(
            f"the study {name!r} belongs to another pipeline: {_difference(known, description)}. "
            f"{remedy}"
        )
    return study


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
            # Storages keep JSON, which makes lists of tuples and knows no other objects.
            if not isinstance(choice, str | int | float | None):
                raise SpaceError(
                    f"{name} has the choice {choice!r}, which a storage cannot hold; name it by "
                    f"a string or a number and look it up in the stage, or leave storage=None."
                )


def _describe(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """The stages and their spaces, as the study remembers them."""
    return {
        stage.name: {param: _description(dist) for param, dist in stage.space.items()}
        for stage in pipeline.stages
    }


def _description(distribution: Distribution) -> str:
    try:
        return distribution_to_json(distribution)
    except TypeError:  # choices of the user's own types, which live in this process only
        return repr(distribution)


def _fits(trial: FrozenTrial, pipeline: Pipeline) -> bool:
    return trial.params.keys() <= pipeline.space.keys()


def _difference(
    known: dict[str, dict[str, str]] | None, description: dict[str, dict[str, str]]
) -> str:
    """What differs, for an error message."""
    if known is None:
        return "its trials have parameters that this pipeline does not have"
    if list(known) != list(description):
        return f"its stages are {list(known)}, and this pipeline's are {list(description)}"
    stage = next(name for name in known if known[name] != description[name])
    return (
        f"its space of stage {stage!r} is {json.dumps(known[stage])}, and this pipeline's is "
        f"{json.dumps(description[stage])}"
    )


def same_inputs(study: optuna.Study, key: str) -> None:
    """Warn where a study goes on with other inputs than it began with.

    Args:
        study: The study.
        key: The digest of the run's inputs.
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


def same_code(study: optuna.Study, pipeline: Pipeline) -> None:
    """Warn where a study goes on with other code than its last run had.

    Args:
        study: The study.
        pipeline: What it tunes.
    """
    code = {stage.name: stage.fingerprint for stage in pipeline.stages}
    known = study.user_attrs.get(_CODE, code)
    changed = [name for name in code if known.get(name) != code[name]]
    if changed:
        warnings.warn(
            f"the code of the stages {changed} has changed since the study "
            f"{study.study_name!r} last ran; old values are compared with new ones as if they "
            f"were the same. Choose another study_name if they are not.",
            UserWarning,
            stacklevel=3,
        )
    study.set_user_attr(_CODE, code)


def study_id(study: optuna.Study) -> str:
    """A name that no other study has, in whatever storage."""
    name = study.user_attrs.get(_ID)
    if name is None:
        name = f"{study.study_name} {uuid.uuid4().hex}"
        study.set_user_attr(_ID, name)
    return str(name)


def driver_name() -> str:
    """This process, as trials remember who runs them."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def is_dead(driver: str) -> bool | None:
    """Whether a driver has ended; `None` where that cannot be seen, on another host."""
    host, pid, created = driver.rsplit(":", 2)
    if host != socket.gethostname():
        return None
    try:
        return bool(abs(psutil.Process(int(pid)).create_time() - float(created)) > 1.0)
    except psutil.NoSuchProcess:
        return True


def _abandoned(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials whose driver has ended, or is elsewhere and silent."""
    own, dead, unseen = driver_name(), [], []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        driver = trial.user_attrs.get("driver")
        if driver == own:
            continue
        is_over = None if driver is None else is_dead(driver)
        if is_over is None:
            unseen.append(trial)
        elif is_over:
            dead.append(trial)
    silent = silent_trials(study) if unseen else ()
    return dead + [trial for trial in unseen if trial._trial_id in silent]


def reclaim_dead_trials(study: optuna.Study, pipeline: Pipeline) -> None:
    """Close the trials that a dead driver left running, and enqueue them again.

    What they spent stays on the account, and what they computed is in the cache. A configuration
    that its process did not survive `MAX_DEATHS` times is a failure like any other: it may be
    what kills the process (out of memory, say). Of several drivers that find a trial, one takes it.

    Args:
        study: The study.
        pipeline: What it tunes.
    """
    for trial in _abandoned(study):
        deaths = trial.user_attrs.get("deaths", 0) + 1
        if _close(study, trial, deaths) and deaths < MAX_DEATHS:
            enqueue_again(study, trial, pipeline, deaths=deaths)


def _close(study: optuna.Study, trial: FrozenTrial, deaths: int) -> bool:
    """Make a trial a failed one; whether it was not one yet."""
    try:
        if deaths >= MAX_DEATHS:
            reached = trial.user_attrs.get("stage_costs") or []
            optuna.Trial(study, trial._trial_id).set_user_attr(
                "error",
                f"the process died {deaths} times in a row while it ran this configuration, the "
                f"last time after {sum(cost is not None for cost in reached)} stages.",
            )
        return study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:  # another driver was faster
        return False


def enqueue_again(
    study: optuna.Study, trial: FrozenTrial, pipeline: Pipeline, *, deaths: int = 0
) -> None:
    """Let an interrupted trial's configuration be the next one that runs.

    A trial that was cut off before its configuration was whole, unless that was enqueued, has
    computed nothing: the sampler will propose another.

    Args:
        study: The study.
        trial: The trial that was cut off.
        pipeline: What the study tunes.
        deaths: How often in a row its process has died with it.
    """
    params = trial.system_attrs.get("fixed_params", trial.params)
    if params.keys() == pipeline.space.keys():
        attrs = {"warm_up": trial.user_attrs.get("warm_up"), "deaths": deaths}
        study.enqueue_trial(params, user_attrs={k: v for k, v in attrs.items() if v})
