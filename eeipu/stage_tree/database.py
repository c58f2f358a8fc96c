"""Where a search plan survives its process: one SQLite file, or nothing.

The stage tree itself is not stored, because it follows from the paths that were requested, in any
order. Stored are these paths, the requests, and what is known of every node that has ever run.
"""

import json
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, NamedTuple
from urllib.parse import quote

from eeipu.errors import ConfigurationError

__all__ = ["NodeRow", "PlanDatabase", "RequestRow"]

# Raised whenever the tables or their meaning change.
FORMAT = 3

# A writer keeps others waiting for the moments in which it puts its journal into the file.
READ_TIMEOUT_S = 10.0

_TABLES = """
CREATE TABLE IF NOT EXISTS plan (name TEXT);
CREATE TABLE IF NOT EXISTS paths (id INTEGER PRIMARY KEY, key TEXT UNIQUE, path TEXT);
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, study TEXT, trial INTEGER, path INTEGER, state TEXT, value TEXT);
CREATE TABLE IF NOT EXISTS nodes (
    key TEXT PRIMARY KEY, cost_s REAL, payer TEXT, value TEXT, error TEXT, has_state INTEGER,
    losses INTEGER);
CREATE TABLE IF NOT EXISTS payments (
    study TEXT, purpose TEXT, seconds REAL, PRIMARY KEY (study, purpose));
CREATE TABLE IF NOT EXISTS releases (study TEXT, trial INTEGER, PRIMARY KEY (study, trial));
"""


class RequestRow(NamedTuple):
    """A request as it is stored.

    Attributes:
        id: The request's number.
        study: The study that asks.
        trial: The trial that it asks for.
        path: The key of the requested path.
        state: The request's state.
        value: The value of an answer that belongs to this request alone, as JSON; else `None`.
    """

    id: int
    study: str
    trial: int
    path: str
    state: str
    value: str | None = None


class NodeRow(NamedTuple):
    """What is known of a node; see `eeipu.stage_tree.nodes.PlanNode` for the meaning of each."""

    key: str
    cost_s: float | None
    payer: str | None
    value: Any
    error: str | None
    has_state: bool
    losses: int


