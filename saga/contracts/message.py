"""An event on its way: CloudEvents 1.0 attributes in Kafka headers (binary mode), Avro bytes as value.

All that the engine must know travels in the headers, so routing, dedup, deciding and observing decode nothing.
Source: CloudEvents specification 1.0.2 and its Kafka protocol binding; W3C Trace Context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha1
from typing import NamedTuple
from uuid import UUID

import orjson

from saga.errors import DecodeError
from saga.protocol.facts import Fact, FactStatus, stated

Headers = list[tuple[str, str]]
"""What is written; UTF-8 on the wire."""
CONTENT_TYPE = "application/avro"
MAX_ID_BYTES = 512
"""Of an event's or a workflow's id: databases index them."""

MAX_TRACE_BYTES = 8192
"""Of each header of a trace; whoever writes more than 512 is told by the standard that it may be dropped."""

# a database answers in the zone of its session, which has no name for the last hours of the calendar or none for the first
_EARLIEST = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
_LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)

_NAMESPACE = UUID("6f1a53c5-7b0c-5f2e-9a4e-2d1f3b6c8e90").bytes


def is_usable_id(id: str) -> bool:
    """Whether every participant's database can index it."""
    try:
        return 0 < len(id.encode()) <= MAX_ID_BYTES and "\0" not in id
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON may have
        return False


def event_id(saga: str, workflow_id: str, step: str, status: str, index: int = 0) -> str:
    """The same fact always has the same id, however often it is made: UUIDv5, never the attempt.

    `index` tells repetitions apart that are facts of their own (a step stuck twice, two operators' wishes).
    """
    return _uuid5(f"{saga}/{workflow_id}/{step}/{status}/{index}")


def idempotency_key(saga: str, workflow_id: str, step: str, act: str) -> str:
    """The key an external system gets; `act` is `action` or `compensation`. The same at every attempt."""
    return _uuid5(f"{saga}/{workflow_id}/{step}/{act}")


def _uuid5(name: str) -> str:
    """`str(uuid.uuid5(...))` at a third of its cost: every event has one."""
    digest = bytearray(sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x50, digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Kind(NamedTuple):
    """The part of an envelope that names no workflow, so that few are ever seen: enough to route by.

    `step` is empty for an abort that concerns the whole workflow. `gates` are the open ones of its saga, see `open_gates`.
    """

    type: str
    source: str
    saga: str
    version: int
    step: str
    status: FactStatus
    attempt: int = 1
    gates: str = ""

    @property
    def fact(self) -> Fact:
        return stated(self.step, self.status, self.type)


class Message(NamedTuple):
    """One fact with its envelope; `value` is Avro in the Confluent wire format (0x00, schema id, body).

    `sequence` counts what the source stated about this workflow, from 1, over all topics of the saga. `topic`, `partition`
    and `offset` are set on consumed messages. `exceptions` are steps whose compensation was passed over or stated by hand, as
    far as the source knew.
    """

    kind: Kind
    id: str
    workflow_id: str
    time: datetime
    sequence: int
    cause: str | None = None
    deadline: datetime | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    exceptions: frozenset[str] = frozenset()
    value: bytes = b""
    topic: str = ""
    partition: int = -1
    offset: int = -1

    @property
    def fact(self) -> Fact:
        return self.kind.fact


@lru_cache(maxsize=4096)
def open_gates(written: str) -> frozenset[str]:
    """The names of open gates as a header and a workflow's row spell them: `["a","b"]`, nothing where none is open.

    Raises ValueError for anything else.
    """
    names = orjson.loads(written) if written else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"found the gates {written!r}; expected a JSON list of names")
    return frozenset(names)


def written_gates(names: Iterable[str]) -> str:
    """The other way round."""
    return orjson.dumps(ordered).decode() if (ordered := sorted(names)) else ""


RawHeaders = Mapping[str, bytes | None]


def to_headers(message: Message) -> Headers:
    """The message's attributes as Kafka headers, absent ones left out."""
    headers = [
        ("ce_id", message.id),
        ("ce_subject", message.workflow_id),
        ("ce_time", _moment(message.time)),
        ("ce_sequence", str(message.sequence)),
        *_kind_headers(message.kind),
    ]
    if message.cause:
        headers.append(("ce_causationid", message.cause))
    if message.deadline:
        headers.append(("ce_deadline", _moment(message.deadline)))
    if message.exceptions:
        headers.append(("ce_exceptions", ",".join(sorted(message.exceptions))))
    if message.traceparent:
        headers.append(("traceparent", message.traceparent))
    if message.tracestate:
        headers.append(("tracestate", message.tracestate))
    return headers


