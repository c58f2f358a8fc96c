"""Opening the database of a study so that several driver processes can use it at once.

It is also opened for readers, who lock nothing.

Whatever the libraries below raise on the way becomes an error that names the database, without its
password, and the remedy.
"""

import random
import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from eeipu.errors import ConfigurationError, MissingExtraError, StorageError

__all__ = [
    "GRACE_PERIOD_S",
    "HEARTBEAT_S",
    "open_storage",
    "read_storage",
    "using_storage",
]

# SQLite has one writer at a time; the others wait for it, and a busy disk may take seconds.
SQLITE_TIMEOUT_S = 120.0

# Processes that start together try to create the same tables, and all but one of them fail. At the
# next try they find the tables. A wrong address or an unreachable server fails at every try.
TRIES = 6
PAUSE_S = 0.5  # at most, between two tries

# How often a running trial records a heartbeat, and how long it may record none before its driver
# is taken for dead. A machine that swaps, or a network that fails for a minute, is not dead.
HEARTBEAT_S = 30
GRACE_PERIOD_S = 180


def open_storage(url: str, *, pause: Callable[[float], None] = time.sleep) -> RDBStorage:
    """Open a database so that several drivers can work on one study in it.

    Running trials record heartbeats there. In SQLite every transaction waits for the write lock
    when it begins, not when it first writes: what it has read cannot change before it writes, and
    two drivers cannot take the same enqueued trial.

    Args:
        url: A URL of SQLAlchemy's, such as `"sqlite:///tune.db"` or `"postgresql+psycopg://..."`.
        pause: A function that waits for a number of seconds, between two tries.

    Raises:
        ConfigurationError: The URL is malformed, or the database cannot be opened.
        MissingExtraError: The library that opens such a database is not installed.
    """
    address = _checked_url(url)
    is_sqlite = address.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = (
        {"connect_args": {"timeout": SQLITE_TIMEOUT_S}} if is_sqlite else {"pool_pre_ping": True}
    )
    for tries_left in reversed(range(TRIES)):
        try:
            storage = _connect(url, arguments)
        except (DBAPIError, StorageInternalError, RuntimeError) as error:
            if tries_left == 0 or _is_final(error):
                raise ConfigurationError(
                    f"the storage {address!r} cannot be opened: {_said(error)}; {_remedy(error)}"
                ) from error
            # A random pause, so that the processes do not meet again at the next try.
            pause(PAUSE_S * random.random())  # noqa: S311 - nothing secret, nothing repeatable
            continue
        if is_sqlite:
            _begin_immediately(storage)
        return storage
    raise AssertionError  # pragma: no cover - the last try returns or raises


def read_storage(place: str) -> BaseStorage:
    """Open a storage to look at its studies, which may be running. Nothing can be written to it.

    Unlike with `open_storage`, no transaction takes a lock that drivers would have to wait for.

    Args:
        place: A URL of SQLAlchemy's, or the path of a file: of SQLite, or of a journal of Optuna's.

    Raises:
        ConfigurationError: There is no such storage, or it holds no studies of Optuna.
        MissingExtraError: The library that opens such a database is not installed.
    """
    path = Path(place).expanduser()
    if "://" not in place:
        if not path.is_file():
            raise ConfigurationError(
                f"there is no storage at {place!r}; give the file of a study, such as tune.db, or "
                f'a URL such as "sqlite:///tune.db".'
            )
        return _read_sqlite(path) if _is_sqlite(path) else _read_journal(path)
    address = _checked_url(place)
    if address.get_backend_name() == "sqlite":
        file = Path(address.database or "")
        if not file.is_file():
            raise ConfigurationError(
                f"there is no file {str(file)!r}; check the path in {place!r}."
            )
        return _read_sqlite(file)
    try:
        return RDBStorage(place, engine_kwargs={"pool_pre_ping": True}, skip_table_creation=True)
    except ImportError as error:
        raise MissingExtraError(_missing_library(repr(address), error)) from error
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise ConfigurationError(
            f"the storage {address!r} cannot be opened: {_said(error)}; {_remedy(error)}"
        ) from error


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _read_sqlite(path: Path) -> RDBStorage:
    """Open a file of SQLite for queries alone."""
    # Not `mode=ro`, which cannot undo what a process left half-written when it was killed.
    uri = f"{path.resolve().as_uri()}?mode=rw"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=SQLITE_TIMEOUT_S, check_same_thread=False
        )
        connection.execute("PRAGMA query_only = ON")
        return connection

    try:
        return RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"creator": connect}, skip_table_creation=True
        )
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
        raise ConfigurationError(
            f"{str(path)!r} cannot be read as a storage of studies: {_said(error)}; "
            f"{_remedy(error)}"
        ) from error


