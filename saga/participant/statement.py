"""A fact on its way out: the outbox row of what a participant states about a workflow.

The only place that gives out sequence numbers; its callers hold the workflow's lock and save its row.
"""

from __future__ import annotations

from datetime import datetime

from saga.contracts.message import Kind, Message, event_id, to_headers
from saga.contracts.topics import compensations_topic, events_topic
from saga.contracts.trace import TraceContext
from saga.protocol.facts import FactStatus
from saga.store.outbox import OutboxRow
from saga.store.workflow import Received, Workflow

MOST_TRIES = 1_000


def is_stated(message: Message) -> bool:
    """Whether the id is one that the library gives to this fact: what others write under our name has another, most often."""
    kind = message.kind
    indexes = range(MOST_TRIES) if kind.status is FactStatus.STUCK else (0, message.sequence)
    step = kind.step or f"@{kind.source}"
    return any(event_id(kind.saga, message.workflow_id, step, kind.status, index) == message.id for index in indexes)


def statement(
    kind: Kind,
    workflow: Workflow,
    payload: bytes,
    now: datetime,
    *,
    index: int = 0,
    cause: Message | Received | None = None,
    context: TraceContext | None = None,
) -> OutboxRow:
    """The row of this fact, with the workflow's next sequence number; `cause` is what led to it.

    It carries the trace on from `context`, or else from its cause, or else from where the workflow began.
    """
    workflow.sequence += 1
    traced = context or cause or workflow
    message = Message(
        kind,
        event_id(kind.saga, workflow.id, kind.step or f"@{kind.source}", kind.status, index),
        workflow.id,
        now,
        workflow.sequence,
        cause.id if cause else None,
        workflow.deadline,
        traced.traceparent,
        traced.tracestate,
        workflow.exceptions,
    )
    topic = events_topic if kind.status is FactStatus.DONE else compensations_topic
    return OutboxRow(
        message.id,
        kind.saga,
        workflow.lane,
        topic(kind.saga),
        workflow.id,
        kind.type,
        workflow.sequence,
        to_headers(message),
        payload,
        now,
    )
