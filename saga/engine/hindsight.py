"""Whether a store knows all that its participant has stated: one that was restored or mixed up would have it done again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from saga.contracts.message import Message, from_headers
from saga.contracts.topics import fact_topics
from saga.errors import DecodeError, StoreBehind
from saga.handling.intake import may_be_pruned
from saga.participant.statement import is_stated
from saga.participant.versions import Versions
from saga.store.lane import Lane
from saga.store.port import Store
from saga.transport.port import Broker, Partition, Record

log = logging.getLogger("saga.lanes")

_AT_ONCE = 500  # workflows that are looked up together
_TOLD_EVERY = 10_000


class Hindsight:
    """Reads on from a lane's fence; `reading` is told how far it has come, since a backlog may take minutes."""

    def __init__(
        self, versions: Versions, participant: str, store: Store, broker: Broker, reading: Callable[[str], None]
    ) -> None:
        self.versions, self.participant, self.store, self.broker, self.reading = versions, participant, store, broker, reading
        self._name = participant.encode()

    def look(self, lane: Lane) -> Mapping[str, int]:
        """Where the lane's topics end; raises StoreBehind for an own fact that the store does not know, OffsetOutOfRange."""
        ends: dict[str, int] = {}
        own: dict[str, tuple[Message, Record]] = {}
        starts = {Partition(topic, lane.number): lane.offsets.get(topic) for topic in fact_topics(self.versions.name)}
        for number, record in enumerate(self.broker.read(starts), start=1):
            ends[record.topic] = record.offset + 1
            if number % _TOLD_EVERY == 0:
                self.reading(
                    f"looks whether its store is the right one: {number} records behind the fence of lane {lane.number}"
                )
            if (message := self._own(record)) is None:
                continue
            before = own.get(message.workflow_id)
            if before is None or message.sequence > before[0].sequence:
                own[message.workflow_id] = message, record
            if len(own) == _AT_ONCE:
                self._compare(lane, own)
                own = {}
        self._compare(lane, own)
        return ends

    def _own(self, record: Record) -> Message | None:
        """The message, if this participant has stated it; of all others no more is read than who did."""
        raw = dict(record.headers)
        if raw.get("ce_source") != self._name:
            return None
        try:
            message = from_headers(raw, b"")
        except DecodeError:
            return None  # a dead letter, once the lane gets there
        if not is_stated(message):
            log.warning("%s/%d@%d speaks in our name, with an id that we do not give", *record[:3])
            return None
        return message

    def _compare(self, lane: Lane, own: Mapping[str, tuple[Message, Record]]) -> None:
        with self.store.unit() as unit:
            known = unit.load(self.versions.name, list(own))
        for workflow_id, (message, record) in own.items():
            found, sequence = known[workflow_id].sequence if workflow_id in known else 0, message.sequence
            if workflow_id not in known and (why := self._may_be_pruned(lane, message)):
                log.warning("%s/%d@%d is passed over: %s", *record[:3], why)
            elif sequence > found:
                raise StoreBehind(
                    f"{record.topic}/{record.partition}@{record.offset} holds fact {sequence} of {self.participant!r} about "
                    f"workflow {workflow_id}, but this database knows {found}: it was restored from a backup, or is not "
                    f"the one that {self.participant!r} used. Nothing was run again. Put the right database back, "
                    f"or make it anew from the topics: saga rebuild"
                )

    def _may_be_pruned(self, lane: Lane, message: Message) -> str | None:
        """Such a fact proves no loss, and nothing is done for it when the lane comes to it."""
        version = message.kind.version
        return may_be_pruned(lane, message, self.versions.saga_of(version) if version in self.versions else None)
