"""Rows of the port as PostgreSQL takes them, one array for each column, and its moments as the port has them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from saga.errors import StoreError
from saga.store.dead_letter import DeadLetter, headers_text
from saga.store.json_columns import exceptions_text, interventions_text, steps_text
from saga.store.outbox import OutboxRow, Published
from saga.store.rows import Rows
from saga.store.workflow import Fence, Received, Workflow


def _utc(moment: datetime) -> datetime:
    """The driver answers in the session's time zone, which is the service's own business."""
    return moment.astimezone(UTC)


ROWS = Rows(_utc)

Columns = dict[str, Any]
"""Parameters by name: `rows` counts them, each column is an array, None for one that holds nothing."""

_WORKFLOW_COLUMNS = (
    "workflow_id", "version", "lane", "status", "sequence", "deadline", "opened", "closed", "gates", "error", "traceparent",
    "tracestate", "steps", "exceptions", "interventions", "unwind_by",
)  # fmt: skip
_FENCE_COLUMNS = (
    "workflow_id", "step", "status", "event", "result", "pending", "refused", "attempt", "due", "error", "changed",
    "expires",
)  # fmt: skip
_RECEIVED_COLUMNS = (
    "workflow_id", "id", "step", "status", "type", "payload", "state", "cause", "traceparent", "tracestate", "topic",
    "partition", "offset", "received",
)  # fmt: skip
_OUTBOX_COLUMNS = (
    "id", "topic", "workflow_id", "type", "payload", "saga", "lane", "sequence", "headers", "created",
)  # fmt: skip


def workflow_columns(workflows: Collection[Workflow], closed: set[str]) -> Columns:
    """Arrays for `open_workflow`; those in `closed` are folded."""
    folded = {id(w.fences): w.fences for w in workflows if w.id in closed}  # many rebuilt ones share theirs
    steps = {key: steps_text(fences.values()) for key, fences in folded.items()}
    return _columns(_WORKFLOW_COLUMNS, [
        (
            w.id, w.version, w.lane, w.status.value, w.sequence, _iso(w.deadline), iso(w.opened), _iso(w.closed), w.gates,
            w.error, w.traceparent, w.tracestate, steps.get(id(w.fences)),
            exceptions_text(w.exceptions), interventions_text(w.interventions), _iso(w.unwind_by),
        )
        for w in workflows
    ])  # fmt: skip


def fence_columns(fences: Iterable[tuple[str, Fence]]) -> Columns:
    """Arrays for `save_fence`; each fence with its workflow."""
    return _columns(_FENCE_COLUMNS, [
        (
            id_, f.step, f.status.value, f.event, f.result, f.pending, f.refused, f.attempt, _iso(f.due), f.error,
            _iso(f.changed), _iso(f.expires),
        )
        for id_, f in fences
    ])  # fmt: skip


def received_columns(inbox: Iterable[tuple[str, Received]]) -> Columns:
    """Arrays for `save_received`; each event with its workflow."""
    return _columns(_RECEIVED_COLUMNS, [
        (
            id_, r.id, r.step, r.status.value, r.type, r.payload, r.state, r.cause, r.traceparent, r.tracestate, r.topic,
            r.partition, r.offset, _iso(r.received),
        )
        for id_, r in inbox
    ])  # fmt: skip


def outbox_columns(rows: Iterable[OutboxRow]) -> Columns:
    """Arrays for `save_outbox`."""
    return _columns(_OUTBOX_COLUMNS, [
        (
            row.id, row.topic, row.workflow_id, row.type, row.payload, row.saga, row.lane, row.sequence,
            orjson.dumps(row.headers).decode(), iso(row.created),
        )
        for row in rows
    ])  # fmt: skip


def mark_columns(published: Iterable[Published]) -> Columns:
    """Arrays for `mark`."""
    return _columns(("saga", "workflow_id", "sequence", "offset"), [*published])


def letter_fields(letter: DeadLetter) -> dict[str, Any]:
    """Parameters for `bury`."""
    return {
        **letter.place._asdict(),
        "key": letter.key,
        "value": letter.value,
        "headers": headers_text(letter.headers),
        "reason": letter.reason.value,
        "error": letter.error,
        "workflow_id": letter.workflow_id,
        "version": letter.version,
        "recorded": letter.recorded,
        "state": letter.state.value,
        "changed": letter.changed,
        "changed_by": letter.changed_by,
        "note": letter.note,
    }


@lru_cache(maxsize=1024)
def iso(moment: datetime) -> str:
    """As text: the moments of a batch are few, and an array of texts is dumped much faster than one of moments."""
    if moment.tzinfo is None:
        raise StoreError(f"moment {moment} has no time zone; the engine's clock must answer in UTC")
    # both write the same, orjson in a third of the time, but it leaves the seconds of an offset out
    return orjson.dumps(moment)[1:-1].decode() if moment.tzinfo is UTC else moment.isoformat()


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)


def spread(sql: str, columns: Columns) -> str:
    """The statement for columns of which some say the same in every row: those travel once, the server repeats them."""
    once = frozenset(name for name, column in columns.items() if type(column) is list and len(column) < columns["rows"])
    return _spread(sql, once) if once else sql


@lru_cache(maxsize=256)
def _spread(sql: str, once: frozenset[str]) -> str:
    array = rf"%\(({'|'.join(sorted(once))})\)b::(\w+)\[\]"
    return re.sub(array, r"array_fill((%(\1)b::\2[])[1], ARRAY[%(rows)s::integer])", sql)


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Columns:
    """The rows by column. `unnest` fills a missing array up with NULLs, so that columns which hold nothing cost nothing."""
    count = len(rows)
    columns: Columns = {"rows": count}
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        alike = column.count(column[0])
        columns[name] = [*column] if alike < count else None if column[0] is None else [column[0]]
    return columns
