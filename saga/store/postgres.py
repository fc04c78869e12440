"""The participant's database in PostgreSQL: a connection per thread, and as few round trips as a unit of work allows.

While a COMMIT is under way, the thread's next unit takes a second connection. The lane's epoch is the truth about ownership:
any number of processes may open the store. A unit collects its statements, so that the engine's part of it costs two round
trips, and a fenced owner's COMMIT fails together with the statement before it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from saga.clock import Clock, SystemClock
from saga.errors import (
    DefinitionError,
    LaneFenced,
    LifecycleError,
    PartitionCountChanged,
    StatementFailed,
    StoreConflict,
    StoreError,
)
from saga.forking import tell_of_forks
from saga.store.archive import Left, Listed, Search
from saga.store.dead_letter import DeadLetter, LetterSearch
from saga.store.joining import kind, unwrap
from saga.store.lane import Lane, require_own
from saga.store.outbox import OutboxRow
from saga.store.port import Transaction
from saga.store.postgres_pipeline import AT_ONCE
from saga.store.postgres_rows import ROWS, iso
from saga.store.postgres_tables import SQL, Address, Connection, PostgresTables, engine_statements, milliseconds, technical
from saga.store.postgres_unit import PostgresUnit
from saga.store.workflow import Workflow

_HARMLESS = (LaneFenced, StatementFailed, StoreConflict)
_IN_RECOVERY = "in recovery"  # as in session.sql; that of no lane, and asked for until it has ended


@dataclass(slots=True)
class _Session:
    """A connection of one thread, with the unit that is open or under way on it.

    `woken` is None until the thread asks for the first time.
    """

    connection: Connection
    timeline: str | None = None
    unit: PostgresUnit | None = None
    woken: bool | None = None
    cursors: dict[str, Any] = field(default_factory=dict)


class PostgresStore:
    """A store in the database that `dsn` (a URL or connection string of libpq) names; `migrate=True` lays its tables (tests).

    A statement waits up to `lock_timeout` seconds for another transaction's rows. The server ends a transaction that does
    nothing for `idle_timeout` seconds, be it a handler that dawdles or a process that was stopped, and so frees its rows:
    keep that well below the session timeout of the consumer group, after which a successor wants them. The store lives on
    sessions (prepared statements, LISTEN): a pooler on the way must pool sessions, not transactions.

    Raises DefinitionError where our tables are missing or of another version, and where `synchronous_commit` is off, since
    a commit that the server forgets was already published; StoreError where the server does not answer.
    """

    def __init__(
        self,
        dsn: str,
        *,
        migrate: bool = False,
        lock_timeout: float = 2.0,
        idle_timeout: float = 4.0,
        clock: Clock | None = None,
    ) -> None:
        if not 0 < lock_timeout <= idle_timeout:
            raise DefinitionError(
                f"found lock_timeout={lock_timeout:g} and idle_timeout={idle_timeout:g}; expected 0 < lock_timeout <= "
                f"idle_timeout, in seconds: 0 would mean no limit to PostgreSQL"
            )
        self.address = Address(dsn)
        self._lock_timeout, self._idle_timeout, self._clock = lock_timeout, idle_timeout, clock or SystemClock()
        self._sessions: dict[threading.Thread, list[_Session]] = {}
        self._inherited: list[dict[threading.Thread, list[_Session]]] = []
        self._joined: WeakSet[Any] = WeakSet()
        self._opening = threading.Lock()
        self._closed = False
        tables = PostgresTables(dsn)
        if migrate:
            tables.upgrade()
        tables.require()
        tell_of_forks(self)
        with engine_statements(self.address):
            self._identity = self._idle().connection.execute(SQL["identity"]).fetchone()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """As the port says; whoever's statement it was, a server that is gone leaves the block as StoreError."""
        try:
            with self.unit(eager=True) as unit:
                yield unit
        except psycopg.Error as error:
            if (trouble := technical(str(self.address), error)) is None:
                raise
            raise trouble from error

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[PostgresUnit]:
        session, former = self._idle(), self._departed()
        if session.timeline == _IN_RECOVERY:
            session.timeline = _timeline(session.connection)
        ended = partial(self._rest, session)
        unit = PostgresUnit(
            session.connection, str(self.address), self._clock,
            eager=eager, former=former, cursors=session.cursors, timeline=session.timeline, ended=ended,
        )  # fmt: skip
        session.unit, failed = unit, None
        try:
            yield unit
            unit.commit()
        except BaseException as error:
            failed = error
            raise
        finally:
            if not unit.under_way:
                self._rest(session, failed)

    def join(self, connection: Any) -> PostgresUnit:
        """As the port says: a psycopg connection, or a SQLAlchemy session or connection on `postgresql+psycopg`.

        Of asynchronous ones the synchronous side is joined: `await session.run_sync(lambda s: start(event, store.join(s)))`.
        """
        driver = unwrap(connection)
        self._require_open(driver, connection)
        unit = PostgresUnit(driver, str(self.address), self._clock, eager=True, own=False)
        self._require_ours(unit, getattr(driver, "driver_connection", driver))
        return unit

    def claim(self, saga: str, lane: int, partitions: int, participant: str | None = None, registered: bool = False) -> Lane:
        with self.unit() as unit:
            place = {"saga": saga, "lane": lane}
            self._wait_patiently(unit)
            unit.pipeline.add("end_overstayed", {**place, "idle": f"{self._idle_timeout} s"})
            unit.pipeline.add("record_partitions", {"saga": saga, "partitions": partitions})
            before = unit.pipeline.add("lane", place)
            author = unit.pipeline.add("author", {"saga": saga})
            if participant is not None:
                unit.pipeline.add("record_author", {"saga": saga, "participant": participant, "registered": registered})
            claimed = unit.pipeline.add("claim", place)
            recorded = unit.partitions(saga)
            if recorded is not None and recorded != partitions:
                raise PartitionCountChanged(saga, recorded, partitions)
            former = before.cursor.fetchone()
            clean = former is None or former[2]
            require_own(Lane(saga, lane, 0, clean=clean), author.cursor.fetchone()[0], participant)
            owned = ROWS.lane(saga, lane, claimed.cursor.fetchone(), clean=clean)
            owned.timeline = unit.timeline
            return owned

    def committed(self, lane: Lane) -> bool:
        with self.unit() as unit:
            self._wait_patiently(unit)
            rows = unit.pipeline.rows("lane", saga=lane.saga, lane=lane.number)
            return bool(rows) and rows[0][0] == lane.epoch and rows[0][1] >= lane.batch

    def release(self, lane: Lane) -> None:
        with self.unit() as unit:
            if lane.is_of(unit.timeline):
                place = {"saga": lane.saga, "lane": lane.number, "epoch": lane.epoch, "committed": lane.committed}
                unit.pipeline.add("release", place)

    def pending(
        self, saga: str, lane: int, limit: int, *, known: Collection[str] = (), most_bytes: int = sys.maxsize
    ) -> list[OutboxRow]:
        session = self._idle()
        with engine_statements(self.address), session.connection.cursor(binary=True, row_factory=tuple_row) as cursor:
            place = {"saga": saga, "lane": lane, "known": [*known], "limit": limit, "most_bytes": most_bytes}
            return [ROWS.outbox(row) for row in cursor.execute(SQL["pending"], place)]

    def unhandled(self, saga: str, lane: int, after: tuple[str, int], limit: int) -> list[OutboxRow]:
        with self.unit() as unit:
            place = {"saga": saga, "lane": lane, "topic": after[0], "offset": after[1], "limit": limit}
            return [ROWS.outbox(row) for row in unit.pipeline.rows("unhandled", **place)]

    def woken(self) -> bool:
        """As the port says. The first call of a thread makes it listen; a lost connection counts as a wake."""
        try:
            session = self._sessions_of_thread()[0]
            if session.unit is not None and (session.woken is None or not session.unit.under_way):
                return True
            session.connection.pgconn.consume_input()
            if session.woken is None:
                session.connection.add_notify_handler(lambda _: setattr(session, "woken", True))
                session.connection.execute(SQL["listen"])
                session.woken = False
                return True
            while session.connection.pgconn.notifies() is not None:
                session.woken = True
        except (psycopg.Error, StoreError):
            return True
        woken, session.woken = session.woken, False
        return woken

    def find(self, workflow_id: str) -> list[tuple[str, Workflow, list[OutboxRow]]]:
        with self.unit() as unit:
            sagas = [saga for (saga,) in unit.pipeline.rows("sagas_of_workflow", id=workflow_id)]
            loaded = ((saga, unit.load(saga, [workflow_id], lock=False).get(workflow_id)) for saga in sagas)
            return [(saga, workflow, unit.outbox_of(saga, workflow_id)) for saga, workflow in loaded if workflow]

    def lanes(self) -> list[Lane]:
        with self.unit() as unit:
            rows = unit.pipeline.rows("lanes")
        return [ROWS.lane(saga, lane, row, clean=row[-1]) for saga, lane, *row in rows]

    def outstanding(self, before: datetime, limit: int) -> list[OutboxRow]:
        with self.unit() as unit:
            return [ROWS.outbox(row) for row in unit.pipeline.rows("outstanding", before=iso(before), limit=limit)]

    def search(self, wanted: Search, limit: int) -> list[Listed]:
        with self.unit() as unit:
            return unit.search(wanted, limit)

    def page(self, saga: str, after: str, limit: int) -> list[Workflow]:
        with self.unit() as unit:
            ids = [id_ for (id_,) in unit.pipeline.rows("page", saga=saga, after=after, limit=limit)]
            return sorted(unit.load(saga, ids, lock=False).values(), key=lambda workflow: workflow.id.encode())

    def letters(self, wanted: LetterSearch, limit: int) -> list[DeadLetter]:
        with self.unit() as unit:
            return unit.letters(wanted, limit)

    def author(self, saga: str) -> str | None:
        with self.unit() as unit:
            return unit.author(saga)

    def left(self, saga: str, version: int) -> Left:
        with self.unit() as unit:
            return Left(*unit.pipeline.rows("left", saga=saga, version=version)[0])

    def begin_anew(self) -> None:
        """In a forked process: the connections are the first one's; to close them here would end its sessions at the server."""
        self._inherited.append(self._sessions)
        self._sessions, self._opening = {}, threading.Lock()

    def close(self) -> None:
        """Close all threads' connections; open transactions are rolled back."""
        with self._opening:
            self._closed = True
            for session in chain.from_iterable(self._sessions.values()):
                session.connection.close()
            self._sessions.clear()

    def _wait_patiently(self, unit: PostgresUnit) -> None:
        """Wait as long as a transaction that nobody goes on with can last, and not only for those that are at work."""
        patience = milliseconds(self._idle_timeout + self._lock_timeout)
        unit.pipeline.add("wait_up_to", {"milliseconds": patience, "locally": True})

    def _idle(self) -> _Session:
        """A session of this thread with nothing under way, on a connection that was alive when it was last heard of."""
        sessions = self._sessions_of_thread()
        if any(session.unit is not None and not session.unit.under_way for session in sessions):
            raise LifecycleError("this thread has a transaction open on this store; hand it on instead of opening another")
        for session in [session for session in sessions if session.unit is None]:
            with suppress(psycopg.Error):
                for _ in range(2):  # the server's last words, then the end
                    session.connection.pgconn.consume_input()
            if not session.connection.closed:
                return session
        return self._open()

    def _departed(self) -> PostgresUnit | None:
        """The unit of this thread that is under way."""
        units = (session.unit for session in self._sessions_of_thread())
        return next((unit for unit in units if unit is not None and unit.under_way), None)

    def _sessions_of_thread(self) -> list[_Session]:
        """Those whose connections are open, the one that listens first; at least one."""
        known = self._sessions.get(threading.current_thread(), [])
        known[:] = [session for session in known if not session.connection.closed or session.unit is not None]
        return known if known else [self._open()]

    def _open(self) -> _Session:
        with self._opening:
            if self._closed:
                raise LifecycleError(f"the store on {self.address} is closed")
            for thread in [t for t in self._sessions if not t.is_alive()]:
                for session in self._sessions.pop(thread):
                    session.connection.close()
        connection = self._connect()
        session = _Session(connection, _timeline(connection))
        with self._opening:
            self._sessions.setdefault(threading.current_thread(), []).append(session)
        return session

    def _connect(self) -> Connection:
        connection = self.address.connect()
        with engine_statements(self.address):
            limits = {"lock_timeout": milliseconds(self._lock_timeout), "idle_timeout": milliseconds(self._idle_timeout)}
            row = connection.execute(SQL["configure"], limits).fetchone()
        assert row is not None
        if row[0] == "off":
            connection.close()
            raise DefinitionError(
                f"{self.address} has synchronous_commit=off: PostgreSQL may forget a commit whose events are on their topics. "
                f"Set it to on for this user or database: ALTER ROLE ... SET synchronous_commit = on"
            )
        return connection

    def _rest(self, session: _Session, failed: BaseException | None) -> None:
        """Leave the session without a transaction, or closed."""
        unit, session.unit = session.unit, None
        connection = session.connection
        if isinstance(failed, StoreError) and not isinstance(failed, _HARMLESS):
            connection.close()
        if unit is not None:
            unit.pipeline.end()
        with suppress(psycopg.Error):
            if connection.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                connection.prepare_threshold = AT_ONCE  # on a ROLLBACK that it knows, the driver forgets all that it prepared
                connection.execute("ROLLBACK")
                connection.prepare_threshold = None
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            connection.close()
        connection.row_factory = tuple_row  # a handler may have set another

    def _require_open(self, driver: Any, given: Any) -> None:
        asynchronous = isinstance(getattr(driver, "driver_connection", None), psycopg.AsyncConnection)
        if not (isinstance(driver, psycopg.Connection) or asynchronous):
            raise DefinitionError(
                f"join expects a psycopg.Connection, or a SQLAlchemy session or connection on postgresql+psycopg://, found "
                f"{kind(given)}{'' if driver is given else f' over {kind(driver)}'}"
            )
        if driver.autocommit and driver.info.transaction_status is TransactionStatus.IDLE:
            raise DefinitionError(
                "join expects a connection inside a transaction, and this one commits every statement by itself: "
                "BEGIN first, or wrap the business statements and this call in connection.transaction()"
            )

    def _require_ours(self, unit: PostgresUnit, driver: Any) -> None:
        """Ask a connection once which database and schema it is on."""
        if driver in self._joined:
            return
        (found,) = unit.pipeline.rows("identity")
        if found != self._identity:
            raise DefinitionError(
                f"the connection is on database {found[0]!r}, which lacks this store's tables: they are in {self.address}. "
                f"Connect to that database and schema, so that one transaction holds business rows and events"
            )
        self._joined.add(driver)


def _timeline(connection: Connection) -> str | None:
    """PostgreSQL's own number, where the server lets one see it; it is raised by each promotion and point-in-time recovery."""
    try:
        found = connection.execute(SQL["timeline"]).fetchone()
    except psycopg.Error:
        return None
    return None if found is None else str(found[0])
