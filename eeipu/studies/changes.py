"""What the trials of a study still count for when it goes on.

After its pipeline has changed, they count for what they still say: a value outside of a narrower
range, or a choice that is gone, leaves its trial out of the search. A parameter or a stage that
came later has the default of the stage's function in old trials. Where alternatives came later, old
trials have chosen the stage that was there, or nothing. An alternative that is gone is a choice
less: trials that chose it are left out. Trials that were made with a
parameter that is gone count if they had the value that it has now, as the function's default. A
failure counts until its cause is gone. `eeipu.methods.history` applies this whenever it reads the
trials.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import (
    CategoricalDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy import select, update

from eeipu.counts import counted
from eeipu.errors import StudyMismatchError
from eeipu.methods.history import History
from eeipu.methods.trials.forgotten_failures import FORGOTTEN
from eeipu.methods.trials.ledger import CHANGES
from eeipu.pipeline import Pipeline
from eeipu.space import Categorical, Distribution, Space
from eeipu.stages.declaration import Stage
from eeipu.stages.joining.alternatives import NOTHING
from eeipu.stages.runs import error_line

__all__ = [
    "Remarks",
    "adopt",
    "are_comparable",
    "as_text",
    "noted_places",
    "places_of",
    "retry_failed",
    "stored_space",
]

logger = logging.getLogger("eeipu")

# The study's user attribute with the choices of parameters whose choices have changed: all that
# there ever were, in the order in which they came. The storage knows choices by their places.
_CHOICES = "eeipu:choices"

Known = Mapping[str, Mapping[str, str]]
Places = Mapping[str, Sequence[str]]


def are_comparable(known: Known, places: Places, pipeline: Pipeline) -> bool:
    """Whether results of a study tell something of a pipeline that has changed since.

    All its stages are still there, in their order. One that was an alternative may be gone: it is
    a choice less.

    Args:
        known: The space of each stage that the study was made for, by the stage's name.
        places: The choices of each place for alternatives that it was made for.
        pipeline: The pipeline that it is to go on with.
    """
    names = pipeline.stage_names
    choices = {choice for each in places.values() for choice in each}
    needed = [name for name in known if name in names or name not in choices]
    return [name for name in names if name in known] == needed


def adopt(
    study: optuna.Study, known: Known, places: Places, pipeline: Pipeline, *, may_choose: bool
) -> None:
    """Note what the trials of a study lack for a pipeline that has changed.

    Args:
        study: The study.
        known: The space of each stage that it was made for, by the stage's name.
        places: The choices of each place for alternatives that it was made for.
        pipeline: The pipeline that it is to go on with.
        may_choose: Whether the sampler can do with more choices in the storage than in the space.

    Raises:
        StudyMismatchError: Its trials cannot be compared with those to come, or its storage cannot
            hold both.
    """
    names = list(pipeline.stage_names)
    if not are_comparable(known, places, pipeline):
        raise StudyMismatchError(
            f"the study {study.study_name!r} has the stages {list(known)}, and this pipeline "
            f"{names}; its results cannot be compared. Choose another study_name."
        )
    changes = {"defaults": {}, "removed": {}, "stages": [], **study.user_attrs.get(CHANGES, {})}
    defaults, removed = dict(changes["defaults"]), dict(changes["removed"])
    for stage in pipeline.stages:
        old = known.get(stage.name, {})
        for param, distribution in stage.space.items():
            name = f"{stage.name}.{param}"
            if param not in old:
                removed.pop(name, None)
                for value in _defaults(stage, param):
                    if Space({name: distribution}).misfit({name: value}) is None:
                        defaults[name] = value
            elif old[param] != as_text(distribution):
                _change(study, name, old[param], distribution, may_choose)
        for param in old.keys() - stage.space.keys():
            name = f"{stage.name}.{param}"
            defaults.pop(name, None)
            removed[name] = _defaults(stage, param)
    chosen, unchosen = _changed_places(study, known, places, pipeline, may_choose)
    there = pipeline.layout.places
    defaults = {name: value for name, value in defaults.items() if name not in unchosen} | chosen
    removed = {name: value for name, value in removed.items() if name not in there} | unchosen
    stages = list(changes["stages"])
    if known and names != list(known):
        stages.append([len(study.get_trials(deepcopy=False)), list(known)])
    changed = {"defaults": defaults, "removed": removed, "stages": stages}
    study.set_user_attr(CHANGES, changed)


def _changed_places(
    study: optuna.Study, known: Known, places: Places, pipeline: Pipeline, may_choose: bool
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """What old trials chose at new places, and at those that are gone to count still."""
    chosen: dict[str, str] = {}
    now = places_of(pipeline)
    for name, choices in now.items():
        if name not in places:
            chosen |= _choice_of_old(name, choices, known, pipeline)
        elif places[name] != choices:
            before = as_text(Categorical(list(places[name])))
            _change(study, name, before, Categorical(choices), may_choose)
    gone = places.keys() - now.keys()
    return chosen, {name: _choice_that_is_left(places[name], pipeline) for name in gone}


def _choice_that_is_left(choices: Sequence[str], pipeline: Pipeline) -> list[str]:
    """What trials must have chosen at a place that is gone, to count still: at most one choice."""
    left = [choice for choice in choices if choice in pipeline.stage_names]
    if not left and NOTHING in choices:
        return [NOTHING]
    return left if len(left) == 1 else []


def places_of(pipeline: Pipeline) -> dict[str, list[str]]:
    """The choices of each of a pipeline's places for alternatives."""
    return {name: list(choices) for name, choices in pipeline.layout.places.items()}


