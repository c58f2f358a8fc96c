"""Where a search plan survives its process: one SQLite file, or nothing.

The tree itself is not stored: it follows from the paths that were requested, in any order. What
is stored are the paths, the requests, and what is known of each node that was ever run.
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from eeipu.errors import ConfigurationError

__all__ = ["NodeRow", "PlanStore", "RequestRow"]

# Raised whenever the meaning of a table changes.
FORMAT = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS paths (id INTEGER PRIMARY KEY, key TEXT UNIQUE, path TEXT);
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY, study TEXT, trial INTEGER, path INTEGER, state TEXT);
CREATE TABLE IF NOT EXISTS nodes (
    key TEXT PRIMARY KEY, cost_s REAL, payer TEXT, value TEXT, error TEXT, has_state INTEGER,
    losses INTEGER);
CREATE TABLE IF NOT EXISTS payments (study TEXT PRIMARY KEY, seconds REAL);
CREATE TABLE IF NOT EXISTS releases (study TEXT, trial INTEGER, PRIMARY KEY (study, trial));
"""


class RequestRow(NamedTuple):
    """A request as stored; `path` is the key of the path that was asked for."""

    id: int
    study: str
    trial: int
    path: str
    state: str


class NodeRow(NamedTuple):
    """What is known of a node, under the key of its end."""

    key: str
    cost_s: float | None
    payer: str | None
    value: Any
    error: str | None
    has_state: bool
    losses: int


class PlanStore:
    """The tables of a search plan.

    Every change is on disk when the call returns, as far as a killed process goes; a machine that
    loses its power may lose the last ones, and then computes them again.

    Args:
        location: A file; `None` keeps nothing.

    Raises:
        ConfigurationError: The file is in use, is no plan, or is of another version.
    """

    def __init__(self, location: str | FilePath | None) -> None:
        self.location = location
        self._db: sqlite3.Connection | None = None
        if location is not None:
            try:
                self._db = self._open(FilePath(location))
            except sqlite3.Error as error:
                raise ConfigurationError(
                    f"the search plan {str(location)!r} cannot be opened ({error}); one SearchPlan "
                    f"at a time can have it: close it if it is in this process (use it as a "
                    f"context), end the other process, or choose another file."
                ) from error

    def _open(self, location: FilePath) -> sqlite3.Connection:
        # The plan is called from one thread at a time, but not always from the one that made it.
        db = sqlite3.connect(location, timeout=0.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("BEGIN IMMEDIATE")  # takes the lock, which stays until the end
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, FORMAT):
            db.close()
            raise ConfigurationError(
                f"the search plan {str(location)!r} has the format {version}, and this version "
                f"of eeipu reads {FORMAT}; choose another file."
            )
        for statement in _TABLES.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version={FORMAT}")
        db.execute("COMMIT")
        return db

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def add_request(self, row: RequestRow, path: str) -> None:
        """Store a new request, and its path unless it is there."""
        self._write(
            (
                "INSERT INTO paths (key, path) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (row.path, path),
            ),
            (
                "INSERT INTO requests SELECT ?, ?, ?, id, ? FROM paths WHERE key = ?",
                (row.id, row.study, row.trial, row.state, row.path),
            ),
        )

    def set_state(self, request: int, state: str) -> None:
        """Store what has become of a request."""
        self._write(("UPDATE requests SET state = ? WHERE id = ?", (state, request)))

    def put_node(self, row: NodeRow) -> None:
        """Store what is known of a node."""
        stored = row._replace(value=None if row.value is None else json.dumps(row.value))
        self._write(("INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?)", stored))

    def set_paid(self, study: str, seconds: float) -> None:
        """Store what a study has paid in all."""
        self._write(("INSERT OR REPLACE INTO payments VALUES (?, ?)", (study, seconds)))

    def set_released(self, study: str, trial: int, *, is_released: bool) -> None:
        """Store whether a trial has let go of its last state."""
        statement = (
            "INSERT OR REPLACE INTO releases VALUES (?, ?)"
            if is_released
            else "DELETE FROM releases WHERE study = ? AND trial = ?"
        )
        self._write((statement, (study, trial)))

    def _write(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        """Make all these changes, or none.

        Raises:
            ConfigurationError: They cannot be written, such as on a full disk.
        """
        if self._db is None:
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

    def payments(self) -> Iterator[tuple[str, float]]:
        """What each study has paid."""
        if self._db is not None:
            yield from self._db.execute("SELECT study, seconds FROM payments")

    def releases(self) -> Iterator[tuple[str, int]]:
        """The trials that have let go of their last states."""
        if self._db is not None:
            yield from self._db.execute("SELECT study, trial FROM releases")

    def paths(self) -> Iterator[tuple[str, str]]:
        """The key and text of every path, in the order of their first request."""
        if self._db is not None:
            yield from self._db.execute("SELECT key, path FROM paths ORDER BY id")

    def requests(self) -> Iterator[RequestRow]:
        """All requests, oldest first."""
        if self._db is not None:
            query = (
                "SELECT r.id, study, trial, key, state FROM requests r JOIN paths p "
                "ON r.path = p.id ORDER BY r.id"
            )
            yield from map(RequestRow._make, self._db.execute(query))

    def nodes(self) -> Iterator[NodeRow]:
        """All nodes of which something is known."""
        if self._db is not None:
            for row in map(NodeRow._make, self._db.execute("SELECT * FROM nodes")):
                value = None if row.value is None else json.loads(row.value)
                yield row._replace(value=value, has_state=bool(row.has_state))
