"""What is written down of a trial: in one go, and in a form by which tables can sort."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial

__all__ = ["TrialNotes", "flat_notes", "written_together"]

# The storages in which the start of a running trial can be moved.
_MOVABLE = (RDBStorage, InMemoryStorage)


@dataclass
class _Noted:
    """What is to be written into a trial.

    Attributes:
        params: Hyper-parameter -> its value, in the form that storages keep, and its distribution.
        reports: Step -> the value that was reported.
        system_attrs: What Optuna itself knows of the trial.
        user_attrs: The user attributes.
        starts_at: When the trial has started, if that is to be moved.
    """

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    reports: dict[int, float] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    starts_at: datetime | None = None


class TrialNotes:
    """What is written into a trial together, where its storage can do that.

    A database takes its time for each write, however much is written. In a database and in memory,
    others see of a trial either all attributes that are written or none.

    Args:
        trial: The trial.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self._noted = _Noted()

    def start_now(self, choosing_s: float) -> None:
        """Let the trial have started now, and not when it was created to be chosen for.

        Its duration, which Optuna's dashboard shows, is then that of its stages. When the choice
        began is noted as `asked_at`, in seconds since 1970. A journal, or a storage of the user's
        own, has no way to do this; then nothing is noted.

        Args:
            choosing_s: How many seconds the choice of its configuration has taken.
        """
        if isinstance(_plain(self._trial.storage), _MOVABLE):
            self._noted.starts_at = datetime.now()
            self.set_user_attr("asked_at", self._noted.starts_at.timestamp() - choosing_s)

    def set_user_attr(self, key: str, value: Any) -> None:
        """Note an attribute, which `write` writes."""
        self._noted.user_attrs[key] = copy.deepcopy(value)  # who notes it may change it later

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Note what the trial itself would write within this block, but for user attributes.

        The trial knows what it suggests and reports at once, and others know it after `write`.
        """
        storage = self._trial.storage
        _own_copy(self._trial)
        self._trial.storage = cast(BaseStorage, _Gathering(storage, self._noted))
        try:
            yield
        finally:
            self._trial.storage = storage

    def write(self) -> None:
        """Write what was noted into the trial, but for the attributes that it has already.

        These are those that this object knows of: nobody else may write them meanwhile.

        Raises:
            UpdateFinishedTrialError: The trial has ended.
        """
        noted, self._noted = self._noted, _Noted()
        known = self._trial._cached_frozen_trial.user_attrs
        noted.user_attrs = {
            name: value
            for name, value in noted.user_attrs.items()
            if name not in known or known[name] != value
        }
        if noted == _Noted():  # an empty line would end a journal
            return
        trial_id, storage = self._trial._trial_id, _plain(self._trial.storage)
        if isinstance(storage, RDBStorage):
            known_distributions = _distributions(self._trial) if noted.params else {}
            _write_to_database(storage, trial_id, noted, known_distributions)
        elif isinstance(storage, JournalStorage):
            _append_to_journal(storage, trial_id, noted)
        elif isinstance(storage, InMemoryStorage):
            _write_one_by_one(storage, trial_id, noted)
            _set_in_memory(storage, trial_id, noted)
        else:
            _write_one_by_one(storage, trial_id, noted)
            for key, value in noted.user_attrs.items():
                storage.set_trial_user_attr(trial_id, key, value)
        own = _own_copy(self._trial)
        own.user_attrs.update(noted.user_attrs)
        if noted.starts_at is not None:
            own.datetime_start = noted.starts_at


@contextmanager
def written_together(trial: optuna.Trial) -> Iterator[None]:
    """Write what a trial suggests and reports within this block at its end, also after an error."""
    notes = TrialNotes(trial)
    try:
        with notes.gathering():
            yield
    finally:
        notes.write()


class _Gathering:
    """Stands in for the storage of a trial, and notes what the trial writes.

    Args:
        storage: The storage, which answers everything else.
        noted: Where this is noted.
    """

    def __init__(self, storage: BaseStorage, noted: _Noted) -> None:
        self._storage = storage
        self._noted = noted

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of Python's own, which copies look for
            raise AttributeError(name)
        return getattr(self._storage, name)

    def set_trial_param(
        self, _: int, name: str, value: float, distribution: BaseDistribution
    ) -> None:
        self._noted.params[name] = value, distribution

    def set_trial_intermediate_value(self, _: int, step: int, value: float) -> None:
        self._noted.reports[step] = value

    def set_trial_system_attr(self, _: int, key: str, value: Any) -> None:
        self._noted.system_attrs[key] = value


def _own_copy(trial: optuna.Trial) -> FrozenTrial:
    """What a trial knows of itself, to be changed; storages in memory give away what they have."""
    own = trial._cached_frozen_trial = copy.copy(trial._cached_frozen_trial)
    own.params, own.distributions = dict(own.params), dict(own.distributions)
    own.user_attrs, own.system_attrs = dict(own.user_attrs), dict(own.system_attrs)
    own.intermediate_values = dict(own.intermediate_values)
    return own


def _plain(storage: BaseStorage) -> BaseStorage:
    return storage._backend if isinstance(storage, _CachedStorage) else storage


def _distributions(trial: optuna.Trial) -> dict[str, BaseDistribution]:
    """The distributions that Optuna remembers for the study of a trial in a database."""
    storage = trial.storage
    if not isinstance(storage, _CachedStorage):
        return {}
    study_id, _ = storage._trial_id_to_study_id_and_number[trial._trial_id]
    return storage._studies[study_id].param_distribution


def _write_to_database(
    storage: RDBStorage, trial_id: int, noted: _Noted, known: dict[str, BaseDistribution]
) -> None:
    """Write into a database, in one transaction.

    Args:
        storage: The database.
        trial_id: The storage's name of the trial.
        noted: What is written.
        known: Hyper-parameter -> the distribution that others must be compatible with; those that
            are new are added. The database is asked for the others.
    """
    from optuna.storages._rdb import models  # which import SQLAlchemy

    with _create_scoped_session(storage.scoped_session, True) as session:
        for name, (value, distribution) in noted.params.items():
            storage._set_trial_param_without_commit(
                session, trial_id, name, value, distribution, known.get(name)
            )
        for step, value in noted.reports.items():
            storage._set_trial_intermediate_value_without_commit(session, trial_id, step, value)
        for model, attrs in (
            (models.TrialSystemAttributeModel, noted.system_attrs),
            (models.TrialUserAttributeModel, noted.user_attrs),
        ):
            for key, each in attrs.items():
                storage._set_trial_attr_without_commit(session, model, trial_id, key, each)
        if noted.starts_at is not None:
            trial = models.TrialModel.find_or_raise_by_id(trial_id, session)
            trial.datetime_start = noted.starts_at
    for name, (_, distribution) in noted.params.items():
        known.setdefault(name, distribution)


def _write_one_by_one(storage: BaseStorage, trial_id: int, noted: _Noted) -> None:
    """Write all but user attributes, by means of what every storage of Optuna's can do."""
    for name, (value, distribution) in noted.params.items():
        storage.set_trial_param(trial_id, name, value, distribution)
    for step, value in noted.reports.items():
        storage.set_trial_intermediate_value(trial_id, step, value)
    for key, each in noted.system_attrs.items():
        storage.set_trial_system_attr(trial_id, key, each)


