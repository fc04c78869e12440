"""One record of a saga's topics as replay sees it: nothing is skipped, and what cannot be read says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from saga.contracts.message import Message, from_headers, moment_of
from saga.errors import DecodeError
from saga.transport.port import Record

_UNDATED = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with its envelope.

    `message` is None where the headers make no sense to this version of the library, and `fault` then says why; the other
    attributes are what could be read all the same, with an empty text, 0 or 1970 for what could not. `status` is a text, since
    a later version may have more of them.
    """

    record: Record
    message: Message | None
    fault: str | None
    workflow: str
    id: str
    type: str
    saga: str
    version: int
    source: str
    sequence: int
    step: str
    status: str
    time: datetime
    cause: str | None

    @property
    def place(self) -> str:
        """Where the record stands, for people."""
        return f"{self.record.topic}/{self.record.partition}@{self.record.offset}"


def entry(record: Record) -> Entry:
    """Read a record's envelope; never raises."""
    raw = dict(record.headers)
    try:
        message = from_headers(raw, record.value or b"", topic=record.topic, partition=record.partition, offset=record.offset)
    except DecodeError as error:
        return _loose(record, raw, str(error))
    kind = message.kind
    return Entry(
        record,
        message,
        None,
        message.workflow_id,
        message.id,
        kind.type,
        kind.saga,
        kind.version,
        kind.source,
        message.sequence,
        kind.step,
        kind.status.value,
        message.time,
        message.cause,
    )


def _loose(record: Record, raw: Mapping[str, bytes | None], fault: str) -> Entry:
    """As much of the envelope as can be read."""
    said = {name: (raw.get(f"ce_{name}") or b"").decode(errors="replace") for name in _WANTED}
    return Entry(
        record,
        None,
        fault,
        said["subject"] or (record.key or b"").decode(errors="replace"),
        said["id"] or f"{record.topic}/{record.partition}@{record.offset}",
        said["type"],
        said["saga"],
        _number(said["sagaversion"]),
        said["source"],
        _number(said["sequence"]),
        said["step"],
        said["status"],
        _moment(said["time"]),
        said["causationid"] or None,
    )


_WANTED = ("subject", "id", "type", "saga", "sagaversion", "source", "sequence", "step", "status", "time", "causationid")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else 0


def _moment(text: str) -> datetime:
    try:
        return moment_of(text.encode())
    except ValueError:
        return _UNDATED
