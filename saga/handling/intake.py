"""What of a lane's records is this participant's business: told by headers alone, nothing is decoded that they can decide.

Every record becomes a message, something for others, or a dead letter: none of them stops its lane.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from saga.contracts.message import Kind, Message, from_headers, kind_of, unreadable
from saga.contracts.topics import lane_of
from saga.errors import DecodeError
from saga.participant.versions import Versions
from saga.protocol.definition import Definition
from saga.protocol.facts import FactStatus, audience
from saga.store.dead_letter import DeadLetter, LetterState, Place, Reason
from saga.store.lane import Lane
from saga.store.workflow import Workflow
from saga.text import storable
from saga.transport.port import Record

log = logging.getLogger("saga.intake")

SKEW = timedelta(hours=1)  # between the clocks of services


class Incoming(NamedTuple):
    """A consumed record: with its `message` if it is this participant's business, with a `letter` if it cannot be taken in.

    `again`: it comes from among the dead letters, and the lane's offsets have passed it. `asked` is the one that a person has
    requeued.
    """

    record: Record
    message: Message | None
    letter: DeadLetter | None = None
    again: bool = False
    asked: DeadLetter | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be done about it."""
        return self.message is None and self.letter is None and not self.again


class Concern(Enum):
    """What a record is to this participant, by its headers alone."""

    HANDLE = "it is in the audience"
    IGNORE = "it is for others"
    REFUSE = "its source does not own the step"
    FOREIGN = "it is of a saga not known here"
    UNKNOWN = "it is of a version not known here"


@dataclass(slots=True)
class Counts:
    """What became of the facts that were taken in."""

    handled: int = 0
    ignored: int = 0
    duplicates: int = 0
    refused: int = 0
    dead: int = 0

    def __iadd__(self, other: Counts) -> Counts:
        for count in fields(self):
            setattr(self, count.name, getattr(self, count.name) + getattr(other, count.name))
        return self


class Unusable(Exception):
    """A record that cannot be taken in; `message` is there where its headers can be read."""

    def __init__(self, reason: Reason, why: str, message: Message | None = None) -> None:
        self.reason, self.message = reason, message
        super().__init__(why)


class Intake:
    """Reads records of one saga, whose topics have `partitions`, for one participant, and keeps `counts`.

    `concern` says what a kind of record is to the participant, and raises ValueError for one that makes no sense. It remembers.
    """

    def __init__(self, versions: Versions, participant: str, partitions: int) -> None:
        self.versions, self.participant, self.partitions = versions, participant, partitions
        self.counts = Counts()
        self.concern = lru_cache(maxsize=4096)(self._concern_of)

    def read(self, lane: Lane, records: Iterable[Record], now: datetime) -> list[Incoming]:
        """What each record is, in order."""
        return [self._incoming(lane, record, now) for record in records]

    def again(self, lane: Lane, letters: Sequence[DeadLetter], now: datetime) -> list[Incoming]:
        """As `read`, for what was a dead letter until now."""
        records = [Record(*one.place[1:], one.key, one.value, one.headers) for one in letters]
        asked = [one if one.state is LetterState.REQUEUED else None for one in letters]
        read = self.read(lane, records, now)
        return [incoming._replace(again=True, asked=letter) for incoming, letter in zip(read, asked, strict=True)]

    def _incoming(self, lane: Lane, record: Record, now: datetime) -> Incoming:
        try:
            return Incoming(record, self._message(record))
        except Unusable as found:
            return Incoming(record, None, _letter(lane, record, found, now))

    def _message(self, record: Record) -> Message | None:
        """The message of a record that is this participant's business; nothing else is read further than its kind."""
        raw, (topic, partition, offset) = dict(record.headers), (record.topic, record.partition, record.offset)
        try:
            if len(raw) != len(record.headers):
                _refuse_ambiguous(record)
            kind = kind_of(raw)
            concern = self.concern(kind)
        except (KeyError, ValueError) as error:
            why = unreadable(raw, error, topic=topic, partition=partition, offset=offset)
            raise Unusable(Reason.HEADERS, str(why)) from error
        if concern is Concern.IGNORE:
            return None
        if concern is Concern.REFUSE:
            self.counts.refused += 1
            log.error("refused %s/%d@%d: its source does not own the step it speaks of", topic, partition, offset)
            return None
        if concern is Concern.FOREIGN:
            raise Unusable(Reason.FOREIGN, f"it is of saga {kind.saga!r}, on a topic of {self.versions.name!r}")
        try:
            message = from_headers(raw, record.value or b"", kind=kind, topic=topic, partition=partition, offset=offset)
        except DecodeError as error:
            raise Unusable(Reason.HEADERS, str(error)) from error
        self._check(record, message, concern)
        return message

    def _check(self, record: Record, message: Message, concern: Concern) -> None:
        """A workflow has one lane, which its key decides; in any other its facts would meet those of another owner."""
        if record.key != message.workflow_id.encode():
            raise Unusable(Reason.KEY, f"its key is {record.key!r}, its ce_subject {message.workflow_id!r}", message)
        if (lane := lane_of(message.workflow_id, self.partitions)) != record.partition:
            raise Unusable(Reason.LANE, f"its key belongs to partition {lane} of {self.partitions}", message)
        if concern is Concern.UNKNOWN:
            known = ", ".join(map(str, sorted(self.versions.numbers)))
            why = f"it is of version {message.kind.version} of the saga, {self.participant!r} knows {known}"
            raise Unusable(Reason.UNKNOWN_VERSION, why, message)

    def _concern_of(self, kind: Kind) -> Concern:
        if kind.saga != self.versions.name:
            return Concern.FOREIGN
        if kind.version not in self.versions:
            return Concern.UNKNOWN
        try:
            saga = self.versions.saga(kind.version, kind.gates)
        except LookupError as error:
            raise ValueError(f"version {kind.version} has no such gates: {error}") from error
        if not kind.step and kind.status is not FactStatus.ABORT:
            raise ValueError(f"only an abort concerns no step, found {kind.status.value!r}")
        if kind.step and (kind.step not in saga or saga[kind.step].by != kind.source):
            return Concern.REFUSE
        if kind.status is FactStatus.DONE and kind.type not in saga[kind.step].emits:
            raise ValueError(f"step {kind.step!r} is not done with {kind.type!r}")
        heard = self.participant in audience(saga, kind.fact)
        return Concern.HANDLE if heard else Concern.IGNORE


