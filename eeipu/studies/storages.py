"""Databases that several processes open and write at once."""

import random
import time
import warnings
from collections.abc import Callable
from typing import Any

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from eeipu.errors import MissingExtraError

__all__ = ["GRACE_PERIOD_S", "HEARTBEAT_S", "open_storage"]

# SQLite has one writer at a time; the others wait for it, and a busy disk may take seconds.
SQLITE_TIMEOUT_S = 120.0

# Processes that start together create the same tables, and all but one fail. Whoever comes
# again finds them there; a server that is away, or a wrong address, is told after this.
TRIES = 6
PAUSE_S = 0.5

# How often a running trial says that its driver lives, and how long it may be silent: a node
# that swaps, or a network that is away for a minute, is not dead.
HEARTBEAT_S = 30
GRACE_PERIOD_S = 180


def open_storage(url: str, *, pause: Callable[[float], None] = time.sleep) -> RDBStorage:
    """The database of that URL, fit for several drivers.

    Running trials have a heartbeat there. In SQLite every transaction takes the write lock as it
    begins, and waits for it: what was read is then still so when it is written, and two drivers
    cannot take the same enqueued trial.

    Args:
        url: As SQLAlchemy takes it, `"sqlite:///tune.db"` or `"postgresql+psycopg://..."`.
        pause: Waits so many seconds between two tries.

    Raises:
        sqlalchemy.exc.DBAPIError: The database cannot be opened.
        MissingExtraError: The library that talks to it is not installed.
    """
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    arguments: dict[str, Any] = (
        {"connect_args": {"timeout": SQLITE_TIMEOUT_S}} if is_sqlite else {"pool_pre_ping": True}
    )
    for tries_left in reversed(range(TRIES)):
        try:
            storage = _connect(url, arguments)
        except (DBAPIError, StorageInternalError):
            if tries_left == 0:
                raise
            # Not all together again.
            pause(PAUSE_S * random.random())  # noqa: S311 - nothing secret, nothing repeatable
            continue
        if is_sqlite:
            _begin_immediately(storage)
        return storage
    raise AssertionError  # pragma: no cover - the last try returns or raises


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
            raise MissingExtraError(
                f"the library that opens {make_url(url)!r} is not installed ({error}); for "
                f'"postgresql+psycopg://...", pip install "eeipu[postgresql]".'
            ) from error


def _begin_immediately(storage: RDBStorage) -> None:
    """Take SQLite's write lock when a transaction begins, not when it first writes.

    Python's driver begins a transaction only before a statement that changes something, so what
    was read before it may have changed meanwhile.
    """

    def leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(storage.engine, "connect", leave_transactions_to_us)
    event.listen(storage.engine, "begin", begin)
    storage.engine.dispose()  # connections from before
