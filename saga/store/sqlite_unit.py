"""One open SQLite transaction: what handlers execute in it, and what the engine loads and saves set-based.

Statements of the engine fail with StoreError; statements of handlers fail with the driver's own errors, so that the engine
can tell who is to blame.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from saga.clock import Clock
from saga.errors import LaneFenced, LifecycleError, StoreError
from saga.store.archive import Listed, Search
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Place, headers_text
from saga.store.json_columns import exceptions_text, interventions_text, steps_text
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow, Published, Waiting
from saga.store.port import Changes, Immediate
from saga.store.rows import Rows
from saga.store.sqlite_tables import ended_inside, engine_statements, store_error
from saga.store.statements import statements
from saga.store.workflow import Fence, Received, Workflow

SQL = statements("sqlite")
ROWS = Rows(datetime.fromisoformat)

_ENDED = "this transaction has ended; use the one that is handed to the handler, while the handler runs"

_OF_THE_FILE = {"BUSY", "CANTOPEN", "CORRUPT", "FULL", "IOERR", "LOCKED", "NOTADB", "PROTOCOL", "READONLY"}


class SqliteUnit(Immediate):
    """A transaction on a connection that somebody else begins and ends."""

    def __init__(self, connection: sqlite3.Connection, path: str, clock: Clock) -> None:
        self.workflow_id: str | None = None
        self.workflow_ids: Sequence[str] = ()
        self._connection: sqlite3.Connection | None = connection
        self._path, self._clock = path, clock
        self._cursor = connection.cursor()
        self._cursor.row_factory = None  # the connection may be the caller's, and so may its factory

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LifecycleError(_ENDED)
        return self._connection

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        return self.connection.execute(sql, parameters)

    def end(self) -> None:
        """Refuse further use, now that the transaction is over."""
        self._connection = None

    def partitions(self, saga: str) -> int | None:
        return self._topics_of(saga)[0]

    def registered(self, saga: str) -> bool:
        return bool(self._topics_of(saga)[1])

    def author(self, saga: str) -> str | None:
        return self._topics_of(saga)[2]

    def _topics_of(self, saga: str) -> tuple[int | None, int, str | None]:
        return self.query("partitions", saga).fetchone() or (None, 0, None)

    def load(self, saga: str, ids: Collection[str]) -> dict[str, Workflow]:
        wanted = _listed(ids)
        found = {row[0]: ROWS.workflow(row) for row in self.query("load_workflows", saga, wanted)}
        for id_, *fence in self.query("load_fences", saga, wanted):
            found[id_].fences[fence[0]] = ROWS.fence(fence)
        for id_, *received in self.query("load_inbox", saga, wanted):
            found[id_].inbox[received[0]] = ROWS.received(received)
        for workflow_id, id_ in self.query("load_unpublished", saga, wanted):
            found[workflow_id].unpublished.add(id_)
        return found

    def backlog(self, saga: str, limit: int) -> int:
        return int(self.query("backlog", saga, limit).fetchone()[0])

    def waiting(self, saga: str) -> dict[int, Waiting]:
        return {lane: Waiting(rows, datetime.fromisoformat(since)) for lane, rows, since in self.query("waiting", saga)}

    def count_parked(self, saga: str, limit: int) -> int:
        return int(self.query("count_parked", saga, limit).fetchone()[0])

    def running(self, saga: str, lane: int) -> list[str]:
        return [id_ for (id_,) in self.query("running", saga, lane)]

    def due(
        self, saga: str, lanes: Collection[int], versions: Collection[int], now: datetime, limit: int
    ) -> list[tuple[int, str]]:
        return [*self.query("due", saga, _listed(lanes), iso(now), limit, _listed(versions))]

    def expired(
        self,
        saga: str,
        lanes: Collection[int],
        versions: Collection[int],
        now: datetime,
        limit: int,
        *,
        deadlines: Collection[int],
    ) -> list[tuple[int, str]]:
        place = saga, _listed(lanes), iso(now), limit, _listed(versions), _listed(deadlines)
        return [*self.query("expired", *place)]

    def save(self, saga: str, changes: Changes) -> None:
        workflows = {w.id: w for w in (*changes.workflows, *changes.closed)}
        closed = {w.id for w in changes.closed} | {w.id for w in changes.workflows if w.closed}
        self._write("save_workflow", [_workflow_row(saga, w, w.id in closed) for w in workflows.values()])
        self._write("save_workflow", [_workflow_row(saga, w, closed=True) for w in changes.ended])
        self._write("save_fence", [_fence_row(saga, id_, f) for id_, f in changes.fences if id_ not in closed])
        self._write("save_received", [_received_row(saga, id_, r) for id_, r in changes.inbox if id_ not in closed])
        self._write("save_outbox", [_outbox_row(row) for row in changes.outbox])
        if closed:
            ids = _listed(closed)
            self.query("drop_fences", saga, ids)
            self.query("drop_inbox", saga, ids)

    def mark(self, published: Sequence[Published]) -> None:
        now = iso(self._clock.now())
        self._write("mark", [(now, r.offset, r.workflow_id, r.saga, r.sequence) for r in published])

    def clean(self, handled: Sequence[Published]) -> None:
        self._write("clean", [(r.workflow_id, r.saga, r.sequence) for r in handled])

    def clean_before(self, saga: str, lane: int, topic: str, offset: int, limit: int) -> None:
        self.query("clean_before", saga, lane, topic, offset, limit)

    def again(self, lost: Sequence[Published]) -> None:
        self._write("again", [(r.workflow_id, r.saga, r.sequence, r.offset) for r in lost])

    def parked(self, saga: str, lane: int) -> list[tuple[str, int]]:
        return [*self.query("parked", saga, lane)]

    def advance(self, lane: Lane) -> None:
        held = [orjson.dumps(column).decode() for column in (lane.offsets, lane.acks, lane.gaps)]
        place, moved = (lane.saga, lane.number, lane.epoch), (lane.batch, *held, _iso(lane.pruned))
        if self.query("advance", *place, *moved, lane.committed).rowcount == 0:
            raise LaneFenced(lane.saga, lane.number, lane.epoch)

    def batches(self, saga: str) -> dict[int, tuple[int, int]]:
        return {lane: (epoch, batch) for lane, epoch, batch in self.query("batches", saga)}

    def count(self, lane: Lane) -> None:
        trials = orjson.dumps(lane.trials).decode()
        if self.query("count", lane.saga, lane.number, lane.epoch, trials).rowcount == 0:
            raise LaneFenced(lane.saga, lane.number, lane.epoch)

    def prune(self, lane: Lane, before: datetime, limit: int) -> tuple[int, datetime | None]:
        gone = self.query("prunable", lane.saga, lane.number, iso(before), limit).fetchall()
        self.query("prune", lane.saga, orjson.dumps([id_ for id_, _ in gone]).decode())
        until = gone[-1][1] if gone else None
        if self.query("pruned", lane.saga, lane.number, lane.epoch, until).rowcount == 0:
            raise LaneFenced(lane.saga, lane.number, lane.epoch)
        return len(gone), datetime.fromisoformat(until) if until else None

    def technical(self, error: Exception) -> StoreError | None:
        if not isinstance(error, sqlite3.Error):
            return None
        _, _, code = getattr(error, "sqlite_errorname", "").partition("_")
        return store_error(self._path, error) if code.partition("_")[0] in _OF_THE_FILE else None

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        self._write("bury", [_letter_row(letter) for letter in letters])

    def exhume(self, places: Collection[Place]) -> None:
        self._write("exhume", [*places])

    def recalled(self, saga: str, lanes: Collection[int], versions: Collection[int], limit: int) -> list[DeadLetter]:
        given = _listed(lanes), _listed(versions)
        return [ROWS.letter(row) for row in self.query("recalled", saga, *given, limit)]

    def letters(self, wanted: LetterSearch, limit: int) -> list[DeadLetter]:
        place = (wanted.saga, wanted.topic, wanted.partition, wanted.offset)
        return [
            ROWS.letter(row) for row in self.query("letters", *place, wanted.reason, wanted.state, wanted.workflow_id, limit)
        ]

    def settle(self, letters: Collection[DeadLetter], state: LetterState, now: datetime, *, by: str, note: str | None) -> None:
        self._write("settle", [(state, iso(now), by, note, *one.place, one.state) for one in letters])

    def forget(self, saga: str, before: datetime, limit: int) -> int:
        return self.query("forget", saga, iso(before), limit).rowcount

    def outbox_of(self, saga: str, workflow_id: str) -> list[OutboxRow]:
        return [ROWS.outbox(row) for row in self.query("outbox_of_workflow", saga, workflow_id)]

    def search(self, wanted: Search, limit: int) -> list[Listed]:
        rows = self.query(
            "search", wanted.saga, wanted.version, wanted.status, wanted.with_exceptions, limit, more=wanted.order
        )
        known = (Listed(saga, ROWS.workflow(row), datetime.fromisoformat(moved)) for saga, moved, *row in rows)
        found = [one for one in known if one.is_idle(wanted.idle_since)]  # they come first
        for saga in {one.saga for one in found}:
            open_ = {one.workflow.id: one.workflow for one in found if one.saga == saga and not one.workflow.closed}
            for id_, *fence in self.query("load_fences", saga, _listed(open_)):
                open_[id_].fences[fence[0]] = ROWS.fence(fence)
        return found

    def query(self, statement: str, *parameters: Any, more: str = "") -> sqlite3.Cursor:
        """One of the engine's statements, its text extended by that of `more`; its rows must be read before the next."""
        with engine_statements(self._path):
            text = f"{SQL[statement]}\n{SQL[more]}" if more else SQL[statement]
            return self._open_cursor.execute(text, parameters)

    @property
    def _open_cursor(self) -> sqlite3.Cursor:
        if self._connection is None:
            raise LifecycleError(_ENDED)
        if not self._connection.in_transaction:  # each statement would be committed by itself
            raise ended_inside(self._path)
        return self._cursor

    def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            with engine_statements(self._path):
                self._open_cursor.executemany(SQL[statement], rows)


