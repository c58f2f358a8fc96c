"""Failures that say nothing about further trials: their cause is gone, or the user says so."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from eeipu.pipeline import Pipeline
from eeipu.stages.observing.observers import Observer
from eeipu.stages.running.records import code_up_to
from eeipu.stages.runs import error_line

__all__ = ["FORGET", "FORGOTTEN", "forgotten_failures"]

# The study's user attributes that say which failures no longer count: the numbers of trials, and
# texts in their errors.
FORGOTTEN = "eeipu:forgotten"
FORGET = "eeipu:forget"

# At least this many failures with the same error, which came one after another and ended, are taken
# for a fault of the surroundings if they are scattered: if the mean variance of their coordinates
# is at least this share of that of a uniform distribution. If they have a choice in common, such as
# one of several alternatives, a trial with the same choice must have succeeded since.
LEAST_ALIKE = 3
SCATTERED = 0.5

# What the error of an exception holds, and that of a trial that was told as failed does not.
TRACEBACK = "Traceback (most recent call last)"


def forgotten_failures(
    told: Mapping[str, Any], pipeline: Pipeline, ended: Sequence[FrozenTrial]
) -> set[int]:
    """The numbers of the failed trials whose failure says nothing about further trials.

    They are those that the user has told to forget, those of code that has changed since, and those
    that came one after another with the same error at scattered places, and then came no more.

    Args:
        told: The study's user attributes.
        pipeline: The pipeline that it tunes.
        ended: Its trials that have ended.
    """
    failed = [trial for trial in ended if trial.state is TrialState.FAIL]
    if not failed:
        return set()
    texts = told.get(FORGET, ())
    gone = set(told.get(FORGOTTEN, ()))
    observers = {each.name: each.observer for each in pipeline.stages}
    alike: dict[tuple[str | None, str], list[FrozenTrial]] = {}
    for trial in failed:
        attrs = trial.user_attrs
        error, stage = attrs.get("error", ""), attrs.get("failed_stage")
        code, observer = attrs.get("failed_code"), attrs.get("failed_observer")
        if (
            any(text in error for text in texts)
            or (code is not None and code != code_up_to(pipeline.layout, stage))
            or (observer is not None and observer != _fingerprint(observers.get(str(stage))))
        ):
            gone.add(trial.number)
        elif TRACEBACK in error:  # what a caller has told as failed says nothing of its cause
            alike.setdefault((stage, error_line(error)), []).append(trial)
    successes = [trial for trial in ended if trial.state is TrialState.COMPLETE]
    for group in alike.values():
        first, last = group[0].number, group[-1].number
        since = [trial for trial in successes if trial.number > last]
        is_unbroken = not any(first < trial.number < last for trial in successes)
        if since and is_unbroken and _are_scattered(group, since, pipeline):
            gone.update(trial.number for trial in group)
    return gone


def _fingerprint(observer: Observer | None) -> str | None:
    return None if observer is None else observer.fingerprint


def _are_scattered(
    group: Sequence[FrozenTrial], since: Sequence[FrozenTrial], pipeline: Pipeline
) -> bool:
    """Whether failures are spread over the whole space, so that no region of it is their cause.

    Args:
        group: The trials that have failed.
        since: Those that have succeeded since.
        pipeline: The pipeline.
    """
    if len(group) < LEAST_ALIKE:
        return False
    X, succeeded = (pipeline.cube.encode([t.params for t in each]) for each in (group, since))
    spread = 12.0 * X.var(axis=0, ddof=1)
    for column in pipeline.cube.categorical_columns:
        spread[column] = len(np.unique(X[:, column])) > 1
        if not spread[column] and X[0, column] not in succeeded[:, column]:
            return False
    several = [cells != 1 for cells in pipeline.cube.cells]
    return bool(several and np.mean(spread[several].clip(max=1.0)) >= SCATTERED)
