"""A store on dictionaries, simple enough to be believed: what it answers is what every other store must answer.

Handlers' SQL runs on one in-memory SQLite connection. A transaction writes into overlays, which are merged into the store when
that connection commits: business rows and engine rows appear together or not at all.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
import weakref
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import accumulate
from typing import Any

from saga.clock import Clock, SystemClock
from saga.errors import DefinitionError, LifecycleError, PartitionCountChanged, StoreError
from saga.store.archive import Left, Listed, Search
from saga.store.dead_letter import DeadLetter, LetterSearch
from saga.store.lane import Lane, require_own
from saga.store.memory_letters import MemoryLetters
from saga.store.memory_tables import MemoryTables
from saga.store.memory_unit import MemoryUnit
from saga.store.outbox import OutboxRow
from saga.store.port import Transaction
from saga.store.workflow import Workflow


class MemoryStore:
    """A store that lives as long as the object; one transaction at a time, whichever thread asks, each of this `kind`."""

    def __init__(self, clock: Clock | None = None, *, kind: type[MemoryUnit] = MemoryUnit) -> None:
        self._clock, self._kind = clock or SystemClock(), kind
        self.connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self.connection.close)  # nobody has to close what is gone with the object
        # a joined transaction leaves a row here: whether the row survived tells whether its caller committed
        self.connection.execute("CREATE TABLE saga_joined (number INTEGER PRIMARY KEY)")
        self._tables = MemoryTables()
        self.timeline = "1"
        self._lock = threading.RLock()
        self._open: MemoryUnit | None = None
        self._closed = False
        self._joined: list[tuple[int, MemoryTables]] = []
        self._joins = self._commits = 0
        self._seen = threading.local()

    def transaction(self) -> AbstractContextManager[Transaction]:
        return self.unit()

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
        with self._idle():
            unit = self._kind(self.connection, self._tables.overlay(), self._clock)
            unit.timeline = self.timeline
            self.connection.execute("BEGIN")
            self._open = unit
            try:
                yield unit
                if not self.connection.in_transaction:
                    raise StoreError("the transaction was ended inside its block; handlers must not commit or roll back")
                self.connection.execute("COMMIT")
                self._absorb(unit.tables)
            finally:
                self._open = None
                unit.end()
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")

    def join(self, connection: Any) -> MemoryUnit:
        with self._lock:
            if connection is not self.connection:
                raise DefinitionError(f"join expects this store's own `connection`, found {connection!r}")
            if not connection.in_transaction:
                raise DefinitionError("join expects a connection inside a transaction: execute 'BEGIN IMMEDIATE' on it first")
            if self._open:
                return self._open
            self._settle()
            self._joins += 1
            connection.cursor().execute("INSERT INTO saga_joined VALUES (?)", (self._joins,))
            beneath = self._joined[-1][1] if self._joined else self._tables
            self._joined.append((self._joins, beneath.overlay()))
            return MemoryUnit(connection, self._joined[-1][1], self._clock)

    def claim(self, saga: str, lane: int, partitions: int, participant: str | None = None, registered: bool = False) -> Lane:
        with self._idle():
            recorded = self._tables.partitions.setdefault(saga, partitions)
            if recorded != partitions:
                raise PartitionCountChanged(saga, recorded, partitions)
            before = self._tables.lanes.get((saga, lane)) or Lane(saga, lane, epoch=0)
            require_own(before, self._tables.authors.get(saga), participant)
            if participant is not None:
                self._tables.authors[saga] = participant
                self._tables.registered[saga] = registered
            self._tables.lanes[saga, lane] = replace(before, epoch=before.epoch + 1, clean=False)
            return replace(before.copy(), epoch=before.epoch + 1, committed=before.batch, timeline=self.timeline)

    def committed(self, lane: Lane) -> bool:
        with self._idle():
            held = self._tables.lanes.get((lane.saga, lane.number))
            return held is not None and held.epoch == lane.epoch and held.batch >= lane.batch

    def release(self, lane: Lane) -> None:
        with self._idle():
            held = self._tables.lanes.get((lane.saga, lane.number))
            if held and lane.is_kept(held.epoch, held.batch) and lane.is_of(self.timeline):
                self._tables.lanes[lane.saga, lane.number] = replace(held, clean=True, trials={})

    def pending(
        self, saga: str, lane: int, limit: int, *, known: Collection[str] = (), most_bytes: int = sys.maxsize
    ) -> list[OutboxRow]:
        with self._reading():
            rows = (row for rows in self._tables.outbox.values() for row in rows.values())
            unmarked = (row for row in rows if row.saga == saga and row.lane == lane and row.offset is None)
            waiting = [row for row in unmarked if row.id not in known]
            waiting.sort(key=lambda row: (row.workflow_id, row.sequence))
            reach = [0, *accumulate(len(row.payload) for row in waiting)]
            return [row for row, before in zip(waiting, reach, strict=False) if before < most_bytes][:limit]

    def unhandled(self, saga: str, lane: int, after: tuple[str, int], limit: int) -> list[OutboxRow]:
        with self._reading():
            rows = (row for rows in self._tables.outbox.values() for row in rows.values())
            found = [row for row in rows if row.saga == saga and row.lane == lane and row.offset is not None]
            behind = [row._replace(payload=b"") for row in found if (row.topic, row.offset or 0) > after]
            return sorted(behind, key=lambda row: (row.topic, row.offset))[:limit]

    def lanes(self) -> list[Lane]:
        with self._reading():
            return [lane.copy() for _, lane in sorted(self._tables.lanes.items())]

    def outstanding(self, before: datetime, limit: int) -> list[OutboxRow]:
        with self._reading():
            rows = (row for rows in self._tables.outbox.values() for row in rows.values())
            found = [row._replace(payload=b"") for row in rows if row.created < before]
            return sorted(found, key=lambda row: (row.created, row.workflow_id, row.sequence))[:limit]

    def woken(self) -> bool:
        with self._reading():
            seen, self._seen.commits = getattr(self._seen, "commits", None), self._commits
            return seen != self._commits

    def find(self, workflow_id: str) -> list[tuple[str, Workflow, list[OutboxRow]]]:
        with self._reading():
            sagas = sorted(saga for saga, id_ in self._tables.workflows if id_ == workflow_id)
            found = ((saga, self._tables.workflow(saga, workflow_id)) for saga in sagas)
            return [(saga, w, self._tables.rows(saga, workflow_id)) for saga, w in found if w]

    def search(self, wanted: Search, limit: int) -> list[Listed]:
        with self._reading():
            known = [Listed(saga, self._glance(saga, id_), _moved(w)) for (saga, id_), w in self._tables.workflows.items()]
            found = sorted((one for one in known if _fits(one, wanted)), key=lambda one: (one.workflow.id, one.saga))
            found.sort(key=lambda one: one.workflow.opened, reverse=True)
            if wanted.order != "latest":
                found.sort(key=lambda one: one.moved)
            return found[:limit]

    def page(self, saga: str, after: str, limit: int) -> list[Workflow]:
        with self._reading():
            ids = sorted((id_ for name, id_ in self._tables.workflows if name == saga and id_ > after), key=str.encode)
            return [workflow for id_ in ids[:limit] if (workflow := self._tables.workflow(saga, id_))]

    def letters(self, wanted: LetterSearch, limit: int) -> list[DeadLetter]:
        with self._reading():
            return MemoryLetters(self._tables.letters).letters(wanted, limit)

    def author(self, saga: str) -> str | None:
        with self._reading():
            return self._tables.authors.get(saga)

    def left(self, saga: str, version: int) -> Left:
        with self._reading():
            mine = [w.id for (name, _), w in self._tables.workflows.items() if name == saga and w.version == version]
            found = [self._glance(saga, id_) for id_ in mine]
            unpublished = sum(row.offset is None for id_ in mine for row in self._tables.rows(saga, id_))
        opened = [w for w in found if not w.closed]
        parked = [w for w in opened if any(f.error is not None for f in w.fences.values())]
        timed = [w for w in opened if w.deadline or any(f.due or f.expires for f in w.fences.values())]
        return Left(len(opened), len(parked), len(timed), unpublished)

    def _glance(self, saga: str, workflow_id: str) -> Workflow:
        workflow = self._tables.workflow(saga, workflow_id)
        assert workflow is not None
        return replace(workflow, inbox={}, unpublished=set())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self.connection.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Hold the store, knowing all that is committed; refused inside a transaction of this thread."""
        with self._lock:
            if self._closed:
                raise LifecycleError("the store is closed")
            if self._open:
                raise LifecycleError("a transaction is open on this store; hand it on instead of opening another")
            self._settle()
            yield

    @contextmanager
    def _idle(self) -> Iterator[None]:
        """As `_reading`, while no caller of `join` has a transaction open either."""
        with self._reading():
            if self.connection.in_transaction:
                raise LifecycleError("the caller's transaction on this store's connection is open; end it first")
            yield

    def _settle(self) -> None:
        """Learn how the callers of `join` ended their transactions."""
        if not self._joined:
            return
        cursor = self.connection.cursor()
        cursor.row_factory = None
        survived = {number for (number,) in cursor.execute("SELECT number FROM saga_joined").fetchall()}
        self._joined = [(number, tables) for number, tables in self._joined if number in survived]
        if not self.connection.in_transaction:
            for _, tables in self._joined:
                self._absorb(tables)
            self._joined.clear()
            cursor.execute("DELETE FROM saga_joined")

    def _absorb(self, tables: MemoryTables) -> None:
        self._tables.absorb(tables)
        self._commits += 1


def _moved(workflow: Workflow) -> datetime:
    received = (r.received for r in workflow.inbox.values() if r.received)
    changed = (f.changed for f in workflow.fences.values() if f.changed and f.error is None)
    return workflow.closed or max([workflow.opened, *received, *changed])


def _fits(one: Listed, wanted: Search) -> bool:
    workflow = one.workflow
    return (
        wanted.saga in {None, one.saga}
        and wanted.version in {None, workflow.version}
        and wanted.status in {None, workflow.status}
        and (not wanted.parked or any(fence.error is not None for fence in workflow.fences.values()))
        and (not wanted.with_exceptions or bool(workflow.exceptions))
        and (wanted.idle_since is None or (workflow.closed is None and one.moved <= wanted.idle_since))
    )
