"""Records as a rebuild sees them, by their headers alone, and what of them cannot be applied yet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from saga.contracts.message import Message, from_headers, is_usable_id, kind_of, moment_of
from saga.contracts.topics import astray
from saga.errors import ContractError
from saga.participant.statement import is_stated
from saga.replay.history import MOST_FACTS
from saga.replay.restoring import Fact, Restoring
from saga.replay.shadow import Seen
from saga.store.dead_letter import DeadLetter
from saga.store.lane import Lane
from saga.transport.port import Record

log = logging.getLogger("saga.rebuild")


class Waiting(NamedTuple):
    """An own fact that cannot be applied yet."""

    message: Message
    why: str


@dataclass(slots=True)
class Held:
    """What a lane's offsets must not pass: own facts by workflow and number, and facts that a worker has still to answer.

    `upto` says, by topic, how far it was read all the same; `late` where the first fact stands that is not to be read.
    """

    own: dict[str, dict[int, Waiting]] = field(default_factory=dict)
    answers: dict[str, Message] = field(default_factory=dict)
    upto: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Held:
        return Held({id: dict(own) for id, own in self.own.items()}, dict(self.answers), dict(self.upto), dict(self.late))

    def fence(self) -> dict[str, int]:
        """The offsets at which somebody who knows nothing of this must go on."""
        messages = [one.message for own in self.own.values() for one in own.values()] + [*self.answers.values()]
        found = self.upto.copy()
        for topic, offset in [(m.topic, m.offset) for m in messages] + [*self.late.items()]:
            found[topic] = min(found.get(topic, offset), offset)
        return found


@dataclass(slots=True)
class Reading:
    """Records as a rebuild sees them.

    `facts` are the participant's business: its own statements, or something that it takes in, or both; each with its record.
    `seen` are the sequence numbers of what is nobody's business here, by workflow; `letters` cannot be taken in, `late` as in
    `Held`.
    """

    facts: list[Fact] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    upto: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, restoring: Restoring, lane: Lane, records: Sequence[Record], until: datetime | None, now: datetime) -> Reading:
        """Read their headers, nothing else; what a worker would have made a dead letter becomes one."""
        found = cls(upto={record.topic: record.offset + 1 for record in records})
        strays = astray({record.key for record in records}, lane.number, restoring.intake.partitions)
        for record in records:
            try:
                raw = dict(record.headers)
                kind = kind_of(raw)
                part = restoring.part(kind)
                if until is not None and moment_of(raw["ce_time"]) > until:
                    found.late.setdefault(record.topic, record.offset)
                    continue
                if not (part.own or part.heard):
                    workflow, sequence = (raw["ce_subject"] or b"").decode(), int(raw["ce_sequence"] or b"")
                    if is_usable_id(workflow):
                        note(found.seen, workflow, kind.source, sequence)
                    continue
                topic, partition, offset, key, value, headers = record
                misplaced = key != raw["ce_subject"] or key in strays or len(raw) != len(headers)
                if part.heard and misplaced:
                    found._take_in(restoring, lane, record, now)
                    continue
                message = from_headers(raw, value or b"", kind=kind, topic=topic, partition=partition, offset=offset)
                if not part.own or (not misplaced and is_stated(message)):
                    found.add(record, Fact(message, part))
                else:
                    found._doubt(restoring, record, message)
            except (ContractError, KeyError, ValueError):
                found._take_in(restoring, lane, record, now)
        return found

    @property
    def workflows(self) -> set[str]:
        """All of which something was read."""
        return {message.workflow_id for message, _ in self.facts} | self.seen.keys()

    def add(self, record: Record, fact: Fact) -> None:
        self.facts.append(fact)
        self.records.append(record)

    def _doubt(self, restoring: Restoring, record: Record, message: Message) -> None:
        """What speaks in the participant's name and was not stated by it is at most something to be taken in."""
        log.warning("%s/%d@%d speaks in our name, and is nothing that we have stated", *record[:3])
        part = restoring.part(message.kind, True)
        if part.heard:
            self.add(record, Fact(message, part))

    def _take_in(self, restoring: Restoring, lane: Lane, record: Record, now: datetime) -> None:
        [incoming] = restoring.intake.read(lane, [record], now)
        if incoming.letter is not None:
            self.letters.append(incoming.letter)
        elif incoming.message is not None:
            self.add(record, Fact(incoming.message, restoring.part(incoming.message.kind)))


def note(seen: dict[str, Seen], workflow: str, source: str, sequence: int) -> None:
    """Note that a fact of this number was read."""
    if not 0 < sequence < MOST_FACTS:
        return
    if (known := seen.get(workflow)) is None:
        known = seen[workflow] = {}
    known[source] = known.get(source, 0) | 1 << sequence


def is_whole(seen: Seen) -> bool:
    """Whether no number is missing."""
    return not any(bits & (bits + 2) for bits in seen.values())