def contradiction(lane: Lane, incoming: Incoming, workflow: Workflow, now: datetime) -> DeadLetter | None:
    """What a record becomes that says another version or other gates of its workflow than those in which it runs here."""
    message = incoming.message
    assert message is not None
    stated, known = (message.kind.version, message.kind.gates), (workflow.version, workflow.gates or "")
    if stated == known:
        return None
    why = "it says version {} and gates {!r} of its workflow, which runs in {} and {!r}".format(*stated, *known)
    return _letter(lane, incoming.record, Unusable(Reason.CONTRADICTION, why, message), now)


def forgotten(lane: Lane, incoming: Incoming, saga: Definition, now: datetime) -> DeadLetter | None:
    """What a record becomes whose workflow is not here, and began at a time of which workflows were pruned.

    When it was stated says nothing: somebody who has not heard of the end may wish to abort at any time. Nobody can tell
    whether the workflow has run here, so a person decides; what that person has requeued is taken in. What has waited for a
    release that knows its version may have waited until its workflow was pruned.
    """
    message = incoming.message
    assert message is not None
    if incoming.asked or not (why := may_be_pruned(lane, message, saga)):
        return None
    return _letter(lane, incoming.record, Unusable(Reason.PRUNED, why, message), now)


def may_be_pruned(lane: Lane, message: Message, saga: Definition | None) -> str | None:
    """Why a workflow that is not here may have been here, if so; `saga` is None where its version is not known."""
    began = _began(message, saga)
    if lane.pruned is None or began > lane.pruned + SKEW:
        return None
    return f"its workflow began at {began:%Y-%m-%dT%H:%M:%SZ}, is not here, and may have been pruned"


def _began(message: Message, saga: Definition | None) -> datetime:
    """When its workflow began, as far as its headers tell; at the latest then, where its version is not known."""
    if saga is None or not message.deadline or not saga.deadline:
        return message.time
    try:
        return message.deadline - saga.deadline
    except OverflowError:  # a deadline of long before there were calendars
        return datetime.min.replace(tzinfo=UTC)


def _letter(lane: Lane, record: Record, found: Unusable, now: datetime) -> DeadLetter:
    place = Place(lane.saga, record.topic, record.partition, record.offset)
    log.error("dead letter %s (%s): %s. See: saga dead-letters list", place, found.reason, str(found).removesuffix("."))
    return DeadLetter(
        place=place,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
        reason=found.reason,
        error=storable(str(found)),
        recorded=now,
        workflow_id=found.message.workflow_id if found.message else None,
        version=found.message.kind.version if found.message else None,
    )


def _refuse_ambiguous(record: Record) -> None:
    """Of a header that came twice the last one counts, but the library's own must not contradict themselves."""
    seen: dict[str, bytes | None] = {}
    for name, raw in record.headers:
        if name.startswith("ce_") and seen.setdefault(name, raw) != raw:
            raise ValueError(f"{name} is there twice, as {seen[name]!r} and as {raw!r}")
