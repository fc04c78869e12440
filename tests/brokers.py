"""What tests of brokers share: assignments that remember, and the few moves with which records go out and come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from saga.transport.port import Broker, Consumer, Delivery, Outbound, Partition, Producer, Record
from tests.waiting import until

PARTITIONS = 4
PATIENCE = 60.0
_numbers = count(1)


@dataclass
class Case:
    """One broker with two fresh topics, `events` and `compensations`."""

    broker: Broker
    events: str
    compensations: str
    writer: Producer
    consumers: list[Consumer] = field(default_factory=list)

    @property
    def topics(self) -> tuple[str, str]:
        return self.events, self.compensations

    @property
    def lanes(self) -> set[Partition]:
        return {Partition(topic, number) for topic in self.topics for number in range(PARTITIONS)}

    def consumer(self, assignments: Lanes | None = None, group: str = "") -> Consumer:
        consumer = self.broker.consumer(group or f"{self.events}.group", self.topics, assignments or Lanes())
        self.consumers.append(consumer)
        return consumer

    def publish(self, *records: Outbound) -> list[Delivery]:
        return publish(self.writer, *records)


@dataclass
class Lanes:
    """Assignments that remember what they were told and answer from `starts`, or `fail` at one of their methods."""

    starts: Mapping[Partition, int | None] = field(default_factory=dict)
    fail: str = ""
    owned: set[Partition] = field(default_factory=set)
    told: list[tuple[str, list[Partition]]] = field(default_factory=list)

    def assigned(self, partitions: Sequence[Partition]) -> Mapping[Partition, int | None]:
        self._hear("assigned", partitions)
        self.owned.update(partitions)
        return {p: self.starts.get(p) for p in partitions}

    def revoked(self, partitions: Sequence[Partition]) -> None:
        self._hear("revoked", partitions)
        self.owned.difference_update(partitions)

    def lost(self, partitions: Sequence[Partition]) -> None:
        self._hear("lost", partitions)
        self.owned.difference_update(partitions)

    def _hear(self, what: str, partitions: Sequence[Partition]) -> None:
        self.told.append((what, list(partitions)))
        if self.fail == what:
            raise ZeroDivisionError(f"{what} failed")


def fresh_topics() -> tuple[str, str]:
    number = next(_numbers)
    return f"saga{number}.events", f"saga{number}.compensations"


def outbound(topic: str, number: int, value: str, token: str = "") -> Outbound:
    return Outbound(token or value, topic, number, b"w-1", value.encode(), [("ce_id", value)])


def publish(producer: Producer, *records: Outbound) -> list[Delivery]:
    producer.send(records)
    producer.flush(PATIENCE)
    return producer.reports()


def copy(records: Iterable[Record], broker: Broker) -> None:
    """Publish these records, of another broker, to the topics and partitions in which they were."""
    producer = broker.producer()
    for record in records:
        headers = [(name, value.decode()) for name, value in record.headers if value is not None]
        place = (record.topic, record.partition, record.key or b"", record.value or b"")
        publish(producer, Outbound(f"{record.topic}{record.partition}{record.offset}", *place, headers))
    producer.purge()


def polled(consumer: Consumer, wanted: int, limit: int = 100) -> list[Record]:
    """Poll until `wanted` records are there."""
    return polled_until(consumer, lambda records: len(records) >= wanted, limit)


def polled_until(consumer: Consumer, enough: Callable[[list[Record]], bool], limit: int = 100) -> list[Record]:
    records: list[Record] = []

    def polled_enough() -> bool:
        records.extend(consumer.poll(limit, 0.05))
        return enough(records)

    until(polled_enough)
    return records


def values(records: Sequence[Record]) -> list[str]:
    return [(record.value or b"").decode() for record in records]