def noted_places(study: optuna.Study, pipeline: Pipeline) -> dict[str, list[str]]:
    """The choices of those of a pipeline's places that trials of a study have.

    It is for studies of earlier versions, which do not remember their places.
    """
    own, found = places_of(pipeline), {}
    trials = study.get_trials(deepcopy=False)
    for name, distribution in (pair for t in trials for pair in t.distributions.items()):
        if name in own and isinstance(distribution, CategoricalDistribution):
            found[name] = list(map(str, distribution.choices))
    for name, chosen in pipeline.layout.place_chosen_by.items():
        if chosen and chosen[0][0] in found:  # no trial may have come to the place inside
            found.setdefault(name, own[name])
    return found if trials else own


def _choice_of_old(
    name: str, choices: Sequence[str], known: Known, pipeline: Pipeline
) -> dict[str, str]:
    """What trials chose at a place before there was a choice, if that can be told."""
    layout = pipeline.layout
    there = {
        choice
        for stage, chosen in zip(layout.stages, layout.chosen_by, strict=True)
        for choice in choices
        if stage.name in known and (name, choice) in chosen
    }
    if not there and NOTHING in choices:
        return {name: NOTHING}
    return {name: there.pop()} if len(there) == 1 else {}


def _defaults(stage: Stage, param: str) -> list[Any]:
    """The value that a stage's function gives a parameter by itself, if it gives one."""
    found = stage.parameters.get(param)
    return [] if found is None or found.default is found.empty else [found.default]


def as_text(distribution: Distribution) -> str:
    """A distribution in the form that a study stores."""
    try:
        return distribution_to_json(distribution)
    except TypeError:  # choices of the user's own types, which live in this process only
        return repr(distribution)


def _change(study: optuna.Study, name: str, old: str, new: Distribution, may_choose: bool) -> None:
    """Let a storage hold a parameter's new values beside its old ones."""
    remedy = "Choose another study_name, or another name for the parameter."
    try:
        before = json_to_distribution(old)
    except ValueError as error:  # JSON that is none: choices of the user's own types
        raise StudyMismatchError(
            f"the choices of {name} have changed, and only those that are texts and numbers can be "
            f"compared. {remedy}"
        ) from error
    if not (
        isinstance(before, CategoricalDistribution) and isinstance(new, CategoricalDistribution)
    ):
        try:
            check_distribution_compatibility(before, new)
        except ValueError as error:
            raise StudyMismatchError(
                f"{name} was {before} in the study {study.study_name!r} and is {new} now, which "
                f"its storage cannot hold together ({error}) {remedy}"
            ) from error
        return
    if not may_choose:
        raise StudyMismatchError(
            f"the choices of {name} have changed, and {type(study.sampler).__name__} could still "
            f"choose the old ones. {remedy}"
        )
    every = study.user_attrs.get(_CHOICES, {})
    choices = list(every.get(name, before.choices))
    choices += [choice for choice in new.choices if choice not in choices]
    _widen(study, name, Categorical(choices), remedy)
    study.set_user_attr(_CHOICES, {**every, name: choices})


