"""The earlier studies that a user wants a search to learn from."""

from collections.abc import Iterable
from typing import Any

import optuna
from optuna.storages import BaseStorage

from eeipu.errors import ConfigurationError
from eeipu.studies.storages import read_storage, using_storage

__all__ = ["EarlierStudy", "earlier_studies"]

EarlierStudy = optuna.Study | tuple[str | BaseStorage, str]
"""A study, or its storage and its name."""


def earlier_studies(learn_from: EarlierStudy | Iterable[EarlierStudy]) -> list[optuna.Study]:
    """Load the studies.

    Args:
        learn_from: What the user has given.

    Raises:
        ConfigurationError: Something is no study, or there is no such storage, or none of that name
            in it.
        StorageError: A storage fails.
    """
    is_one = isinstance(learn_from, optuna.Study) or _is_pair(learn_from)
    if not is_one and (isinstance(learn_from, str) or not isinstance(learn_from, Iterable)):
        raise ConfigurationError(
            f"learn_from must be a list of studies, or of pairs of a storage and a study's name, "
            f"but got {learn_from!r}."
        )
    given: Any = [learn_from] if is_one else learn_from
    return [_loaded(each) for each in given]


def _loaded(each: Any) -> optuna.Study:
    if isinstance(each, optuna.Study):
        return each
    if not _is_pair(each):
        raise ConfigurationError(
            f"learn_from has {each!r:.200}, which is neither a study nor a pair of a storage and a "
            f"study's name; of a Tuner, give tuner.study."
        )
    storage, name = each
    with using_storage():
        opened = read_storage(storage) if isinstance(storage, str) else storage
        try:
            return optuna.load_study(study_name=name, storage=opened)
        except KeyError as error:
            known = [summary.study_name for summary in optuna.get_all_study_summaries(opened)]
            raise ConfigurationError(
                f"learn_from names the study {name!r}, but its storage has {known}."
            ) from error


def _is_pair(each: Any) -> bool:
    return (
        isinstance(each, tuple)
        and len(each) == 2
        and isinstance(each[0], str | BaseStorage)
        and isinstance(each[1], str)
    )