def kind_of(raw: RawHeaders) -> Kind:
    """Read from a record's headers what it is about; raises KeyError or ValueError, see `unreadable`."""
    return _kind(
        raw["ce_type"],
        raw["ce_source"],
        raw["ce_saga"],
        raw["ce_sagaversion"],
        raw.get("ce_step"),
        raw["ce_status"],
        raw.get("ce_attempt"),
        raw.get("ce_gates"),
    )


def from_headers(
    raw: RawHeaders, value: bytes, *, kind: Kind | None = None, topic: str = "", partition: int = -1, offset: int = -1
) -> Message:
    """Read a consumed record, whose `kind` may be known already.

    Raises DecodeError that names the header that is missing or makes no sense.
    """
    try:
        deadline = raw.get("ce_deadline")
        return Message(
            kind or kind_of(raw),
            _id(raw["ce_id"]),
            _id(raw["ce_subject"]),
            moment_of(raw["ce_time"]),
            _number(raw["ce_sequence"], 63),
            _optional(raw.get("ce_causationid")),
            moment_of(deadline) if deadline else None,
            _traced(raw.get("traceparent")),
            _traced(raw.get("tracestate")),
            _names(raw.get("ce_exceptions")),
            value,
            topic,
            partition,
            offset,
        )
    except (KeyError, ValueError) as error:
        raise unreadable(raw, error, topic=topic, partition=partition, offset=offset) from error


def unreadable(raw: RawHeaders, error: Exception, *, topic: str, partition: int, offset: int) -> DecodeError:
    """What is wrong with a record's headers, told to people."""
    where = f"record {topic}/{partition}@{offset}"
    if isinstance(error, KeyError):
        return DecodeError(
            f"{where} has no header {error}; found {', '.join(sorted(raw)) or 'none'}. "
            f"Producers of saga topics must write CloudEvents binary mode headers."
        )
    return DecodeError(f"{where} has a header that makes no sense: {error}")


@lru_cache(maxsize=4096)
def _kind(
    type: bytes | None,
    source: bytes | None,
    saga: bytes | None,
    version: bytes | None,
    step: bytes | None,
    status: bytes | None,
    attempt: bytes | None,
    gates: bytes | None,
) -> Kind:
    return Kind(
        _text(type),
        _text(source),
        _text(saga),
        _number(version, 31),
        _optional(step) or "",
        FactStatus(_text(status)),
        _number(attempt, 31) if attempt else 1,
        _optional(gates) or "",
    )


@lru_cache(maxsize=4096)
def _kind_headers(kind: Kind) -> Headers:
    texts = {
        "ce_specversion": "1.0",
        "ce_type": kind.type,
        "ce_source": kind.source,
        "ce_dataschema": f"urn:saga:{kind.saga}:{kind.version}:{kind.type}",
        "content-type": CONTENT_TYPE,
        "ce_saga": kind.saga,
        "ce_sagaversion": str(kind.version),
        "ce_step": kind.step,
        "ce_status": kind.status.value,
        "ce_attempt": str(kind.attempt),
        "ce_gates": kind.gates,
    }
    return [(name, text) for name, text in texts.items() if text]


@lru_cache(maxsize=1024)
def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@lru_cache(maxsize=1024)
def moment_of(raw: bytes | None) -> datetime:
    """The moment that a header holds, in UTC; ValueError for anything else, and for one without an offset from UTC."""
    moment = datetime.fromisoformat(_text(raw))
    if moment.tzinfo is None:
        raise ValueError(f"the moment {moment.isoformat()!r} has no offset from UTC")
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError(f"the moment {moment.isoformat()!r} is less than a day from an end of the calendar")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _names(raw: bytes | None) -> frozenset[str]:
    return frozenset(filter(None, raw.decode().split(","))) if raw else frozenset()


def _text(raw: bytes | None) -> str:
    if raw is None:
        raise ValueError("an attribute is null")
    if b"\0" in raw:
        raise ValueError("an attribute holds a NUL, which no database takes for text")
    return raw.decode()


def _optional(raw: bytes | None) -> str | None:
    return _text(raw) if raw else None


def _traced(raw: bytes | None) -> str | None:
    """Nothing for what is too long to be carried on: what comes of this event would be too large for a record."""
    found = _optional(raw)
    return None if raw is not None and len(raw) > MAX_TRACE_BYTES else found


def _id(raw: bytes | None) -> str:
    if raw is not None and not 0 < len(raw) <= MAX_ID_BYTES:
        raise ValueError(f"an id has {len(raw)} bytes; expected 1 to {MAX_ID_BYTES}")
    return _text(raw)


@lru_cache(maxsize=1024)
def _number(raw: bytes | None, bits: int) -> int:
    number = int(_text(raw))
    if not 0 < number < 2**bits:
        raise ValueError(f"found the number {number}; expected 1 to 2^{bits} - 1")
    return number
