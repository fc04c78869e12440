"""What of a lane's records is this participant's business: told by headers alone, nothing is decoded that they can decide."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from saga.contracts.message import Kind, Message, from_headers, kind_of, unreadable
from saga.errors import DecodeError, LaneStopped
from saga.participant.versions import Versions
from saga.protocol.facts import audience
from saga.store.port import Lane
from saga.transport.port import Record

log = logging.getLogger("saga.intake")


class Incoming(NamedTuple):
    """A consumed record; `message` is None where its header says that it is none of this participant's business."""

    record: Record
    message: Message | None


class Concern(Enum):
    """What a record is to this participant, by its headers alone."""

    HANDLE = "it is in the audience"
    IGNORE = "it is for others"
    REFUSE = "its source does not own the step"
    UNKNOWN = "it is of a saga or version not known here"


@dataclass(slots=True)
class Counts:
    """What became of the facts that were taken in."""

    handled: int = 0
    ignored: int = 0
    duplicates: int = 0
    refused: int = 0

    def __iadd__(self, other: Counts) -> Counts:
        self.handled += other.handled
        self.ignored += other.ignored
        self.duplicates += other.duplicates
        self.refused += other.refused
        return self


class Intake:
    """Reads records of one saga for one participant, and keeps `counts`."""

    def __init__(self, versions: Versions, participant: str) -> None:
        self.versions, self.participant = versions, participant
        self.counts = Counts()
        self._concern = lru_cache(maxsize=4096)(self._concern_of)

    def read(self, lane: Lane, records: Sequence[Record]) -> tuple[list[Incoming], LaneStopped | None]:
        """Everything up to the first record whose headers cannot be read."""
        items: list[Incoming] = []
        for record in records:
            try:
                items.append(Incoming(record, self._message(record)))
            except DecodeError as error:
                return items, LaneStopped(lane.saga, lane.number, str(error))
        return items, None

    def _message(self, record: Record) -> Message | None:
        """The message of a record that is this participant's business; nothing else is read further than its kind."""
        raw, (topic, partition, offset) = dict(record.headers), (record.topic, record.partition, record.offset)
        try:
            concern = self._concern(kind_of(raw))
        except (KeyError, ValueError) as error:
            raise unreadable(raw, error, topic=topic, partition=partition, offset=offset) from error
        if concern is Concern.UNKNOWN:
            raise DecodeError(
                f"record {topic}/{partition}@{offset} is of another saga or version; this participant knows "
                f"{self.versions.name!r} of version {', '.join(map(str, self.versions.numbers))}. "
                f"Deploy one that knows it."
            )
        if concern is Concern.HANDLE:
            return from_headers(raw, record.value or b"", topic=topic, partition=partition, offset=offset)
        if concern is Concern.REFUSE:
            self.counts.refused += 1
            log.error("refused %s/%d@%d: its source does not own the step it speaks of", topic, partition, offset)
        return None

    def _concern_of(self, kind: Kind) -> Concern:
        try:
            saga = self.versions.saga(kind.version, kind.gates)
        except LookupError:
            return Concern.UNKNOWN
        if kind.saga != saga.name:
            return Concern.UNKNOWN
        if kind.step and (kind.step not in saga or saga[kind.step].by != kind.source):
            return Concern.REFUSE
        heard = self.participant in audience(saga, kind.fact)
        return Concern.HANDLE if heard else Concern.IGNORE
