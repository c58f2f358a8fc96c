"""Loading a study to look at it, also while it runs."""

import optuna
from optuna.storages import BaseStorage

from eeipu.errors import ConfigurationError
from eeipu.studies.records.tuned_study import TunedStudy
from eeipu.studies.storages import read_storage, using_storage

__all__ = ["load_study", "studies_in"]


@using_storage()
def load_study(storage: str | BaseStorage, name: str | None = None) -> optuna.Study:
    """Load a study for reading. A study that is running is not disturbed.

    Args:
        storage: A URL, the path of a file of SQLite or of a journal, or a storage of Optuna's.
        name: The study's name; it may be left out where the storage has one study.

    Raises:
        ConfigurationError: There is no such storage or study, or there are several studies.
        StorageError: The storage fails.
    """
    opened = read_storage(storage) if isinstance(storage, str) else storage
    names = studies_in(opened)
    if name is None and len(names) == 1:
        name = names[0]
    if name is None or name not in names:
        found = f"it has {', '.join(map(repr, names))}" if names else "it has none"
        wanted = "say which study" if name is None else f"there is no study {name!r}"
        raise ConfigurationError(f"{wanted} of this storage: {found}; give --study NAME.")
    return TunedStudy(name, opened)


def studies_in(storage: BaseStorage) -> list[str]:
    """The names of all studies of a storage, in the order in which they were made."""
    return optuna.get_all_study_names(storage)
