"""A Kafka client that ends for good is replaced, and its partitions are begun anew from the fences; a hopeless one is told.

A member of a classic group leaves when it was let in, or after a session in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from saga.errors import BrokerError
from saga.testing.clock import ManualClock
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
    """What the consumer asks of librdkafka: it is given its partition in the first poll, and `dies` in the second.

    On its `clock` a poll takes all the time that it may. Its commits meet with `refusal`.

    `closed` is None until then, then after how many polls.
    """

    def __init__(self, dies: bool, *, forlorn: bool = False) -> None:
        self.dies, self.forlorn, self.polls = dies, forlorn, 0
        self.closed: int | None = None
        self.refusal: KafkaError | None = None
        self.assigned: list[TopicPartition] = []
        self.clock = ManualClock()

    def subscribe(self, topics: Sequence[str], *, on_assign: Callable[..., None], **_: object) -> None:
        self.on_assign = on_assign

    def poll(self, timeout: float) -> Any:
        self.polls += 1
        self.clock.advance(timeout)
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

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        if self.refusal is not None:
            raise KafkaException(self.refusal)

    def close(self) -> None:
        self.closed = self.polls


NEW = KafkaSettings("nowhere:9092")
CLASSIC = KafkaSettings("nowhere:9092", group_protocol="classic", client={"session.timeout.ms": "6000"})


def consumer(monkeypatch: pytest.MonkeyPatch, lanes: Lanes, *clients: Client, settings: KafkaSettings = NEW) -> KafkaConsumer:
    coming = iter(clients)
    monkeypatch.setattr(kafka_consumer, "opened", lambda kind, config: next(coming))
    return KafkaConsumer(settings, "travel.hotels", {LANE.topic: 1}, lanes, clients[0].clock, lambda _: {})


def test_a_client_that_ends_for_good_is_replaced_and_its_partitions_are_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes, first, second = Lanes({LANE: 7}), Client(dies=True), Client(dies=False)
    reading = consumer(monkeypatch, lanes, first, second)
    reading.poll(10, 0)

    with pytest.raises(BrokerError, match="the group id does not exist") as told:
        reading.poll(10, 0)
    reading.poll(10, 0)

    assert told.value.retriable
    assert lanes.told == [("assigned", [LANE]), ("lost", [LANE]), ("assigned", [LANE])]
    assert first.closed is not None
    assert [partition.offset for partition in second.assigned] == [7]


def test_a_client_that_ends_before_it_was_given_anything_is_told_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = consumer(monkeypatch, Lanes(), Client(dies=True, forlorn=True))

    with pytest.raises(BrokerError) as told:
        reading.poll(10, 0)

    assert not told.value.retriable


def test_a_member_of_a_classic_group_leaves_once_it_was_let_in_and_begins_nothing_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes, joining = Lanes(), Client(dies=False)
    reading = consumer(monkeypatch, lanes, joining, settings=CLASSIC)

    reading.close()

    assert (joining.closed, lanes.told) == (1, [])


def test_a_member_that_is_not_let_in_within_a_session_leaves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    joining = Client(dies=False, forlorn=True)
    reading = consumer(monkeypatch, Lanes(), joining, settings=CLASSIC)

    reading.close()

    assert joining.closed == joining.polls
    assert joining.clock.monotonic() == pytest.approx(6, abs=0.11)


@pytest.mark.parametrize("settings", [NEW, CLASSIC], ids=["consumer", "classic"])
def test_a_member_that_was_let_in_leaves_at_once(monkeypatch: pytest.MonkeyPatch, settings: KafkaSettings) -> None:
    settled = Client(dies=False)
    reading = consumer(monkeypatch, Lanes({LANE: 7}), settled, settings=settings)
    reading.poll(10, 0)

    reading.close()

    assert settled.closed == 1


def test_a_member_of_a_new_group_leaves_while_it_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    joining = Client(dies=False)
    reading = consumer(monkeypatch, Lanes(), joining)

    reading.close()

    assert joining.closed == 0


def test_why_offsets_are_not_committed_is_told_once_and_again_after_it_was_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client, told = Client(dies=False), dict[str, Any]()

    def opened(kind: object, config: dict[str, Any]) -> Client:
        told.update(config)
        return client

    monkeypatch.setattr(kafka_consumer, "opened", opened)
    reading = KafkaConsumer(NEW, "travel.hotels", {LANE.topic: 1}, Lanes({LANE: 7}), client.clock, lambda _: {})
    reading.poll(10, 0)

    def commit(times: int, refusal: KafkaError | None = None) -> int:
        client.refusal = refusal
        caplog.clear()
        for offset in range(times):
            reading.commit({LANE: offset})
            reading.poll(10, 0)
            if refusal is None:
                told["on_commit"](None, [])
        return len([record for record in caplog.records if "offsets were not committed" in record.message])

    foreign = KafkaError(KafkaError.UNKNOWN_MEMBER_ID)

    assert commit(100, foreign) == 1
    assert commit(100, KafkaError(KafkaError._TIMED_OUT)) == 1
    assert commit(1) == 0
    assert commit(100, foreign) == 1
