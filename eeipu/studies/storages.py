"""Opening the database of a study so that several driver processes can use it at once."""

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
        sqlalchemy.exc.DBAPIError: The database cannot be opened.
        MissingExtraError: The library that opens such a database is not installed.
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
            # A random pause, so that the processes do not meet again at the next try.
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
