"""One open PostgreSQL transaction: what handlers execute in it, and what the engine loads and saves set-based.

Statements of the engine fail with StoreError. Statements of handlers fail with the driver's own errors where it is certain
whose statement failed, else with StatementFailed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson
import psycopg

from saga.clock import Clock
from saga.errors import LaneFenced, StoreConflict, StoreError
from saga.store.archive import Listed, Search
from saga.store.dead_letter import DeadLetter, LetterSearch, LetterState, Place
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow, Published, Waiting
from saga.store.port import Changes
from saga.store.postgres_copy import copy_ended
from saga.store.postgres_pipeline import Answer, Pipeline
from saga.store.postgres_rows import (
    ROWS,
    fence_columns,
    iso,
    letter_fields,
    mark_columns,
    outbox_columns,
    received_columns,
    spread,
    workflow_columns,
)
from saga.store.postgres_tables import overtaken, technical
from saga.store.workflow import Workflow


class PostgresUnit:
    """A transaction on `connection`: one that the store began there, or with `own=False` one that its caller will end.

    `eager`: a handler's statement is answered before `execute` returns. `former` departed from the same thread before.
    `cursors` are the connection's of earlier units, by statement.
    `ended` is called when a transaction that departed has.
    """

    def __init__(
        self,
        connection: Any,
        address: str,
        clock: Clock,
        *,
        eager: bool,
        own: bool = True,
        former: PostgresUnit | None = None,
        cursors: dict[str, Any] | None = None,
        timeline: str | None = None,
        ended: Callable[[Exception | None], None] = lambda _: None,
    ) -> None:
        self.workflow_id: str | None = None
        self.workflow_ids: Sequence[str] = ()
        self.under_way, self.timeline = False, timeline
        self.pipeline: Pipeline = Pipeline(
            connection, address, own=own, former=former.pipeline if former is not None else None, cursors=cursors
        )
        self._departing, self._ended = False, ended
        self._address, self._clock, self._eager, self._own = address, clock, eager, own
        self._unknown: set[tuple[str, str]] = set()
        self._topics: dict[str, tuple[int, bool, str | None]] = {}  # a count that was recorded stays
        self._unannounced: set[tuple[str, int]] = set()

    @property
    def connection(self) -> Any:
        return self.pipeline.direct()

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Answer:
        answer = self.pipeline.handle(sql, parameters)
        if self._eager:
            self.pipeline.send(asked=True)
        return answer

    def partitions(self, saga: str) -> int | None:
        return self._topics_of(saga)[0]

    def registered(self, saga: str) -> bool:
        return self._topics_of(saga)[1]

    def author(self, saga: str) -> str | None:
        return self._topics_of(saga)[2]

    def _topics_of(self, saga: str) -> tuple[int | None, bool, str | None]:
        if saga not in self._topics and (rows := self.pipeline.rows("partitions", saga=saga)):
            self._topics[saga] = rows[0]
        return self._topics.get(saga, (None, False, None))

    def load(self, saga: str, ids: Collection[str], *, lock: bool = True) -> dict[str, Workflow]:
        """As the port says; without `lock` for those who only read."""
        wanted = {"saga": saga, "ids": [*ids]}
        if not ids:
            return {}
        if lock and len(ids) == 1:
            self.pipeline.add("lock_name", {"saga": saga, "id": wanted["ids"][0]})
        workflows = self.pipeline.add("load_workflows", wanted, more="locked" if lock else "")
        fences, inbox, unpublished = (
            self.pipeline.add(name, wanted) for name in ("load_fences", "load_inbox", "load_unpublished")
        )
        self.pipeline.send()
        found = {row[0]: ROWS.workflow(row) for row in workflows.cursor.fetchall()}
        # what was not there to be locked may have been committed since: `save` will hear of it
        for id_, *fence in fences.cursor.fetchall():
            if id_ in found:
                found[id_].fences[fence[0]] = ROWS.fence(fence)
        for id_, *received in inbox.cursor.fetchall():
            if id_ in found:
                found[id_].inbox[received[0]] = ROWS.received(received)
        for workflow_id, id_ in unpublished.cursor.fetchall():
            if workflow_id in found:
                found[workflow_id].unpublished.add(id_)
        self._unknown.update((saga, id_) for id_ in ids if id_ not in found)
        return found

    def backlog(self, saga: str, limit: int) -> int:
        return int(self.pipeline.rows("backlog", saga=saga, limit=limit)[0][0])

    def waiting(self, saga: str) -> dict[int, Waiting]:
        return {lane: Waiting(rows, since.astimezone(UTC)) for lane, rows, since in self.pipeline.rows("waiting", saga=saga)}

    def count_parked(self, saga: str, limit: int) -> int:
        return int(self.pipeline.rows("count_parked", saga=saga, limit=limit)[0][0])

    def running(self, saga: str, lane: int) -> list[str]:
        return [id_ for (id_,) in self.pipeline.rows("running", saga=saga, lane=lane)]

    def due(
        self, saga: str, lanes: Collection[int], versions: Collection[int], now: datetime, limit: int
    ) -> list[tuple[int, str]]:
        place = {"saga": saga, "lanes": [*lanes], "versions": [*versions], "now": iso(now), "limit": limit}
        return self.pipeline.rows("due", **place)

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
        place = {"saga": saga, "lanes": [*lanes], "versions": [*versions], "now": iso(now), "limit": limit}
        return self.pipeline.rows("expired", **place, deadlines=[*deadlines])

    def save(self, saga: str, changes: Changes) -> None:
        workflows = {w.id: w for w in (*changes.workflows, *changes.closed)}
        closed = {w.id for w in changes.closed} | {w.id for w in changes.workflows if w.closed}
        stored = [id_ for id_ in closed if (saga, id_) not in self._unknown]
        self._save_workflows(saga, workflows, closed)
        fences = {(id_, f.step): (id_, f) for id_, f in changes.fences if id_ not in closed}
        inbox = {(id_, r.id): (id_, r) for id_, r in changes.inbox if id_ not in closed}
        outbox = {row.id: row for row in changes.outbox}
        if fences:
            self.pipeline.add("save_fence", {"saga": saga, **fence_columns(fences.values())}, form=spread)
        if inbox:
            self.pipeline.add("save_received", {"saga": saga, **received_columns(inbox.values())}, form=spread)
        if outbox:
            self.pipeline.add("save_outbox", outbox_columns(outbox.values()), form=spread)
        if stored:
            self.pipeline.add("drop_fences", {"saga": saga, "ids": stored})
            self.pipeline.add("drop_inbox", {"saga": saga, "ids": stored})
        self._unannounced.update((row.saga, row.lane) for row in changes.outbox)
        self._end_of_verb()
        if changes.ended:
            copy_ended(self.connection, self._address, saga, changes.ended)

    def mark(self, published: Sequence[Published]) -> None:
        if published:
            columns = {"published": iso(self._clock.now()), **mark_columns(published)}
            self.pipeline.add("mark", columns, form=spread)
            self._end_of_verb()

    def clean(self, handled: Sequence[Published]) -> None:
        self._report("clean", handled)

    def clean_before(self, saga: str, lane: int, topic: str, offset: int, limit: int) -> None:
        place = {"saga": saga, "lane": lane, "topic": topic, "offset": offset, "limit": limit}
        self.pipeline.add("clean_before", place)
        self._end_of_verb()

    def again(self, lost: Sequence[Published]) -> None:
        self._report("again", lost)

    def _report(self, statement: str, reports: Sequence[Published]) -> None:
        if reports:
            self.pipeline.add(statement, mark_columns(reports), form=spread)
            self._end_of_verb()

    def parked(self, saga: str, lane: int) -> list[tuple[str, int]]:
        return self.pipeline.rows("parked", saga=saga, lane=lane)

    def prune(self, lane: Lane, before: datetime, limit: int) -> tuple[int, datetime | None]:
        place = {"saga": lane.saga, "lane": lane.number, "epoch": lane.epoch}
        found = self.pipeline.rows("prune", **place, before=iso(before), limit=limit)
        if not found:
            raise LaneFenced(lane.saga, lane.number, lane.epoch)
        [(count, until)] = found
        return int(count), until.astimezone(UTC) if until else None

    def technical(self, error: Exception) -> StoreError | None:
        if isinstance(error, StoreError):
            return error
        return technical(self._address, error) or overtaken(self._address, error)

    def advance(self, lane: Lane) -> None:
        """As the port says, only that a fenced owner may hear of it as late as at the end."""
        # whoever advances a lane publishes what was written for it from memory
        self._unannounced.discard((lane.saga, lane.number))
        place = {"saga": lane.saga, "lane": lane.number, "epoch": lane.epoch}
        moved = {"batch": lane.batch, "committed": lane.committed, "pruned": lane.pruned}
        held = {"offsets": lane.offsets, "acks": lane.acks, "gaps": lane.gaps}
        written = {name: orjson.dumps(column).decode() for name, column in held.items()}

        self.pipeline.add("advance", {**place, **moved, **written}, excuse=_fenced(lane))
        self._end_of_verb()

    def batches(self, saga: str) -> dict[int, tuple[int, int]]:
        return {lane: (epoch, batch) for lane, epoch, batch in self.pipeline.rows("batches", saga=saga)}

    def count(self, lane: Lane) -> None:
        place = {"saga": lane.saga, "lane": lane.number, "epoch": lane.epoch}
        self.pipeline.add("count", {**place, "trials": orjson.dumps(lane.trials).decode()}, excuse=_fenced(lane))

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self.pipeline.add("bury", letter_fields(letter))
        self._end_of_verb()

    def exhume(self, places: Collection[Place]) -> None:
        for place in places:
            self.pipeline.add("exhume", place._asdict())
        self._end_of_verb()

    def recalled(self, saga: str, lanes: Collection[int], versions: Collection[int], limit: int) -> list[DeadLetter]:
        rows = self.pipeline.rows("recalled", saga=saga, lanes=[*lanes], versions=[*versions], limit=limit)
        return [ROWS.letter(row) for row in rows]

    def letters(self, wanted: LetterSearch, limit: int) -> list[DeadLetter]:
        given = {name: value.value if isinstance(value, StrEnum) else value for name, value in asdict(wanted).items()}
        return [ROWS.letter(row) for row in self.pipeline.rows("letters", **given, limit=limit)]

    def settle(self, letters: Collection[DeadLetter], state: LetterState, now: datetime, *, by: str, note: str | None) -> None:
        decided = {"state": state.value, "changed": now, "changed_by": by, "note": note}
        for one in letters:
            self.pipeline.add("settle", {**one.place._asdict(), "seen": one.state.value, **decided})
        self._end_of_verb()

    def forget(self, saga: str, before: datetime, limit: int) -> int:
        return len(self.pipeline.rows("forget", saga=saga, before=before, limit=limit))

    def depart(self) -> None:
        self._departing = self._own

    def commit(self) -> None:
        """End the transaction, with word to the owners of those lanes for which it wrote events."""
        self._announce()
        self.pipeline.depart()
        self.under_way = self._departing
        if not self.under_way:
            self.pipeline.arrive()

    def arrive(self) -> None:
        if not self.under_way:
            return
        self.under_way, failed = False, None
        try:
            self.pipeline.arrive()
        except Exception as error:
            failed = error
            raise
        finally:
            self._ended(failed)

    def outbox_of(self, saga: str, workflow_id: str) -> list[OutboxRow]:
        return [ROWS.outbox(row) for row in self.pipeline.rows("outbox_of_workflow", saga=saga, id=workflow_id)]

    def search(self, wanted: Search, limit: int) -> list[Listed]:
        if not wanted.parked:
            self.pipeline.add("for_whole_tables", {})  # no index is kept for people alone
        place = {"saga": wanted.saga, "version": wanted.version, "status": wanted.status and wanted.status.value}
        place |= {"with_exceptions": wanted.with_exceptions, "limit": limit}
        rows = self.pipeline.rows("search", more=wanted.order, **place)
        known = (Listed(saga, ROWS.workflow(row), moved.astimezone(UTC)) for saga, moved, *row in rows)
        found = [one for one in known if one.is_idle(wanted.idle_since)]  # they come first
        for saga in {one.saga for one in found}:
            open_ = {one.workflow.id: one.workflow for one in found if one.saga == saga and not one.workflow.closed}
            for id_, *fence in self.pipeline.rows("load_fences", saga=saga, ids=[*open_]):
                open_[id_].fences[fence[0]] = ROWS.fence(fence)
        return found

    def _save_workflows(self, saga: str, workflows: Mapping[str, Workflow], closed: set[str]) -> None:
        new = [w for id_, w in workflows.items() if (saga, id_) in self._unknown]
        old = [w for id_, w in workflows.items() if (saga, id_) not in self._unknown]
        if new:
            columns = {"saga": saga, **workflow_columns(new, closed)}
            self.pipeline.add("open_workflow", columns, excuse=self._opened_elsewhere, form=spread)
            self._unknown.difference_update((saga, w.id) for w in new)
        if old:
            columns = {"saga": saga, **workflow_columns(old, closed)}
            self.pipeline.add("open_workflow", columns, more="or_replace", form=spread)

    def _opened_elsewhere(self, error: Exception) -> StoreError | None:
        if not isinstance(error, psycopg.errors.UniqueViolation):
            return None
        return StoreConflict(f"{self._address}: another transaction opened the same workflow ({error.diag.message_detail})")

    def _announce(self) -> None:
        """Tell other processes of the outbox.

        NOTIFY takes a lock of the whole server at COMMIT, so it is left to the few transactions whose events are not published
        by the very thread that commits them: those of `start` and of operators.
        """
        for saga, lane in sorted(self._unannounced):
            self.pipeline.add("notify", {"saga": saga, "lane": lane})
        self._unannounced.clear()

    def _end_of_verb(self) -> None:
        """In a transaction that its caller ends, nothing may be left behind."""
        if not self._own:
            self._announce()
            self.pipeline.send()


def _fenced(lane: Lane) -> Callable[[Exception], StoreError | None]:
    """What it means that a statement on the lane's own row divides by zero."""

    def excuse(error: Exception) -> StoreError | None:
        is_ours = not isinstance(error, psycopg.errors.DivisionByZero)
        return None if is_ours else LaneFenced(lane.saga, lane.number, lane.epoch)

    return excuse
