"""A consumer on a real Kafka, in groups of both protocols: what happens to one partition leaves the others where they are."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest
from confluent_kafka import Producer

from saga.errors import OffsetOutOfRange
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from tests.brokers import Case, Lanes, fresh_topics, outbound, polled, polled_until, values
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(params=["consumer", "classic"])
def case(request: pytest.FixtureRequest, kafka: str) -> Iterator[Case]:
    events, compensations = (f"{request.param}.{name}" for name in fresh_topics())
    broker = KafkaBroker(KafkaSettings(kafka, group_protocol=request.param))
    broker.create([events, compensations], 2, {})
    until(lambda: all(broker.partitions([events, compensations]).values()), what="the topics")
    made = Case(broker, events, compensations, broker.producer())
    yield made
    for consumer in made.consumers:
        consumer.close()
    made.writer.purge()


def test_partitions_stay_where_they_are_while_another_one_is_begun_anew(case: Case) -> None:
    gone, read, paused = Partition(case.events, 1), Partition(case.events, 0), Partition(case.compensations, 0)
    case.publish(*(outbound(case.events, 0, str(n)) for n in range(6)), outbound(case.events, 1, "there"))
    consumer = case.consumer(Lanes(starts={gone: 99, read: 2, paused: 0}))
    with pytest.raises(OffsetOutOfRange):
        polled_until(consumer, lambda _: False)
    consumer.pause([paused])
    case.publish(outbound(case.compensations, 0, "kept back"))
    consumer.seek(read, 4)

    consumer.seek(gone, None)

    assert sorted(values(polled(consumer, 3))) == ["4", "5", "there"]
    case.publish(outbound(case.events, 0, "6"))
    assert values(polled(consumer, 1) + consumer.poll(10, 0.5)) == ["6"]
    consumer.resume([paused])
    assert values(polled(consumer, 1)) == ["kept back"]


def test_a_partition_ends_behind_its_last_record_whatever_came_of_foreign_transactions(case: Case, kafka: str) -> None:
    partition, empty = Partition(case.events, 0), Partition(case.events, 1)
    case.publish(outbound(case.events, 0, "0"))
    for values_, end in ([(0, "1")], "commit_transaction"), ([(0, "undone"), (1, "undone")], "abort_transaction"):
        foreign = Producer({"bootstrap.servers": kafka, "transactional.id": f"{case.events}.{end}"})
        foreign.init_transactions()
        foreign.begin_transaction()
        for number, value in values_:
            foreign.produce(case.events, value=value, partition=number)
        foreign.flush()
        getattr(foreign, end)()
    consumer = case.consumer()
    assert values(polled(consumer, 2)) == ["0", "1"]

    until(lambda: not consumer.poll(1, 0.05) and consumer.ends([partition, empty]) == {partition: 2, empty: 0})

    assert consumer.ends_seen([partition, empty]) == {partition: 2, empty: 0}
    consumer.seek(partition, 1)
    assert consumer.ends([partition]) == {partition: 5}
    case.publish(outbound(case.events, 0, "2"))
    assert values(polled(consumer, 2)) == ["1", "2"]
    assert consumer.ends([partition]) == {partition: 6}


def test_where_many_partitions_end_is_answered_without_waiting_for_fetches(case: Case) -> None:
    lanes = Lanes()
    consumer = case.consumer(lanes)
    polled_until(consumer, lambda _: len(lanes.owned) == 4)
    began = monotonic()

    for _ in range(10):
        consumer.ends(lanes.owned)

    assert monotonic() - began < 8