def _widen(study: optuna.Study, name: str, union: CategoricalDistribution, remedy: str) -> None:
    """Have a storage know more choices of a parameter; the places of the old ones stay."""
    storage: BaseStorage = getattr(study._storage, "_backend", study._storage)
    if isinstance(storage, InMemoryStorage):
        storage._studies[study._study_id].param_distribution[name] = union
    elif isinstance(storage, RDBStorage):
        from optuna.storages._rdb.models import TrialModel, TrialParamModel

        own = select(TrialModel.trial_id).where(TrialModel.study_id == study._study_id)
        of_param = (TrialParamModel.param_name == name, TrialParamModel.trial_id.in_(own))
        text = distribution_to_json(union)
        with storage.engine.begin() as connection:
            connection.execute(
                update(TrialParamModel).where(*of_param).values(distribution_json=text)
            )
    else:
        raise StudyMismatchError(
            f"the choices of {name} have changed, which a {type(storage).__name__} cannot hold "
            f"together with the old ones. {remedy}"
        )


def stored_space(study: optuna.Study, pipeline: Pipeline) -> dict[str, Distribution]:
    """A pipeline's space as a study's storage knows it: with all choices that there ever were."""
    every = study.user_attrs.get(_CHOICES, {})
    return {
        name: Categorical(every[name]) if name in every else distribution
        for name, distribution in pipeline.space.items()
    }


class Remarks:
    """Tells the user which trials do not count, each time that there are more of them."""

    def __init__(self) -> None:
        self._left_out = self._forgotten = 0

    def say(self, history: History) -> None:
        """Say what the user does not know yet, in a warning each."""
        for remark in self.about(history):
            logger.warning("%s", remark)

    def about(self, history: History) -> list[str]:
        """What the user does not know yet, in a sentence each."""
        left_out, forgotten = len(history.left_out), len(history.forgotten)
        remarks = []
        if left_out > self._left_out:
            reasons = Counter(why for _, why in history.left_out).most_common()
            fit = (
                "does not fit the space and is" if left_out == 1 else "do not fit the space and are"
            )
            why = "; ".join(f"{reason} ({count})" for reason, count in reasons)
            remarks.append(
                f"{left_out} of {counted(left_out + len(history), 'trial')} {fit} left out: {why}."
            )
        if forgotten > self._forgotten:
            last = error_line(history.forgotten[-1].user_attrs.get("error", ""))
            remarks.append(
                f"{forgotten} failed trials no longer count, the last with {last!r}: their cause "
                f"seems to be gone. Their configurations may run again."
            )
        self._left_out, self._forgotten = left_out, forgotten
        return remarks


def retry_failed(study: optuna.Study, pipeline: Pipeline, error: str) -> int:
    """Forget failures, and enqueue their configurations to run next.

    Args:
        study: The study.
        pipeline: The pipeline that it tunes.
        error: Only failures whose error contains this text.

    Returns:
        How many configurations were enqueued.
    """
    history = History.of(study, pipeline)
    known = {trial.number for trial in history.forgotten}
    again = [
        trial
        for trial in sorted((*history.ended, *history.forgotten), key=lambda t: t.number)
        if trial.state is TrialState.FAIL and error in trial.user_attrs.get("error", "")
    ]
    told, numbers = {*study.user_attrs.get(FORGOTTEN, [])}, {trial.number for trial in again}
    kept = tuple(trial for trial in history.ended if trial.number not in numbers)
    others, count = replace(history, ended=kept), 0
    # Enqueued before they are forgotten, so that no driver chooses one of them in between.
    for trial in again:
        # A configuration that has been retried before is not enqueued twice.
        if trial.number not in told & known and others.configurations.is_new(trial.params):
            attrs = {"retries": trial.number}
            study.enqueue_trial(trial.params, user_attrs=attrs, skip_if_exists=False)
            count += 1
    study.set_user_attr(FORGOTTEN, sorted(told | numbers))
    return count
