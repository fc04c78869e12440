"""Rows of the port as PostgreSQL takes and gives them: one array for each column going in, tuples coming out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from saga.errors import StoreError
from saga.protocol.facts import FactStatus, StepStatus, WorkflowStatus
from saga.store.dead_letter import DeadLetter, headers_text, letter_of
from saga.store.json_columns import exceptions_of, exceptions_text, interventions_of, interventions_text
from saga.store.port import Fence, Lane, OutboxRow, Published, Received, Workflow

Columns = dict[str, Any]
"""Parameters by name: `rows` counts them, each column is an array, None for one that holds nothing."""

# a look-up is four times faster than calling the enumeration, and rows come by the thousand
_FACT = {status.value: status for status in FactStatus}
_STEP = {status.value: status for status in StepStatus}
_WORKFLOW = {status.value: status for status in WorkflowStatus}

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


def workflow_columns(workflows: Iterable[Workflow], closed: set[str]) -> Columns:
    """Arrays for `open_workflow`; those in `closed` are folded."""
    return _columns(_WORKFLOW_COLUMNS, [
        (
            w.id, w.version, w.lane, w.status.value, w.sequence, _iso(w.deadline), iso(w.opened), _iso(w.closed), w.gates,
            w.error, w.traceparent, w.tracestate, _folding(w) if w.id in closed else None, exceptions_text(w.exceptions),
            interventions_text(w.interventions), _iso(w.unwind_by),
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


def workflow_of(row: Sequence[Any]) -> Workflow:
    """The row as `load_workflows` selects it."""
    (
        id_, version, lane, status, sequence, deadline, opened, closed, gates, error, traceparent, tracestate, steps,
        exceptions, interventions, unwind_by,
    ) = row  # fmt: skip
    return Workflow(
        id=id_,
        version=version,
        lane=lane,
        status=_WORKFLOW[status],
        sequence=sequence,
        deadline=_utc(deadline),
        opened=opened.astimezone(UTC),
        closed=_utc(closed),
        gates=gates,
        error=error,
        traceparent=traceparent,
        tracestate=tracestate,
        exceptions=exceptions_of(exceptions),
        interventions=interventions_of(interventions),
        unwind_by=_utc(unwind_by),
        fences=_unfolded(steps) if steps else {},
    )


def fence_of(row: Sequence[Any]) -> Fence:
    """The row as `load_fences` selects it, without the workflow."""
    step, status, event, result, pending, refused, attempt, due, error, changed, expires = row
    return Fence(
        step=step,
        status=_STEP[status],
        event=event,
        result=result,
        pending=pending,
        refused=refused,
        attempt=attempt,
        due=_utc(due),
        error=error,
        changed=_utc(changed),
        expires=_utc(expires),
    )


def received_of(row: Sequence[Any]) -> Received:
    """The row as `load_inbox` selects it, without the workflow."""
    id_, step, status, type_, payload, state, cause, traceparent, tracestate, topic, partition, offset, received = row
    return Received(
        id=id_,
        step=step,
        status=_FACT[status],
        type=type_,
        payload=payload,
        state=state,
        cause=cause,
        traceparent=traceparent,
        tracestate=tracestate,
        topic=topic,
        partition=partition,
        offset=offset,
        received=_utc(received),
    )


def outbox_row(row: Sequence[Any]) -> OutboxRow:
    """The row as `pending` selects it, or with when and where it was published."""
    id_, saga, lane, topic, workflow_id, type_, sequence, headers, payload, created, *published = row
    return OutboxRow(
        id=id_,
        saga=saga,
        lane=lane,
        topic=topic,
        workflow_id=workflow_id,
        type=type_,
        sequence=sequence,
        headers=[(name, value) for name, value in orjson.loads(headers)],
        payload=payload,
        created=created.astimezone(UTC),
        published=_utc(published[0]) if published else None,
        offset=published[1] if published else None,
    )


def lane_of_row(saga: str, lane: int, row: Sequence[Any], *, clean: bool) -> Lane:
    """The row as `claim` and `lanes` return it."""
    epoch, batch, *columns = row
    offsets, acks, gaps, trials = (orjson.loads(column) for column in columns)
    skipped = {topic: [(begin, end) for begin, end in spans] for topic, spans in gaps.items()}
    return Lane(saga, lane, epoch, batch, offsets, clean, acks, skipped, trials)


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


def letter_from(row: Sequence[Any]) -> DeadLetter:
    """The row as `recalled` and `letters` select it."""
    return letter_of(row, row[11].astimezone(UTC), _utc(row[13]))


@lru_cache(maxsize=1024)
def iso(moment: datetime) -> str:
    """As text: the moments of a batch are few, and an array of texts is dumped much faster than one of moments."""
    if moment.tzinfo is None:
        raise StoreError(f"moment {moment} has no time zone; the engine's clock must answer in UTC")
    return moment.isoformat()


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)


def _utc(moment: datetime | None) -> datetime | None:
    """The driver answers in the session's time zone, which is the service's own business."""
    return None if moment is None else moment.astimezone(UTC)


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


def _folding(workflow: Workflow) -> str:
    return orjson.dumps({f.step: (f.status, f.refused) for f in workflow.fences.values()}).decode()


def _unfolded(steps: str) -> dict[str, Fence]:
    return {
        step: Fence(step=step, status=_STEP[status], refused=refused) for step, (status, refused) in orjson.loads(steps).items()
    }
