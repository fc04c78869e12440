"""One transaction of the store in memory: the caller's connection, and overlays for what the engine writes."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

from saga.clock import Clock
from saga.errors import LaneFenced, LifecycleError, StoreError
from saga.protocol.facts import StepStatus
from saga.store.lane import Lane
from saga.store.memory_letters import MemoryLetters
from saga.store.memory_tables import MemoryTables, altered
from saga.store.outbox import OutboxRow, Published, Waiting
from saga.store.port import Changes, Immediate
from saga.store.workflow import Fence, Received, Workflow

_BUSY = {StepStatus.RUNNING, StepStatus.COMPENSATING}


class MemoryUnit(Immediate, MemoryLetters):
    """An open transaction; its overlays are the store's to merge or to drop."""

    def __init__(self, connection: sqlite3.Connection, tables: MemoryTables, clock: Clock) -> None:
        self.workflow_id: str | None = None
        self.workflow_ids: Sequence[str] = ()
        super().__init__(tables.letters)
        self.tables, self._clock = tables, clock
        self._connection: sqlite3.Connection | None = connection

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LifecycleError("this transaction has ended; use the one that is handed to the handler, while it runs")
        return self._connection

    def end(self) -> None:
        """Refuse further use, now that the transaction is over."""
        self._connection = None

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        return self.connection.execute(sql, parameters)

    def partitions(self, saga: str) -> int | None:
        return self.tables.partitions.get(saga)

    def registered(self, saga: str) -> bool:
        return self.tables.registered.get(saga, False)

    def author(self, saga: str) -> str | None:
        return self.tables.authors.get(saga)

    def load(self, saga: str, ids: Collection[str]) -> dict[str, Workflow]:
        return {id_: w for id_ in ids if (w := self.tables.workflow(saga, id_))}

    def backlog(self, saga: str, limit: int) -> int:
        rows = (row for (of, _), rows in self.tables.outbox.items() if of == saga for row in rows.values())
        return min(limit, sum(row.offset is None for row in rows))

    def waiting(self, saga: str) -> dict[int, Waiting]:
        written: dict[int, list[datetime]] = {}
        for (of, _), rows in self.tables.outbox.items():
            for row in rows.values():
                if of == saga and row.offset is None:
                    written.setdefault(row.lane, []).append(row.created)
        return {lane: Waiting(len(moments), min(moments)) for lane, moments in written.items()}

    def count_parked(self, saga: str, limit: int) -> int:
        found = (w for (of, _), w in self.tables.workflows.items() if of == saga)
        return min(limit, sum(any(fence.error is not None for fence in w.fences.values()) for w in found))

    def running(self, saga: str, lane: int) -> list[str]:
        found = (w for (of, _), w in self.tables.workflows.items() if of == saga and w.lane == lane and not w.closed)
        busy = [w for w in found if any(fence.status in _BUSY for fence in w.fences.values())]
        return [w.id for w in sorted(busy, key=lambda w: (w.opened, w.id))]

    def due(
        self, saga: str, lanes: Collection[int], versions: Collection[int], now: datetime, limit: int
    ) -> list[tuple[int, str]]:
        found = self._opened(saga, lanes, versions)
        waiting = [(f.due, w.lane, w.id) for w in found for f in w.fences.values() if f.due is not None and f.due <= now]
        return list(dict.fromkeys((lane, id_) for _, lane, id_ in sorted(waiting)))[:limit]

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
        found = self._opened(saga, lanes, versions)
        mine = [w for w in found if w.version in deadlines]
        waiting = [(f.expires, w.lane, w.id) for w in found for f in w.fences.values() if f.expires and f.expires <= now]
        waiting += [(w.deadline, w.lane, w.id) for w in mine if w.deadline and w.deadline <= now and w.error is None]
        waiting += [(w.unwind_by, w.lane, w.id) for w in mine if w.unwind_by and w.unwind_by <= now]
        return list(dict.fromkeys((lane, id_) for _, lane, id_ in sorted(waiting)))[:limit]

    def _opened(self, saga: str, lanes: Collection[int], versions: Collection[int]) -> list[Workflow]:
        known = (w for (of, _), w in self.tables.workflows.items() if of == saga and not w.closed)
        return [w for w in known if w.lane in lanes and w.version in versions]

    def save(self, saga: str, changes: Changes) -> None:
        for workflow in (*changes.workflows, *changes.closed, *changes.ended):
            self._save(saga, workflow)
        rows = defaultdict[str, tuple[dict[str, Fence], dict[str, Received]]](lambda: ({}, {}))
        for id_, fence in changes.fences:
            rows[id_][0][fence.step] = altered(fence)
        for id_, received in changes.inbox:
            rows[id_][1][received.id] = altered(received)
        for id_, (fences, inbox) in rows.items():
            known = self.tables.workflows[saga, id_]
            self.tables.workflows[saga, id_] = altered(known, fences=known.fences | fences, inbox=known.inbox | inbox)
        for workflow in (*changes.closed, *changes.ended, *(w for w in changes.workflows if w.closed)):
            self._fold(saga, workflow)
        for row in changes.outbox:
            self._put(row)

    def mark(self, published: Sequence[Published]) -> None:
        now = self._clock.now()
        for report in published:
            self._alter(report, partial(_published, now=now, offset=report.offset))

    def clean(self, handled: Sequence[Published]) -> None:
        for report in handled:
            self._alter(report, lambda row: None)

    def clean_before(self, saga: str, lane: int, topic: str, offset: int, limit: int) -> None:
        rows = (row for rows in self.tables.outbox.values() for row in rows.values() if row.offset is not None)
        there = [row for row in rows if (row.saga, row.lane, row.topic) == (saga, lane, topic)]
        marked = [Published(row.saga, row.workflow_id, row.sequence, row.offset or 0) for row in there]
        self.clean(sorted((one for one in marked if one.offset < offset), key=attrgetter("offset"))[:limit])

    def again(self, lost: Sequence[Published]) -> None:
        for report in lost:
            self._alter(report, partial(_unpublished, offset=report.offset))

    def parked(self, saga: str, lane: int) -> list[tuple[str, int]]:
        found = [w for (of, _), w in self.tables.workflows.items() if of == saga and w.lane == lane]
        recorded = [(r.topic, r.offset) for w in found for r in w.inbox.values() if r.state == "recorded"]
        return recorded + [(one.place.topic, one.place.offset) for one in self.queued(saga) if one.lane == lane]

    def _alter(self, report: Published, change: Callable[[OutboxRow], OutboxRow | None]) -> None:
        rows = self.tables.rows(report.saga, report.workflow_id)
        changed = [change(row) if row.sequence == report.sequence else row for row in rows]
        self.tables.outbox[report.saga, report.workflow_id] = {row.id: row for row in changed if row}

    def advance(self, lane: Lane) -> None:
        held, now = self.tables.held(lane), lane.copy()
        now.forget(held.pruned)
        if held.batch < lane.committed:
            raise LaneFenced(lane.saga, lane.number, lane.epoch)
        self.tables.lanes[lane.saga, lane.number] = replace(
            held, offsets=now.offsets, batch=now.batch, acks=now.acks, gaps=now.gaps, pruned=now.pruned
        )

    def batches(self, saga: str) -> dict[int, tuple[int, int]]:
        return {lane.number: (lane.epoch, lane.batch) for lane in self.tables.lanes.values() if lane.saga == saga}

    def count(self, lane: Lane) -> None:
        self.tables.lanes[lane.saga, lane.number] = replace(self.tables.held(lane), trials=dict(lane.trials))

    def prune(self, lane: Lane, before: datetime, limit: int) -> tuple[int, datetime | None]:
        held, (count, until) = replace(self.tables.held(lane)), self.tables.prune(lane, before, limit)
        held.forget(until)
        self.tables.lanes[lane.saga, lane.number] = held
        return count, until

    def technical(self, error: Exception) -> StoreError | None:
        return None

    def _save(self, saga: str, workflow: Workflow) -> None:
        known = self.tables.workflows.get((saga, workflow.id))
        fences, inbox = (known.fences, known.inbox) if known else ({}, {})
        self.tables.workflows[saga, workflow.id] = altered(workflow, fences=fences, inbox=inbox, unpublished=set())

    def _fold(self, saga: str, workflow: Workflow) -> None:
        if workflow.closed is None:
            raise StoreError(f"workflow {workflow.id} is to be folded, but does not say when it was closed")
        steps = {f.step: Fence(step=f.step, status=f.status, refused=f.refused) for f in workflow.fences.values()}
        self.tables.workflows[saga, workflow.id] = altered(workflow, fences=steps, inbox={}, unpublished=set())

    def _put(self, row: OutboxRow) -> None:
        rows = self.tables.outbox.get((row.saga, row.workflow_id), {})
        if any(other.sequence == row.sequence for other in rows.values()):
            raise StoreError(f"sequence {row.sequence} of workflow {row.workflow_id} is taken")
        self.tables.outbox[row.saga, row.workflow_id] = {**rows, row.id: row}


def _published(row: OutboxRow, *, now: datetime, offset: int) -> OutboxRow:
    return row._replace(published=now, offset=offset)


def _unpublished(row: OutboxRow, *, offset: int) -> OutboxRow:
    return row._replace(published=None, offset=None) if row.offset == offset else row
