"""The participant's database in one SQLite file: WAL, every commit flushed, one connection per thread.

Every transaction begins IMMEDIATE: it never has to be upgraded, so it can only wait, not fail. One worker process per file
owns all lanes; processes that only start workflows or read need no lock.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from saga.clock import Clock, SystemClock
from saga.errors import DefinitionError, LifecycleError, PartitionCountChanged, StoreBusy, StoreConflict
from saga.forking import tell_of_forks
from saga.store.archive import Left, Listed, Search
from saga.store.dead_letter import DeadLetter, LetterSearch
from saga.store.joining import kind, unwrap
from saga.store.lane import Lane, require_own
from saga.store.outbox import OutboxRow
from saga.store.port import Transaction
from saga.store.sqlite_tables import SqliteTables, connect, ended_inside, engine_statements
from saga.store.sqlite_unit import ROWS, SqliteUnit, iso
from saga.store.workflow import Workflow


@dataclass(slots=True)
class _Session:
    """One thread's connection, and the state of the file that it has been told of."""

    connection: sqlite3.Connection
    data_version: int | None = None


class SqliteStore:
    """A store on the database file `path`, which must hold our tables; `migrate=True` lays them (demo and tests).

    `busy_timeout` is how many seconds a transaction waits for another connection's. Raises DefinitionError where the tables
    are missing or of another version, StoreBusy at the first `claim` where another process has claimed a lane.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        migrate: bool = False,
        busy_timeout: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.path = os.fspath(path)
        if self.path in {"", ":memory:"}:
            raise DefinitionError(f"SqliteStore needs a file, found {self.path!r}; use MemoryStore for a store without one")
        if self.path.startswith("sqlite:"):
            raise DefinitionError(f"SqliteStore needs a file, found the address {self.path!r}; give the path that ends it")
        self._busy_timeout, self._clock = busy_timeout, clock or SystemClock()
        self._sessions: dict[threading.Thread, _Session] = {}
        self._inherited: list[dict[threading.Thread, _Session]] = []
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        self._worker = WorkerLock(self.path)
        tables = SqliteTables(self.path, busy_timeout=busy_timeout)
        if migrate:
            tables.upgrade()
        tables.require()
        tell_of_forks(self)

    def transaction(self) -> AbstractContextManager[Transaction]:
        return self.unit()

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[SqliteUnit]:
        self._idle()
        # SQLite's own queue is a sleep of up to 0.1 s, with no order: lanes of one process wait for each other here
        if not self._writing.acquire(timeout=self._busy_timeout):
            raise StoreConflict(f"{self.path}: database is locked: another thread's transaction lasts too long; commit early")
        try:
            with self._begun("BEGIN IMMEDIATE") as unit:
                yield unit
        finally:
            self._writing.release()

    def join(self, connection: Any) -> SqliteUnit:
        """As the port says: a sqlite3 connection, or a SQLAlchemy session or connection on `sqlite`."""
        driver = unwrap(connection)
        if not isinstance(driver, sqlite3.Connection):
            raise DefinitionError(
                f"join expects a sqlite3.Connection, or a SQLAlchemy session or connection on sqlite://, found "
                f"{kind(connection)}{'' if driver is connection else f' over {kind(driver)}'}"
            )
        if not driver.in_transaction:
            raise DefinitionError("join expects a connection inside a transaction: execute 'BEGIN IMMEDIATE' on it first")
        self._require_our_file(driver)
        unit = SqliteUnit(driver, self.path, self._clock)
        # a deferred transaction either gets the write lock here or is told at once that it never will
        unit.query("take_write_lock")
        return unit

    def claim(self, saga: str, lane: int, partitions: int, participant: str | None = None, registered: bool = False) -> Lane:
        self._worker.take()
        with self.unit() as unit:
            recorded = unit.partitions(saga)
            if recorded is None:
                unit.query("record_partitions", saga, partitions)
            elif recorded != partitions:
                raise PartitionCountChanged(saga, recorded, partitions)
            before = unit.query("lane", saga, lane).fetchone()
            clean = before is None or bool(before[-1])
            require_own(Lane(saga, lane, 0, clean=clean), unit.author(saga), participant)
            if participant is not None:
                unit.query("record_author", saga, participant, registered)
            unit.query("claim", saga, lane)
            return ROWS.lane(saga, lane, unit.query("lane", saga, lane).fetchone(), clean=clean)

    def committed(self, lane: Lane) -> bool:
        with self._begun("BEGIN") as unit:
            row = unit.query("lane", lane.saga, lane.number).fetchone()
            return row is not None and row[0] == lane.epoch and row[1] >= lane.batch

    def release(self, lane: Lane) -> None:
        with self.unit() as unit:
            unit.query("release", lane.saga, lane.number, lane.epoch, lane.committed)

    def pending(
        self, saga: str, lane: int, limit: int, *, known: Collection[str] = (), most_bytes: int = sys.maxsize
    ) -> list[OutboxRow]:
        with self._begun("BEGIN") as unit:
            rows = unit.query("pending", saga, lane, orjson.dumps([*known]).decode(), limit, most_bytes)
            return [ROWS.outbox(row) for row in rows]

    def unhandled(self, saga: str, lane: int, after: tuple[str, int], limit: int) -> list[OutboxRow]:
        with self._begun("BEGIN") as unit:
            return [ROWS.outbox(row) for row in unit.query("unhandled", saga, lane, *after, limit)]

    def woken(self) -> bool:
        session = self._session()
        with engine_statements(self.path):
            (data_version,) = session.connection.cursor().execute("PRAGMA data_version").fetchone()
        seen, session.data_version = session.data_version, data_version
        return bool(data_version != seen)

    def find(self, workflow_id: str) -> list[tuple[str, Workflow, list[OutboxRow]]]:
        with self._begun("BEGIN") as unit:
            sagas = [saga for (saga,) in unit.query("sagas_of_workflow", workflow_id)]
            return [(saga, unit.load(saga, [workflow_id])[workflow_id], unit.outbox_of(saga, workflow_id)) for saga in sagas]

    def lanes(self) -> list[Lane]:
        with self._begun("BEGIN") as unit:
            return [ROWS.lane(saga, lane, row, clean=bool(row[-1])) for saga, lane, *row in unit.query("lanes")]

    def outstanding(self, before: datetime, limit: int) -> list[OutboxRow]:
        with self._begun("BEGIN") as unit:
            return [ROWS.outbox(row) for row in unit.query("outstanding", iso(before), limit)]

    def search(self, wanted: Search, limit: int) -> list[Listed]:
        with self._begun("BEGIN") as unit:
            return unit.search(wanted, limit)

    def page(self, saga: str, after: str, limit: int) -> list[Workflow]:
        with self._begun("BEGIN") as unit:
            ids = [id_ for (id_,) in unit.query("page", saga, after, limit)]
            return sorted(unit.load(saga, ids).values(), key=lambda workflow: workflow.id.encode())

    def letters(self, wanted: LetterSearch, limit: int) -> list[DeadLetter]:
        with self._begun("BEGIN") as unit:
            return unit.letters(wanted, limit)

    def author(self, saga: str) -> str | None:
        with self._begun("BEGIN") as unit:
            return unit.author(saga)

    def left(self, saga: str, version: int) -> Left:
        with self._begun("BEGIN") as unit:
            return Left(*unit.query("left", saga, version).fetchone())

    def begin_anew(self) -> None:
        """In a forked process: what SQLite has in memory of its locks holds for the first one, for new connections too."""
        self._inherited += [self._sessions] if self._sessions else []
        self._sessions, self._opening, self._writing = {}, threading.Lock(), threading.Lock()
        self._worker.drop_copy()

    def close(self) -> None:
        """Close all threads' connections and give the file up; open transactions are rolled back."""
        with self._opening:
            self._closed = True
            for session in self._sessions.values():
                session.connection.close()
            self._sessions.clear()
        self._worker.drop()

    @contextmanager
    def _begun(self, begin: str) -> Iterator[SqliteUnit]:
        connection = self._idle()
        with engine_statements(self.path):
            connection.execute(begin)
        unit = SqliteUnit(connection, self.path, self._clock)
        try:
            yield unit
            self._commit(connection)
        finally:
            unit.end()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.row_factory = None  # a handler may have set one

    def _idle(self) -> sqlite3.Connection:
        connection = self._session().connection
        if connection.in_transaction:
            raise LifecycleError("this thread has a transaction open on this store; hand it on instead of opening another")
        return connection

    def _commit(self, connection: sqlite3.Connection) -> None:
        if not connection.in_transaction:
            raise ended_inside(self.path)
        with engine_statements(self.path):
            connection.execute("COMMIT")

    def _session(self) -> _Session:
        return self._sessions.get(threading.current_thread()) or self._open()

    def _open(self) -> _Session:
        with self._opening:
            if self._closed:
                raise LifecycleError(f"the store on {self.path} is closed")
            if self._inherited:
                raise LifecycleError(
                    f"{self.path}: this process was forked from one in which the store was in use already, and SQLite does not "
                    f"bear that; open the store in each process, after the fork"
                )
            for thread in [t for t in self._sessions if not t.is_alive()]:
                self._sessions.pop(thread).connection.close()
            session = _Session(connect(self.path, self._busy_timeout))
            self._sessions[threading.current_thread()] = session
            return session

    def _require_our_file(self, connection: sqlite3.Connection) -> None:
        cursor = connection.cursor()
        cursor.row_factory = None
        file = next(file for _, name, file in cursor.execute("PRAGMA database_list") if name == "main")
        if not file or not os.path.samefile(file, self.path):
            raise DefinitionError(
                f"the connection is on {file or 'a database in memory'}, which lacks this store's tables: "
                f"they are in {self.path}. Connect to that file, so that one transaction holds business rows and events."
            )


class WorkerLock:
    """Held by the one process that owns lanes of a file; the kernel drops it when the process dies."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}.lock"
        self._taking = threading.Lock()
        self._descriptor: int | None = None

    def take(self) -> None:
        """Hold the lock, if not held already; raises StoreBusy naming the process that does."""
        with self._taking:
            if self._descriptor is not None:
                return
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode().strip() or "unknown"
                os.close(descriptor)
                raise StoreBusy(
                    f"{self._path} is held by process {holder}: one worker process per SQLite file. "
                    f"Stop that worker, give this one a file of its own, or use PostgreSQL."
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            self._descriptor = descriptor

    def drop_copy(self) -> None:
        """In a forked process: leave the lock to the first one alone, with which it ends."""
        self._taking = threading.Lock()
        self.drop()

    def drop(self) -> None:
        with self._taking:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
