"""The embedded broker, and what only a Kafka client does: losing its broker, committing from other threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Thread

import pytest
from confluent_kafka import Consumer as Client
from confluent_kafka import Producer as Writer
from confluent_kafka import TopicPartition

from saga.contracts.topics import lane_of
from saga.errors import BrokerError, DefinitionError, LifecycleError
from saga.transport.embedded import EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Consumer, Partition
from tests.brokers import PARTITIONS, PATIENCE, Lanes, outbound, polled, publish
from tests.waiting import until

TOPIC = "saga.events"
FIRST = Partition(TOPIC, 0)


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker([TOPIC]) as broker:
        yield broker


def abandoned(client: dict[str, str] | None = None, topics: Sequence[str] = (TOPIC,)) -> KafkaSettings:
    """Settings of a broker that is no more, for which nobody waits long."""
    with EmbeddedBroker(topics) as broker:
        return replace(broker.settings(client=client), timeout=0.3)


def committed(settings: KafkaSettings, group: str) -> int:
    """What the group has committed for the first partition; negative if nothing."""
    client = Client({**settings.reader(), "group.id": group})
    (found,) = client.committed([TopicPartition(TOPIC, 0)], timeout=PATIENCE)
    client.close()
    return int(found.offset)


@pytest.mark.parametrize("lanes", ["group", "all"])
def test_offsets_committed_while_partitions_are_revoked_still_arrive(embedded: EmbeddedBroker, lanes: str) -> None:
    class Committing(Lanes):
        consumer: Consumer

        def revoked(self, partitions: Sequence[Partition]) -> None:
            self.consumer.commit({FIRST: 1})

    settings = embedded.settings(lanes="all" if lanes == "all" else "group")
    broker, assignments = KafkaBroker(settings), Committing()
    publish(broker.producer(), outbound(TOPIC, 0, "a"))
    assignments.consumer = broker.consumer("g", [TOPIC], assignments)
    polled(assignments.consumer, 1)

    assignments.consumer.close()

    assert committed(settings, "g") == 1


def test_committing_never_waits_for_a_poll_that_is_under_way(embedded: EmbeddedBroker) -> None:
    settings = embedded.settings()
    lanes = Lanes()
    broker = KafkaBroker(settings)
    consumer = broker.consumer("g", [TOPIC], lanes)
    until(lambda: consumer.poll(1, 0.05) == [] and FIRST in lanes.owned)
    polling = Thread(target=consumer.poll, args=(1, 60.0))

    polling.start()
    consumer.commit({FIRST: 0})
    still_polling = polling.is_alive()
    publish(broker.producer(), outbound(TOPIC, 0, "a"))
    polling.join()
    consumer.poll(1, 0)

    assert still_polling
    until(lambda: committed(settings, "g") == 0)
    consumer.close()


def test_a_consumer_whose_broker_went_away_says_so_once_and_goes_on() -> None:
    with EmbeddedBroker([TOPIC]) as embedded:
        consumer = KafkaBroker(embedded.settings(lanes="all")).consumer("g", [TOPIC], Lanes())
        consumer.poll(1, 0.1)

    with pytest.raises(BrokerError, match="the connection to Kafka failed") as raised:
        until(lambda: consumer.poll(1, 0.1))

    assert raised.value.retriable
    assert consumer.poll(1, 0.1) == []
    consumer.close()


def test_a_lookup_that_nobody_answers_is_a_retriable_error() -> None:
    broker = KafkaBroker(abandoned())

    with pytest.raises(BrokerError) as raised:
        broker.partitions([TOPIC])

    assert raised.value.retriable


def test_a_producer_whose_queue_stays_full_gives_up_and_ends_at_once() -> None:
    producer = KafkaBroker(abandoned({"queue.buffering.max.messages": "2"})).producer()

    with pytest.raises(BrokerError, match="queue is full") as raised:
        producer.send([outbound(TOPIC, 0, str(number)) for number in range(3)])
    producer.flush(0.1)

    assert raised.value.retriable
    assert producer.reports() == []
    producer.purge()


def test_a_record_larger_than_the_topics_take_is_refused_by_name(embedded: EmbeddedBroker) -> None:
    producer = KafkaBroker(embedded.settings()).producer()

    with pytest.raises(BrokerError, match=r"cannot publish t1 to saga\.events/0: MSG_SIZE_TOO_LARGE") as raised:
        producer.send([outbound(TOPIC, 0, "x" * 1_000_001, token="t1")])

    assert not raised.value.retriable
    producer.purge()


def test_creating_what_exists_does_nothing_and_creating_more_is_refused_instead_of_hanging(embedded: EmbeddedBroker) -> None:
    broker = KafkaBroker(embedded.settings())

    broker.create([TOPIC], PARTITIONS, {})

    with pytest.raises(BrokerError, match=r"cannot create saga\.new: it has the topics it was started with"):
        broker.create([TOPIC, "saga.new"], PARTITIONS, {})


def test_an_embedded_broker_has_an_address_only_while_it_runs() -> None:
    embedded = EmbeddedBroker([TOPIC])
    with embedded:
        host, _, port = embedded.servers.partition(":")

    assert (host, port.isdigit()) == ("127.0.0.1", True)
    uses: list[Callable[[], object]] = [lambda: embedded.servers, lambda: embedded.add(["saga.more"])]
    for use in uses:
        with pytest.raises(LifecycleError, match="not running"):
            use()


def test_settings_that_librdkafka_refuses_are_a_definition_error(embedded: EmbeddedBroker) -> None:
    broker = KafkaBroker(embedded.settings(client={"session.timeout.ms": "6000"}))

    with pytest.raises(DefinitionError, match=r"session\.timeout\.ms"):
        broker.consumer("g", [TOPIC], Lanes())


def test_a_lane_is_the_partition_that_kafka_clients_give_to_the_key(embedded: EmbeddedBroker) -> None:
    keys = [f"order-{n}" for n in range(80)] + ["", "ä", "größe", "注文", "🛒", "x" * 1000, *(f"é{n}" for n in range(20))]
    client = Writer({"bootstrap.servers": embedded.servers, "partitioner": "murmur2_random", "log_level": 2})
    given: dict[bytes | None, int | None] = {}

    for key in keys:
        client.produce(TOPIC, b"", key.encode(), on_delivery=lambda _, m: given.update({m.key(): m.partition()}))
    client.flush(PATIENCE)

    assert given == {key.encode(): lane_of(key, PARTITIONS) for key in keys}
