"""An event on its way: CloudEvents 1.0 attributes in Kafka headers (binary mode), Avro bytes as value.

All that the engine must know travels in the headers, so routing, dedup, deciding and observing decode nothing.
Source: CloudEvents specification 1.0.2 and its Kafka protocol binding; W3C Trace Context.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from saga.errors import DecodeError
from saga.protocol.facts import Fact, FactStatus

Headers = list[tuple[str, bytes]]
CONTENT_TYPE = "application/avro"

_NAMESPACE = UUID("6f1a53c5-7b0c-5f2e-9a4e-2d1f3b6c8e90")


def event_id(saga: str, workflow_id: str, step: str, status: str, index: int = 0) -> str:
    """The same fact always has the same id, however often it is made: UUIDv5, never the attempt.

    `index` tells repetitions apart that are facts of their own (a step stuck twice, two operators' wishes).
    """
    return str(uuid5(_NAMESPACE, f"{saga}/{workflow_id}/{step}/{status}/{index}"))


def idempotency_key(saga: str, workflow_id: str, step: str, act: str) -> str:
    """The key an external system gets; `act` is `action` or `compensation`. The same at every attempt."""
    return str(uuid5(_NAMESPACE, f"{saga}/{workflow_id}/{step}/{act}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One fact with its envelope; `value` is Avro in the Confluent wire format (0x00, schema id, body).

    `sequence` counts what `source` stated about this workflow, from 1, over all topics of the saga. `step` is empty for an
    abort that concerns the whole workflow. `topic`, `partition` and `offset` are set on consumed messages.
    """

    id: str
    type: str
    source: str
    workflow_id: str
    time: datetime
    saga: str
    version: int
    step: str
    status: FactStatus
    sequence: int
    cause: str | None = None
    attempt: int = 1
    deadline: datetime | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    value: bytes = b""
    topic: str = ""
    partition: int = -1
    offset: int = -1

    @property
    def fact(self) -> Fact:
        event = self.type if self.status is FactStatus.DONE else None
        return Fact(self.step, self.status, event)


def to_headers(message: Message) -> Headers:
    """The message's attributes as Kafka headers, absent ones left out."""
    texts = {
        "ce_specversion": "1.0",
        "ce_id": message.id,
        "ce_type": message.type,
        "ce_source": message.source,
        "ce_subject": message.workflow_id,
        "ce_time": message.time.isoformat().replace("+00:00", "Z"),
        "ce_dataschema": f"urn:saga:{message.saga}:{message.version}:{message.type}",
        "content-type": CONTENT_TYPE,
        "ce_saga": message.saga,
        "ce_sagaversion": str(message.version),
        "ce_step": message.step,
        "ce_status": message.status.value,
        "ce_causationid": message.cause,
        "ce_sequence": str(message.sequence),
        "ce_attempt": str(message.attempt),
        "ce_deadline": message.deadline.isoformat().replace("+00:00", "Z") if message.deadline else None,
        "traceparent": message.traceparent,
        "tracestate": message.tracestate,
    }
    return [(name, text.encode()) for name, text in texts.items() if text]


def from_headers(
    headers: Iterable[tuple[str, bytes | None]], value: bytes, *, topic: str = "", partition: int = -1, offset: int = -1
) -> Message:
    """Read a consumed record; raises DecodeError that names the header that is missing or makes no sense."""
    texts = {name: raw for name, raw in headers if raw is not None}
    try:
        deadline = texts.get("ce_deadline")
        return Message(
            id=texts["ce_id"].decode(),
            type=texts["ce_type"].decode(),
            source=texts["ce_source"].decode(),
            workflow_id=texts["ce_subject"].decode(),
            time=datetime.fromisoformat(texts["ce_time"].decode()),
            saga=texts["ce_saga"].decode(),
            version=int(texts["ce_sagaversion"]),
            step=texts.get("ce_step", b"").decode(),
            status=FactStatus(texts["ce_status"].decode()),
            sequence=int(texts["ce_sequence"]),
            cause=_text(texts.get("ce_causationid")),
            attempt=int(texts.get("ce_attempt", b"1")),
            deadline=datetime.fromisoformat(deadline.decode()) if deadline else None,
            traceparent=_text(texts.get("traceparent")),
            tracestate=_text(texts.get("tracestate")),
            value=value,
            topic=topic,
            partition=partition,
            offset=offset,
        )
    except KeyError as missing:
        raise DecodeError(
            f"record {topic}/{partition}@{offset} has no header {missing}; found {', '.join(sorted(texts)) or 'none'}. "
            f"Producers of saga topics must write CloudEvents binary mode headers."
        ) from missing
    except ValueError as wrong:
        raise DecodeError(f"record {topic}/{partition}@{offset} has a header that makes no sense: {wrong}") from wrong


def _text(raw: bytes | None) -> str | None:
    return raw.decode() if raw else None
