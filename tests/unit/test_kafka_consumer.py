"""A Kafka client that ends for good is replaced, and its partitions are begun anew from the fences; a hopeless one is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from saga.errors import BrokerError
from saga.transport import kafka_consumer
from saga.transport.kafka_consumer import KafkaConsumer
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from tests.brokers import Lanes

LANE = Partition("travel.events", 0)


class Ending:
    """As librdkafka says that a client has ended: a message that is an error of no topic."""

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._FATAL, "the group id does not exist")

    def topic(self) -> None:
        return None


class Client:
    """What the consumer asks of librdkafka: it is given its partition in the first poll, and `dies` in the second."""

    def __init__(self, dies: bool, *, forlorn: bool = False) -> None:
        self.dies, self.forlorn, self.polls, self.closed = dies, forlorn, 0, False
        self.assigned: list[TopicPartition] = []

    def subscribe(self, topics: Sequence[str], *, on_assign: Callable[..., None], **_: object) -> None:
        self.on_assign = on_assign

    def poll(self, timeout: float) -> Any:
        self.polls += 1
        if self.polls == 1 and not self.forlorn:
            self.on_assign(self, [TopicPartition(*LANE)])
            return None
        if self.dies:
            return Ending()
        return None

    def consume(self, count: int, timeout: float) -> list[Any]:
        return []

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    assign = incremental_assign

    def close(self) -> None:
        self.closed = True


def consumer(monkeypatch: pytest.MonkeyPatch, lanes: Lanes, *clients: Client) -> KafkaConsumer:
    coming = iter(clients)
    monkeypatch.setattr(kafka_consumer, "opened", lambda kind, config: next(coming))
    return KafkaConsumer(KafkaSettings("nowhere:9092"), "travel.hotels", {LANE.topic: 1}, lanes)


def test_a_client_that_ends_for_good_is_replaced_and_its_partitions_are_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes, first, second = Lanes({LANE: 7}), Client(dies=True), Client(dies=False)
    reading = consumer(monkeypatch, lanes, first, second)
    reading.poll(10, 0)

    with pytest.raises(BrokerError, match="the group id does not exist") as told:
        reading.poll(10, 0)
    reading.poll(10, 0)

    assert told.value.retriable
    assert lanes.told == [("assigned", [LANE]), ("lost", [LANE]), ("assigned", [LANE])]
    assert first.closed
    assert [partition.offset for partition in second.assigned] == [7]


def test_a_client_that_ends_before_it_was_given_anything_is_told_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = consumer(monkeypatch, Lanes(), Client(dies=True, forlorn=True))

    with pytest.raises(BrokerError) as told:
        reading.poll(10, 0)

    assert not told.value.retriable
