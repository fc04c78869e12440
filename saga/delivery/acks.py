"""Acknowledgments told and heard: what this participant has taken in, and what the others have, on the saga's acks topic.

They have no outbox. A span is told after the transaction that took it in, until the broker has it, and only then is Kafka told
the lane's offsets; a lane's new owner tells all that its store has taken in anew, so a crash in between loses nothing. What is
heard is kept in memory, and in the lane's row with the next transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from saga.contracts.acknowledged import RECORD, Acknowledged, Acknowledgments, Reason
from saga.contracts.message import CONTENT_TYPE, Headers
from saga.contracts.topics import acks_topic, fact_topics
from saga.delivery.recreated import recorded
from saga.errors import DecodeError
from saga.participant.participant import Participant
from saga.store.lane import Lane
from saga.store.port import Unit
from saga.transport.port import Outbound, Partition, Record

log = logging.getLogger("saga.acks")

MOST_PARKED = 1000  # in one record, which must stay small


class Remark(NamedTuple):
    """Of one record that was taken in there is more to say."""

    topic: str
    offset: int
    reason: Reason


@dataclass(slots=True)
class _Telling:
    """A span that is to be told, or being told; what was parked and is handled now (`upto` 0) holds up nothing."""

    partition: Partition
    begin: int
    end: int
    upto: int
    remarks: list[tuple[int, Reason]]

    def goes_on(self, next: _Telling) -> bool:
        """Whether the next span may be said in the same breath."""
        return self.end == next.begin and bool(self.upto and next.upto) and len(self.remarks) + len(next.remarks) < MOST_PARKED

    def go_on(self, next: _Telling) -> None:
        self.end, self.upto = next.end, next.upto
        self.remarks += next.remarks


class Acks:
    """The acknowledgments of one participant, from one thread.

    `unsaid` is what is still to be sent, neighbours as one. `told` are the offsets of each partition up to which all is
    acknowledged on the broker. `held` are the parked offsets by lane, as (topic, offset), each to be acknowledged once it is
    handled. `known` is what was heard, by lane; `news` are the lanes of which there is more than their rows say.
    """

    def __init__(self, participant: Participant) -> None:
        saga = participant.saga
        self.participant, self.codec = participant.name, participant.codec
        self.saga, self.topic, self.facts = saga.name, acks_topic(saga.name), fact_topics(saga.name)
        self.told: dict[Partition, int] = {}
        self.held: dict[int, set[tuple[str, int]]] = {}
        self.known: dict[int, Acknowledgments] = {}
        self.news: set[int] = set()
        self._headers: Headers = [
            ("ce_specversion", "1.0"),
            ("ce_type", RECORD),
            ("ce_source", self.participant),
            ("ce_saga", self.saga),
            ("content-type", CONTENT_TYPE),
        ]
        self.unsaid: dict[str, _Telling] = {}
        self._latest: dict[Partition, _Telling] = {}
        self._under_way: dict[str, _Telling] = {}
        self._reached: dict[Partition, int] = {}
        self._begun: dict[int, Lane] = {}
        self._ids: dict[int, dict[str, str]] = {}
        self._number = 0

    def took_in(self, lane: Lane, before: Mapping[str, int], remarks: Iterable[Remark]) -> None:
        """The lane came from the offsets `before` to those that it has now."""
        found: dict[str, list[tuple[int, Reason]]] = {}
        for topic, offset, reason in remarks:
            found.setdefault(topic, []).append((offset, reason))
            if reason is Reason.PARKED:
                self.held.setdefault(lane.number, set()).add((topic, offset))
        for topic in self.facts:
            first, last = before.get(topic, 0), lane.offsets.get(topic, 0)
            if first < last:
                self._tell_taken(lane, topic, first, last, found.get(topic, []))

    def begin(self, lane: Lane, unit: Unit) -> None:
        """Tell again all that the store has taken in of this lane: its former owner may not have come to it."""
        if self._begun.get(lane.number) is not lane:  # a database that was replaced may give out an epoch twice
            self._begun[lane.number] = lane
            self.known[lane.number] = Acknowledgments(lane.acks.get("told"))
            self._ids[lane.number] = recorded(lane)
            for topic in self.facts:
                self.told.pop(Partition(topic, lane.number), None)
        self.held[lane.number] = parked = {*unit.parked(self.saga, lane.number)}
        for topic in self.facts:
            holes = sorted(offset for of, offset in parked if of == topic)
            for first, last in _pieces(lane.offsets.get(topic, 0), holes):
                self._tell_taken(lane, topic, first, last, [(hole, Reason.PARKED) for hole in holes])

    def release(self, lane: Lane, unit: Unit) -> None:
        """Acknowledge what was parked and is handled now, whoever saw to that."""
        parked = {*unit.parked(self.saga, lane.number)}
        for topic, offset in sorted(self.held.get(lane.number, set()) - parked):
            if offset < lane.offsets.get(topic, 0):  # else it was one of another topic of that name
                self._tell(lane.number, topic, offset, offset + 1, (), upto=0)
        self.held[lane.number] = parked

    def give_up(self, lane: int) -> None:
        """The lane is another owner's."""
        self.held.pop(lane, None)
        self.known.pop(lane, None)
        self._ids.pop(lane, None)
        self.news.discard(lane)
        for topic in self.facts:
            self.told.pop(Partition(topic, lane), None)
            self._reached.pop(Partition(topic, lane), None)

    def forget(self, lane: int, topics: Iterable[str]) -> None:
        """What was said of these topics was said of others of their names."""
        for topic in topics:
            if (known := self.known.get(lane)) is not None:
                known.forget(topic)
        self.news.discard(lane)

    def hear(self, lane: Lane, records: Iterable[Record]) -> None:
        """Take in what participants acknowledge; what cannot be read is passed over, and at worst an event is sent again.

        Raises RegistryUnavailable; the record has not been passed then.
        """
        known = self.known[lane.number]
        for record in records:
            try:
                said = self._said(record)
                if said.topic_id in (None, self._ids.get(lane.number, {}).get(said.topic, said.topic_id)):
                    known.take(said)
            except DecodeError as error:
                log.warning("%s/%d@%d is no acknowledgment: %s", record.topic, record.partition, record.offset, error)
            lane.offsets[record.topic] = record.offset + 1
            self.news.add(lane.number)

    def _said(self, record: Record) -> Acknowledged:
        """Raises DecodeError for what is none of this saga's, since all that is heard is kept in the lane's row."""
        said = Acknowledged.of(self.codec.decode(RECORD, record.value or b""))
        if said.topic not in self.facts or not said.is_sound:
            told = f"{said.participant!r} speaks of {said.begin} to {said.end} of {said.topic!r}"
            raise DecodeError(f"{told}; expected a span of {' or '.join(self.facts)}, with its exceptions within")
        return said

    def keep(self, lane: Lane) -> dict[str, Any]:
        """What the lane's row is to hold of it."""
        if lane.number not in self.news:
            return lane.acks
        return {**lane.acks, "participant": self.participant, "told": self.known[lane.number].json()}

    def kept(self, lane: Lane, acks: dict[str, Any]) -> None:
        """The row holds it now."""
        lane.acks = acks
        self.news.discard(lane.number)

    def take(self) -> list[Outbound]:
        """What is to be sent, handed over once."""
        unsaid, self.unsaid = self.unsaid, {}
        self._latest.clear()
        return [self._outbound(token, telling) for token, telling in unsaid.items()]

    def progress(self, lanes: Iterable[Lane]) -> dict[Partition, int]:
        """How far each partition is in the store and, where facts come, acknowledged as well; none of which nothing is yet.

        A lane that was claimed begins with nothing told, and Kafka must not hear that its group has gone back.
        """
        offsets = {Partition(topic, lane.number): offset for lane in lanes for topic, offset in lane.offsets.items()}
        known = {p: o if p.topic == self.topic else min(o, self.told.get(p, 0)) for p, o in offsets.items()}
        return {p: offset for p, offset in known.items() if offset}

    def arrived(self, tokens: Iterable[str]) -> None:
        """The broker has these; nothing counts as told behind a span that it does not have."""
        ended = [self._under_way.pop(token) for token in tokens]
        for telling in ended:
            self._reached[telling.partition] = max(telling.upto, self._reached.get(telling.partition, 0))
        for partition in {telling.partition for telling in ended}:
            open_ = (t.begin for t in self._under_way.values() if t.partition == partition and t.upto)
            told = min(self._reached[partition], min(open_, default=self._reached[partition]))
            self.told[partition] = max(told, self.told.get(partition, 0))

    def _tell_taken(self, lane: Lane, topic: str, first: int, last: int, remarks: Sequence[tuple[int, Reason]]) -> None:
        """Tell a span without its gaps, of which nothing is to be told before Kafka may hear that they were passed."""
        spans = [*_taken(first, last, lane.gaps.get(topic, ()))]
        for begin, end in spans:
            within = [remark for remark in remarks if begin <= remark[0] < end]
            self._tell(lane.number, topic, begin, end, within, upto=last if end == spans[-1][1] else end)
        if not spans and first < last:
            partition = Partition(topic, lane.number)
            self.told[partition] = max(last, self.told.get(partition, 0))

    def _tell(self, lane: int, topic: str, begin: int, end: int, remarks: Iterable[tuple[int, Reason]], *, upto: int) -> None:
        """Once the broker has this record, everything before `upto` is acknowledged."""
        partition = Partition(topic, lane)
        telling, latest = _Telling(partition, begin, end, upto, [*remarks]), self._latest.get(partition)
        if latest is not None and latest.goes_on(telling):
            latest.go_on(telling)
            return
        self._number += 1
        token = f"ack {self._number}"
        self.unsaid[token] = self._under_way[token] = self._latest[partition] = telling

    def _outbound(self, token: str, telling: _Telling) -> Outbound:
        topic, lane = telling.partition
        id = self._ids.get(lane, {}).get(topic)
        record = Acknowledged(self.participant, topic, telling.begin, telling.end, id, tuple(telling.remarks))
        return Outbound(token, self.topic, lane, None, self.codec.encode(RECORD, record.fields()), self._headers)


def _pieces(end: int, holes: list[int]) -> Iterable[tuple[int, int]]:
    """The offsets up to `end`, cut so that no piece has too many holes."""
    cuts = [0, *holes[MOST_PARKED::MOST_PARKED], end]
    return pairwise(cuts)


def _taken(begin: int, end: int, gaps: Collection[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """The span without the gaps that were skipped."""
    for first, last in sorted(gaps):
        if begin < min(first, end):
            yield begin, min(first, end)
        begin = max(begin, last)
    if begin < end:
        yield begin, end
