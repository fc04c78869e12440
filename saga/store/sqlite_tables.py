"""The SQLite file itself: how it is opened, how its errors read, and the migrations that give it our tables."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from saga.errors import StoreConflict, StoreError
from saga.store.statements import Migration
from saga.store.tables import Tables


def connect(path: str, busy_timeout: float) -> sqlite3.Connection:
    """A connection in WAL mode that flushes every commit and begins nothing by itself.

    As long as it is open no other file takes the place of this one; one that did meanwhile is opened instead.
    """
    while True:
        before = _identity(path)
        try:
            connection = _opened(path, busy_timeout)
        except StoreError:
            if before is None or _identity(path) in {before, None}:
                raise
        else:
            if before is not None and _identity(path) == before:
                return connection
            connection.close()


def _identity(path: str) -> tuple[int, int] | None:
    """What tells the file from another one that has its name later; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _opened(path: str, busy_timeout: float) -> sqlite3.Connection:
    with engine_statements(path), ExitStack() as opening:
        connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        opening.callback(connection.close)
        if (mode := _write_ahead(connection)) != "wal":
            raise StoreError(f"{path} is in journal mode {mode!r} and cannot change to 'wal': put it on a local file system")
        connection.execute("PRAGMA synchronous = FULL")
        # a batch of 200 workflows dirties up to 4 MB: by default it spills before the commit and is checkpointed after each
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        opening.pop_all()
        return connection


def _write_ahead(connection: sqlite3.Connection) -> str:
    """The journal mode after asking for WAL; of connections that ask at once, all but one are refused without a wait."""
    for _ in range(10):
        with suppress(sqlite3.OperationalError):
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
    return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])


@contextmanager
def engine_statements(path: str) -> Iterator[None]:
    """Turn the driver's errors inside the block into StoreError; what handlers execute stays outside such blocks."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(path, error) from error


def store_error(path: str, error: sqlite3.Error) -> StoreError:
    """The driver's error in the words of the port: StoreConflict where another transaction was in the way."""
    code = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if code == "SQLITE_BUSY_SNAPSHOT":
        return StoreConflict(
            f"{path}: database is locked for this transaction, which has read before another connection wrote. "
            f"Roll back and begin again with BEGIN IMMEDIATE."
        )
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreConflict(
            f"{path}: database is locked: another connection keeps a write transaction open for longer than the busy timeout. "
            f"Commit early in whoever writes to this file, or raise busy_timeout."
        )
    return StoreError(f"{path}: {error} ({code})")


def ended_inside(path: str) -> StoreError:
    """The error for a transaction that is over before its block is."""
    return StoreError(
        f"{path}: the transaction was ended inside its block, so it is not known what was committed. "
        f"Handlers must not commit or roll back; if none does, look for a full disk."
    )


class SqliteTables(Tables):
    """The schema of one database file; opens and closes a connection per call."""

    database, begin = "sqlite", "BEGIN IMMEDIATE"
    record = (
        "INSERT INTO saga_migration (number, name, applied) "
        "VALUES ({number}, '{name}', strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'));"
    )

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0) -> None:
        self.path, self._busy_timeout = os.fspath(path), busy_timeout
        super().__init__(self.path)

    def version(self) -> int:
        if not os.path.exists(self.path):
            return 0  # connecting would create the file
        with self._connection() as connection:
            return _version(connection)

    def lived_on(self) -> bool:
        if not os.path.exists(self.path):
            return False
        with self._connection() as connection:
            return _version(connection) > 0 and connection.execute(self.claimed).fetchone() == (1,)

    def upgrade(self) -> list[str]:
        if not (missing := self._missing()):
            return []  # and no lock is waited for
        with self._connection() as connection:
            return [m.name for m in missing if _apply(connection, m, self._recorded(m))]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = connect(self.path, self._busy_timeout)
        try:
            with engine_statements(self.path):
                yield connection
        finally:
            connection.close()


def _version(connection: sqlite3.Connection) -> int:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'saga_migration'").fetchone()
    return connection.execute("SELECT max(number) FROM saga_migration").fetchone()[0] if known else 0


def _apply(connection: sqlite3.Connection, migration: Migration, script: str) -> bool:
    """Whether the migration was missing; if so it is there now, or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if missing := _version(connection) < migration.number:
            for statement in _split(script):
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return missing


def _split(script: str) -> Iterator[str]:
    # executescript would commit the transaction that holds the migration together
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