class PlanDatabase:
    """The tables of a search plan.

    A change is stored when the call returns and survives the death of the process. A machine that
    loses its power may lose the last changes, which are then computed again.

    One process at a time writes, which a file `*.lock` beside it says. Any other may read it
    meanwhile.

    Args:
        location: The file; `None` stores nothing.
        read_only: Whether to leave the file as it is: changes are then not stored.

    Raises:
        ConfigurationError: The file is in use, is no plan, or has another format.

    Attributes:
        location: The file.
        name: A name that no other plan has. A plan in a file keeps it.
    """

    def __init__(self, location: str | FilePath | None, *, read_only: bool = False) -> None:
        self.location = location
        self.name = f"plan {uuid.uuid4().hex}"
        self._is_read_only = read_only
        self._db: sqlite3.Connection | None = None
        self._lock: sqlite3.Connection | None = None
        if location is not None:
            try:
                if read_only:
                    self._db = _open_to_read(FilePath(location))
                else:
                    self._lock = _lock(FilePath(location))
                    self._db = _open(FilePath(location), self.name)
                self.name = str(self._db.execute("SELECT name FROM plan").fetchone()[0])
            except sqlite3.Error as error:
                remedy = (
                    "name the file of a plan."
                    if read_only
                    else "one SearchPlan at a time can have it: close it if it is in this process "
                    "(use it as a context), end the other process, or choose another file."
                )
                raise ConfigurationError(
                    f"the search plan {str(location)!r} cannot be opened ({error}); {remedy}"
                ) from error

    def close(self) -> None:
        """Close the file, so that another plan can open it."""
        for connection in (self._db, self._lock):
            if connection is not None:
                connection.close()
        self._db = self._lock = None

    def add_request(self, row: RequestRow, path: str) -> None:
        """Store a new request, and its path unless that is stored already.

        Args:
            row: The request.
            path: The path as text.
        """
        self._write(
            (
                "INSERT INTO paths (key, path) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (row.path, path),
            ),
            (
                "INSERT INTO requests SELECT ?, ?, ?, id, ?, ? FROM paths WHERE key = ?",
                (row.id, row.study, row.trial, row.state, row.value, row.path),
            ),
        )

    def set_state(self, request: int, state: str, value: str | None = None) -> None:
        """Store a request's state, and its value where this request alone was answered with it."""
        self._write(
            ("UPDATE requests SET state = ?, value = ? WHERE id = ?", (state, value, request))
        )

    def put_node(self, row: NodeRow) -> None:
        """Store what is known of a node."""
        stored = row._replace(value=None if row.value is None else json.dumps(row.value))
        self._write(("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?)", stored))

    def set_paid(self, study: str, purpose: str, seconds: float) -> None:
        """Store the total that a study has paid for a purpose."""
        statement = "INSERT OR REPLACE INTO payments VALUES (?, ?, ?)"
        self._write((statement, (study, purpose, seconds)))

    def set_released(self, study: str, trial: int, *, is_released: bool) -> None:
        """Store whether a trial was released, so that it holds no state."""
        statement = (
            "INSERT OR REPLACE INTO releases VALUES (?, ?)"
            if is_released
            else "DELETE FROM releases WHERE study = ? AND trial = ?"
        )
        self._write((statement, (study, trial)))

    def _write(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """Make all these changes in one transaction.

        Raises:
            ConfigurationError: They cannot be written, for example on a full disk.
        """
        if self._db is None or self._is_read_only:
            return
        try:
            self._db.execute("BEGIN")
            for statement, values in statements:
                self._db.execute(statement, values)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise ConfigurationError(
                f"the search plan {str(self.location)!r} cannot be written ({error}); make room "
                f"and run it again: what was stored before is there."
            ) from error

    def payments(self) -> Iterator[tuple[str, str, float]]:
        """Yield each study and the total that it has paid for each purpose, in seconds."""
        if self._db is not None:
            yield from self._db.execute("SELECT study, purpose, seconds FROM payments")

    def releases(self) -> Iterator[tuple[str, int]]:
        """Yield the trials that were released, as study and number."""
        if self._db is not None:
            yield from self._db.execute("SELECT study, trial FROM releases")

    def paths(self) -> Iterator[tuple[str, str]]:
        """Yield the key and text of every path, in the order of the first requests."""
        if self._db is not None:
            yield from self._db.execute("SELECT key, path FROM paths ORDER BY id")

    def requests(self) -> Iterator[RequestRow]:
        """Yield all requests, oldest first."""
        if self._db is not None:
            query = (
                "SELECT r.id, study, trial, key, state, value FROM requests r JOIN paths p "
                "ON r.path = p.id ORDER BY r.id"
            )
            yield from map(RequestRow._make, self._db.execute(query))

    def nodes(self) -> Iterator[NodeRow]:
        """Yield every node of which something is known."""
        if self._db is not None:
            for row in map(NodeRow._make, self._db.execute("SELECT * FROM nodes")):
                value = None if row.value is None else json.loads(row.value)
                yield row._replace(value=value, has_state=bool(row.has_state))


def _open(location: FilePath, name: str) -> sqlite3.Connection:
    """Open the file, and create what it lacks.

    Raises:
        ConfigurationError: The file has another format.
    """
    # The plan is called from one thread at a time, but not always from the one that made it.
    db = sqlite3.connect(location, timeout=0.0, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")  # in which readers do not wait for the writer
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("BEGIN IMMEDIATE")
    _check_format(db, location, (0, FORMAT))
    for statement in _TABLES.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO plan SELECT ? WHERE NOT EXISTS (SELECT * FROM plan)", (name,))
    db.execute(f"PRAGMA user_version={FORMAT}")
    db.execute("COMMIT")
    return db


def _open_to_read(location: FilePath) -> sqlite3.Connection:
    """Open a file that another process may be writing, and look at it as it is at this moment.

    Raises:
        ConfigurationError: The file has another format.
    """
    address = f"file:{quote(str(location.absolute()))}?mode=ro"
    db = sqlite3.connect(address, uri=True, timeout=READ_TIMEOUT_S, isolation_level=None)
    db.execute("BEGIN")
    _check_format(db, location, (FORMAT,))
    return db


def _lock(location: FilePath) -> sqlite3.Connection:
    """Take the lock of a plan, which the operating system gives back when this process ends."""
    lock = sqlite3.connect(
        f"{location}.lock", timeout=0.0, isolation_level=None, check_same_thread=False
    )
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error:
        lock.close()
        raise
    return lock


def _check_format(db: sqlite3.Connection, location: FilePath, formats: tuple[int, ...]) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in formats:
        db.close()
        raise ConfigurationError(
            f"the search plan {str(location)!r} has the format {version}, and this version "
            f"of eeipu reads {FORMAT}; choose another file."
        )
