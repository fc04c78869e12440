"""Rows as the SQL files of every database select them, made what the port has: a column is read in one place.

Drivers differ in what they give for a moment; each adapter says how it reads one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import orjson

from saga.protocol.facts import FactStatus, WorkflowStatus
from saga.store.dead_letter import DeadLetter, LetterState, Place, Reason, headers_of
from saga.store.json_columns import STEP, exceptions_of, interventions_of, steps_of
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow
from saga.store.workflow import Fence, Received, Workflow

# as `STEP`
_FACT = {status.value: status for status in FactStatus}
_WORKFLOW = {status.value: status for status in WorkflowStatus}


class Rows:
    """Reads rows; `moment` makes a time in UTC of what the driver gives."""

    __slots__ = ("_moment",)

    def __init__(self, moment: Callable[[Any], datetime]) -> None:
        self._moment = moment

    def workflow(self, row: Sequence[Any]) -> Workflow:
        """The row as `load_workflows` selects it."""
        (
            id_, version, lane, status, sequence, deadline, opened, closed, gates, error, traceparent, tracestate, steps,
            exceptions, interventions, unwind_by,
        ) = row  # fmt: skip
        moment = self._moment
        return Workflow(
            id=id_,
            version=version,
            lane=lane,
            status=_WORKFLOW[status],
            sequence=sequence,
            deadline=moment(deadline) if deadline else None,
            opened=moment(opened),
            closed=moment(closed) if closed else None,
            gates=gates,
            error=error,
            traceparent=traceparent,
            tracestate=tracestate,
            exceptions=exceptions_of(exceptions),
            interventions=interventions_of(interventions),
            unwind_by=moment(unwind_by) if unwind_by else None,
            fences=steps_of(steps),
        )

    def fence(self, row: Sequence[Any]) -> Fence:
        """The row as `load_fences` selects it, without the workflow."""
        step, status, event, result, pending, refused, attempt, due, error, changed, expires = row
        moment = self._moment
        return Fence(
            step=step,
            status=STEP[status],
            event=event,
            result=result,
            pending=bool(pending),
            refused=bool(refused),
            attempt=attempt,
            due=moment(due) if due else None,
            error=error,
            changed=moment(changed) if changed else None,
            expires=moment(expires) if expires else None,
        )

    def received(self, row: Sequence[Any]) -> Received:
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
            received=self._moment(received) if received else None,
        )

    def outbox(self, row: Sequence[Any]) -> OutboxRow:
        """The row as `pending` selects it, or with when and where it was published."""
        id_, saga, lane, topic, workflow_id, type_, sequence, headers, payload, created, *delivered = row
        published, offset = delivered or (None, None)
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
            created=self._moment(created),
            published=self._moment(published) if published else None,
            offset=offset,
        )

    def letter(self, row: Sequence[Any]) -> DeadLetter:
        """The row as `recalled` and `letters` select it."""
        (
            saga, topic, partition, offset, key, value, headers, reason, error, workflow_id, version, recorded, state, changed,
            by, note,
        ) = row  # fmt: skip
        return DeadLetter(
            place=Place(saga, topic, partition, offset),
            key=key,
            value=value,
            headers=headers_of(headers),
            reason=Reason(reason),
            error=error,
            recorded=self._moment(recorded),
            workflow_id=workflow_id,
            version=version,
            state=LetterState(state),
            changed=self._moment(changed) if changed else None,
            changed_by=by,
            note=note,
        )

    def lane(self, saga: str, lane: int, row: Sequence[Any], *, clean: bool) -> Lane:
        """The row as `lane`, `claim` and `lanes` return it, its first columns."""
        epoch, batch, *columns, pruned = row[:7]
        offsets, acks, gaps, trials = (orjson.loads(column) for column in columns)
        skipped = {topic: [(begin, end) for begin, end in spans] for topic, spans in gaps.items()}
        moment = self._moment(pruned) if pruned else None
        return Lane(saga, lane, epoch, batch, offsets, clean, acks, skipped, trials, moment, committed=batch)
