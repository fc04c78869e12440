"""A fact on its way out: the outbox row of what a participant states about a workflow.

The only place that gives out sequence numbers; its callers hold the workflow's lock and save its row.
"""

from __future__ import annotations

from datetime import datetime

from saga.contracts.message import Kind, Message, event_id, to_headers
from saga.contracts.topics import compensations_topic, events_topic
from saga.contracts.trace import TraceContext
from saga.protocol.facts import FactStatus
from saga.store.port import OutboxRow, Workflow


def statement(
    kind: Kind,
    workflow: Workflow,
    payload: bytes,
    now: datetime,
    *,
    index: int = 0,
    cause: Message | None = None,
    context: TraceContext | None = None,
) -> OutboxRow:
    """The row of this fact, with the workflow's next sequence number; `cause` is the message that led to it.

    It carries the trace on from `context`, or else from its cause, or else from where the workflow began.
    """
    workflow.sequence += 1
    traced = context or cause or workflow
    message = Message(
        kind=kind,
        id=event_id(kind.saga, workflow.id, kind.step or f"@{kind.source}", kind.status, index),
        workflow_id=workflow.id,
        time=now,
        sequence=workflow.sequence,
        cause=cause.id if cause else None,
        deadline=workflow.deadline,
        traceparent=traced.traceparent,
        tracestate=traced.tracestate,
        exceptions=workflow.exceptions,
    )
    topic = events_topic if kind.status is FactStatus.DONE else compensations_topic
    return OutboxRow(
        id=message.id,
        saga=kind.saga,
        lane=workflow.lane,
        topic=topic(kind.saga),
        workflow_id=workflow.id,
        type=kind.type,
        sequence=workflow.sequence,
        headers=to_headers(message),
        payload=payload,
        created=now,
    )