def _read_journal(path: Path) -> JournalStorage:
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # whatever the lines of any other file lead to
        raise ConfigurationError(
            f"{str(path)!r} is neither a file of SQLite nor a journal of Optuna's: {error!r}; give "
            f"the storage of a study."
        ) from error


@contextmanager
def using_storage() -> Iterator[None]:
    """Say what to do about a storage that fails. Also a decorator.

    Raises:
        StorageError: In place of the errors of Optuna's storages and of SQLAlchemy.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageError(
            f"the study's storage failed: {_said(error)}; {_remedy(error)} The same call on the "
            f"same storage then goes on; the trials that have ended are stored."
        ) from error


def _checked_url(url: str) -> URL:
    """A URL in its parts, after a look at whether there can be a database.

    Raises:
        ConfigurationError: There cannot.
    """
    shown = re.sub("://([^:/@]*):[^@]*@", r"://\1:***@", url)
    try:
        address = make_url(url)
        address.get_dialect()
    except ImportError as error:
        raise MissingExtraError(_missing_library(shown, error)) from error
    except (SQLAlchemyError, ValueError) as error:
        raise ConfigurationError(
            f"the storage {shown!r} is not the URL of a database that is known here ({error}); "
            f'write "sqlite:///tune.db", "postgresql+psycopg://user:password@host/name" or '
            f'"mysql+pymysql://user:password@host/name".'
        ) from error
    file = address.database if address.get_backend_name() == "sqlite" else None
    if file and file != ":memory:" and not file.startswith("file:"):
        _check_file(shown, Path(file))
    return address


def _check_file(url: str, file: Path) -> None:
    if not file.parent.is_dir():
        tilde = " (~ stands for no folder in a URL)" if file.parts[0] == "~" else ""
        raise ConfigurationError(
            f"the storage {url!r} is to be a file in the folder {str(file.parent)!r}, which is not "
            f"there{tilde}; create the folder, or give the whole path after sqlite:///."
        )
    if file.is_dir():
        raise ConfigurationError(
            f"the storage {url!r} names a folder; name a file in it, such as tune.db."
        )


def _connect(url: str, arguments: dict[str, Any]) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, since Optuna 2.5
        try:
            return RDBStorage(
                url,
                engine_kwargs=arguments,
                heartbeat_interval=HEARTBEAT_S,
                grace_period=GRACE_PERIOD_S,
            )
        except ImportError as error:
            raise MissingExtraError(_missing_library(repr(make_url(url)), error)) from error


def _missing_library(shown: str, error: ImportError) -> str:
    return (
        f"the library that opens {shown} is not installed ({error}); for "
        f'"postgresql+psycopg://...", pip install "eeipu[postgresql]", and for '
        f'"mysql+pymysql://...", pip install pymysql.'
    )


def _is_final(error: Exception) -> bool:
    """Whether another try is no use: each waits for a lock, and files do not change."""
    return any(words in _said(error) for words in ("locked", "not a database", "compatible"))


def _said(error: BaseException) -> str:
    """What the database itself said, in one line."""
    while isinstance(error, SQLAlchemyError | StorageInternalError) and (
        error.__cause__ is not None or getattr(error, "orig", None) is not None
    ):
        error = getattr(error, "orig", None) or error.__cause__ or error
    return " ".join(str(error).split())


# What databases say, and what to do about it.
_REMEDIES = {
    "locked": "another process holds it for minutes; end that process, or give each study a file.",
    "not a database": "choose another file, or remove this one.",
    "no such table": "give the storage that the tuner was given.",
    "readonly": "make the file and its folder writable for this user, or choose another file.",
    "unable to open": "make the file and its folder writable for this user, or choose another.",
    "too long": "choose a shorter study_name.",
    "full": "make room on the disk.",
    "compatible": "run `optuna storage upgrade --storage URL`, or choose another storage.",
}


def _remedy(error: Exception) -> str:
    said = _said(error)
    for words, remedy in _REMEDIES.items():
        if words in said:
            return remedy
    return "check that its server runs, and the host, port, user and password in the URL."


def _begin_immediately(storage: RDBStorage) -> None:
    """Take SQLite's write lock when a transaction begins, not when it first writes.

    Nothing else is set. A write-ahead log (`PRAGMA journal_mode=WAL`) would sync once for a
    transaction, and not four times; but the file keeps that mode, and on a network disk it fails,
    as the processes share no memory. With `synchronous=NORMAL` a power failure can damage the file.
    The other modes of the journal sync no less often.

    Python's SQLite driver begins a transaction only before the first statement that writes. Another
    process could then change what the transaction has read before that.
    """

    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(storage.engine, "connect", leave_transactions_to_us)
    event.listen(storage.engine, "begin", begin)
    storage.engine.dispose()  # close the connections that were opened without this
