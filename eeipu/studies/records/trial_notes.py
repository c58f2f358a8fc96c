"""What is written down of a trial: in one go, and in a form by which tables can sort."""

from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import TrialUserAttributeModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.storages.journal._storage import JournalOperation

__all__ = ["TrialNotes", "flat_notes"]


class TrialNotes:
    """User attributes of a trial that are written together, where the storage can do that.

    A database takes its time for each write, however much is written.

    Args:
        trial: The trial.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._attrs: dict[str, Any] = {}

    def set_user_attr(self, key: str, value: Any) -> None:
        """Note an attribute, which `write` writes."""
        self._attrs[key] = value

    def write(self) -> None:
        """Write what was noted into the trial.

        Raises:
            UpdateFinishedTrialError: The trial has ended.
        """
        trial_id, storage = self._trial._trial_id, self._trial.storage
        if isinstance(storage, _CachedStorage):
            storage = storage._backend
        if isinstance(storage, RDBStorage):
            with _create_scoped_session(storage.scoped_session, True) as session:
                for key, value in self._attrs.items():
                    storage._set_trial_attr_without_commit(
                        session, TrialUserAttributeModel, trial_id, key, value
                    )
        elif isinstance(storage, JournalStorage):
            _append_to_journal(storage, trial_id, self._attrs)
        elif isinstance(storage, InMemoryStorage):
            with storage._lock:  # one copy of the trial, and not one for each attribute
                trial = copy(storage._get_trial(trial_id))
                storage.check_trial_is_updatable(trial_id, trial.state)
                trial.user_attrs = {**trial.user_attrs, **self._attrs}
                storage._set_trial(trial_id, trial)
        else:
            for key, value in self._attrs.items():
                storage.set_trial_user_attr(trial_id, key, value)
        self._trial._cached_frozen_trial.user_attrs.update(self._attrs)
        self._attrs = {}


def _append_to_journal(storage: JournalStorage, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Append all attributes to a journal at once.

    Raises:
        UpdateFinishedTrialError: The trial has ended.
    """
    whose = {
        "op_code": JournalOperation.SET_TRIAL_USER_ATTR,
        "worker_id": storage._replay_result.worker_id,
        "trial_id": trial_id,
    }
    logs = [{**whose, "user_attr": {key: value}} for key, value in attrs.items()]
    refused = None
    with storage._thread_lock:
        storage._backend.append_logs(logs)
        # Reading them raises an error for each that is refused, also if somebody else reads next.
        for _ in range(len(logs) + 1):
            try:
                storage._sync_with_backend()
            except UpdateFinishedTrialError as error:
                refused = error
            else:
                break
    if refused is not None:
        raise refused


def flat_notes(
    stage_names: Sequence[str],
    costs: Sequence[float | None],
    reused: Sequence[bool],
    metrics: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """What a trial's stages cost, and its metrics, with a name each, by which tables can sort.

    Args:
        stage_names: The names of the stages.
        costs: The cost of each; `None` where it was not executed.
        reused: Whether each was reused.
        metrics: The metrics.

    Returns:
        `cost:STAGE` of each stage that was executed, `reused:STAGE` of each that was reused (1, as
        Optuna's dashboard sorts by numbers alone), and `metric:NAME`.
    """
    paid = zip(stage_names, costs, strict=True)
    free = zip(stage_names, reused, strict=True)
    return {
        **{f"cost:{name}": cost for name, cost in paid if cost is not None},
        **{f"reused:{name}": 1 for name, is_reused in free if is_reused},
        **{f"metric:{name}": metric for name, metric in metrics.items()},
    }