@lru_cache(maxsize=1024)
def iso(moment: datetime) -> str:
    """ISO 8601 in UTC, which sorts as time does."""
    if moment.tzinfo is None:
        raise StoreError(f"moment {moment} has no time zone; the engine's clock must answer in UTC")
    return moment.astimezone(UTC).isoformat()


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)


def _workflow_row(saga: str, w: Workflow, closed: bool) -> tuple[Any, ...]:
    steps = steps_text(w.fences.values()) if closed else None
    return (
        w.id, saga, w.version, w.lane, w.status.value, w.sequence, _iso(w.deadline), iso(w.opened), _iso(w.closed),
        w.gates, w.error, w.traceparent, w.tracestate, steps, exceptions_text(w.exceptions),
        interventions_text(w.interventions), _iso(w.unwind_by),
    )  # fmt: skip


def _fence_row(saga: str, workflow_id: str, f: Fence) -> tuple[Any, ...]:
    return (
        workflow_id, saga, f.step, f.status.value, f.event, f.result, f.pending, f.refused, f.attempt, _iso(f.due), f.error,
        _iso(f.changed), _iso(f.expires),
    )  # fmt: skip


def _listed(values: Iterable[Any]) -> str:
    """As `json_each` reads them."""
    return orjson.dumps([*values]).decode()


def _received_row(saga: str, workflow_id: str, r: Received) -> tuple[Any, ...]:
    return (
        workflow_id, saga, r.id, r.step, r.status.value, r.type, r.payload, r.state, r.cause, r.traceparent, r.tracestate,
        r.topic, r.partition, r.offset, _iso(r.received),
    )  # fmt: skip


def _outbox_row(row: OutboxRow) -> tuple[Any, ...]:
    headers = orjson.dumps(row.headers).decode()
    return (
        row.id, row.topic, row.workflow_id, row.type, row.payload, row.saga, row.lane, row.sequence, headers,
        iso(row.created),
    )  # fmt: skip


def _letter_row(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        *letter.place, letter.key, letter.value, headers_text(letter.headers), letter.reason, letter.error,
        letter.workflow_id, letter.version, iso(letter.recorded), letter.state, _iso(letter.changed), letter.changed_by,
        letter.note,
    )  # fmt: skip
