"""What is written down of a trial: in one go, and in a form by which tables can sort."""

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.storages.journal._storage import JournalOperation

__all__ = ["TrialNotes", "flat_notes"]


# The storages in which the start of a running trial can be moved.
_MOVABLE = (RDBStorage, InMemoryStorage)


class TrialNotes:
    """User attributes of a trial that are written together, where the storage can do that.

    A database takes its time for each write, however much is written.

    Args:
        trial: The trial.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._attrs: dict[str, Any] = {}
        self._starts_at: datetime | None = None

    def start_now(self, choosing_s: float) -> None:
        """Let the trial have started now, and not when it was created to be chosen for.

        Its duration, which Optuna's dashboard shows, is then that of its stages. When the choice
        began is noted as `asked_at`, in seconds since 1970. A journal, or a storage of the user's
        own, has no way to do this; then nothing is noted.

        Args:
            choosing_s: How many seconds the choice of its configuration has taken.
        """
        if isinstance(_plain(self._trial.storage), _MOVABLE):
            self._starts_at = datetime.now()
            self.set_user_attr("asked_at", self._starts_at.timestamp() - choosing_s)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Note an attribute, which `write` writes."""
        self._attrs[key] = value

    def write(self) -> None:
        """Write what was noted into the trial.

        Raises:
            UpdateFinishedTrialError: The trial has ended.
        """
        if not self._attrs:  # an empty line would end a journal
            return
        trial_id, storage = self._trial._trial_id, _plain(self._trial.storage)
        if isinstance(storage, RDBStorage):
            with _create_scoped_session(storage.scoped_session, True) as session:
                for key, value in self._attrs.items():
                    storage._set_trial_attr_without_commit(
                        session, TrialUserAttributeModel, trial_id, key, value
                    )
                if self._starts_at is not None:
                    model = TrialModel.find_or_raise_by_id(trial_id, session)
                    model.datetime_start = self._starts_at
        elif isinstance(storage, JournalStorage):
            _append_to_journal(storage, trial_id, self._attrs)
        elif isinstance(storage, InMemoryStorage):
            with storage._lock:  # one copy of the trial, and not one for each attribute
                trial = copy.copy(storage._get_trial(trial_id))  # others may hold the old one
                storage.check_trial_is_updatable(trial_id, trial.state)
                trial.user_attrs = {**trial.user_attrs, **self._attrs}
                if self._starts_at is not None:
                    trial.datetime_start = self._starts_at
                storage._set_trial(trial_id, trial)
        else:
            for key, value in self._attrs.items():
                storage.set_trial_user_attr(trial_id, key, value)
        cached = self._trial._cached_frozen_trial
        cached.user_attrs.update(self._attrs)
        if self._starts_at is not None:
            cached.datetime_start = self._starts_at
        self._attrs, self._starts_at = {}, None


def _plain(storage: BaseStorage) -> BaseStorage:
    return storage._backend if isinstance(storage, _CachedStorage) else storage


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