def _set_in_memory(storage: InMemoryStorage, trial_id: int, noted: _Noted) -> None:
    """Set user attributes and the start: one copy of the trial, and not one for each attribute."""
    with storage._lock:
        trial = copy.copy(storage._get_trial(trial_id))  # others may hold the old one
        storage.check_trial_is_updatable(trial_id, trial.state)
        trial.user_attrs = {**trial.user_attrs, **noted.user_attrs}
        if noted.starts_at is not None:
            trial.datetime_start = noted.starts_at
        storage._set_trial(trial_id, trial)


def _append_to_journal(storage: JournalStorage, trial_id: int, noted: _Noted) -> None:
    """Append everything to a journal at once.

    Raises:
        UpdateFinishedTrialError: The trial has ended.
    """
    whose = {"worker_id": storage._replay_result.worker_id, "trial_id": trial_id}
    logs = [{**whose, "op_code": operation, **what} for operation, what in _as_logs(noted)]
    refused: Exception | None = None
    with storage._thread_lock:
        storage._backend.append_logs(logs)
        # Reading them raises an error for each that is refused, also if somebody else reads next.
        for _ in range(len(logs) + 1):
            try:
                storage._sync_with_backend()
            except (UpdateFinishedTrialError, ValueError) as error:  # it has other distributions
                refused = error
            else:
                break
    if refused is not None:
        raise refused


def _as_logs(noted: _Noted) -> Iterator[tuple[JournalOperation, dict[str, Any]]]:
    """Yield the entries of a journal: what they do, and with which values."""
    for name, (value, distribution) in noted.params.items():
        param = {"param_name": name, "param_value_internal": value}
        given = {**param, "distribution": distribution_to_json(distribution)}
        yield JournalOperation.SET_TRIAL_PARAM, given
    for step, value in noted.reports.items():
        report = {"step": step, "intermediate_value": value}
        yield JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE, report
    for key, each in noted.system_attrs.items():
        yield JournalOperation.SET_TRIAL_SYSTEM_ATTR, {"system_attr": {key: each}}
    for key, each in noted.user_attrs.items():
        yield JournalOperation.SET_TRIAL_USER_ATTR, {"user_attr": {key: each}}


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
