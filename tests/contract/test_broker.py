"""What every broker must do: the suite runs over the in-memory log and over Kafka's own protocol on the embedded broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from time import monotonic

import pytest

from saga.errors import BrokerError, LifecycleError
from saga.transport.embedded import EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from saga.transport.memory import MemoryBroker
from saga.transport.port import Delivery, Outbound, Partition, Producer, Record
from tests.brokers import PARTITIONS, PATIENCE, Case, Lanes, fresh_topics, outbound, polled, polled_until, values
from tests.waiting import until


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker([]) as broker:
        yield broker


@pytest.fixture(scope="module")
def embedded_writer(embedded: EmbeddedBroker) -> Iterator[Producer]:
    """Shared, because an idempotent producer takes half a second to get its id."""
    producer = KafkaBroker(embedded.settings()).producer()
    yield producer
    producer.purge()


@pytest.fixture(params=["memory", "embedded group", pytest.param("embedded all", marks=pytest.mark.slow)])
def case(request: pytest.FixtureRequest, embedded: EmbeddedBroker, embedded_writer: Producer) -> Iterator[Case]:
    events, compensations = fresh_topics()
    if request.param == "memory":
        memory = MemoryBroker([events, compensations], partitions=PARTITIONS)
        made = Case(memory, events, compensations, memory.producer())
    else:
        embedded.add([events, compensations])
        settings = embedded.settings(lanes="all" if request.param == "embedded all" else "group")
        made = Case(KafkaBroker(settings), events, compensations, embedded_writer)
    yield made
    for consumer in made.consumers:
        consumer.close()


def test_a_record_arrives_as_it_was_sent(case: Case) -> None:
    headers = [("ce_id", "1"), ("ce_subject", "größe"), ("ce_id", "2")]
    case.publish(Outbound("t", case.events, 2, "schlüssel".encode(), b"\0\1\2", headers))

    (record,) = polled(case.consumer(), 1)

    raw = [(name, value.encode()) for name, value in headers]
    assert record == Record(case.events, 2, 0, "schlüssel".encode(), b"\0\1\2", raw)


def test_records_of_a_partition_arrive_in_the_order_of_their_offsets(case: Case) -> None:
    case.publish(*(outbound(case.events, n % PARTITIONS, str(n)) for n in range(100)))

    records = polled(case.consumer(), 100, limit=7)

    for number in range(PARTITIONS):
        mine = [record for record in records if record.partition == number]
        assert [record.offset for record in mine] == list(range(25))
        assert values(mine) == [str(n) for n in range(number, 100, PARTITIONS)]


def test_a_poll_takes_no_more_than_its_limit(case: Case) -> None:
    case.publish(*(outbound(case.events, 0, str(n)) for n in range(10)))
    consumer = case.consumer()

    first = polled(consumer, 1, limit=3)
    rest = polled(consumer, 10 - len(first))

    assert len(first) <= 3
    assert values(first + rest) == [str(n) for n in range(10)]


def test_a_poll_that_waits_ends_with_the_first_record(case: Case) -> None:
    lanes = Lanes()
    consumer = case.consumer(lanes)
    until(lambda: consumer.poll(1, 0.05) == [] and lanes.owned == case.lanes)
    publishing = Thread(target=case.publish, args=(outbound(case.events, 0, "a"),))
    started = monotonic()

    publishing.start()
    records = consumer.poll(100, 60.0)
    waited = monotonic() - started
    publishing.join()

    assert values(records) == ["a"]
    assert waited < 50.0


def test_an_owner_of_a_partition_owns_its_twin(case: Case) -> None:
    lanes = Lanes()
    consumer = case.consumer(lanes)

    until(lambda: consumer.poll(1, 0.05) == [] and lanes.owned == case.lanes)

    assert lanes.owned == case.lanes


def test_a_consumer_begins_where_the_assignment_says_whatever_is_committed(case: Case) -> None:
    case.publish(*(outbound(case.events, 1, str(n)) for n in range(5)))
    first = case.consumer()
    polled(first, 5)
    first.commit({Partition(case.events, 1): 5})
    first.close()

    again = polled(case.consumer(Lanes(starts={Partition(case.events, 1): 2})), 3)

    assert values(again) == ["2", "3", "4"]


def test_what_a_group_told_about_its_offsets_can_be_asked_for(case: Case) -> None:
    told, silent = Partition(case.events, 0), Partition(case.events, 1)
    case.publish(outbound(case.events, 0, "0"))
    consumer = case.consumer(group=f"{case.events}.telling")
    polled(consumer, 1)

    consumer.commit({told: 1})

    until(lambda: consumer.poll(1, 0) or case.broker.committed(f"{case.events}.telling", [told, silent]) == {told: 1})
    assert case.broker.committed(f"{case.events}.others", [told, silent]) == {}


def test_a_start_at_the_end_waits_for_what_comes(case: Case) -> None:
    partition = Partition(case.events, 0)
    case.publish(outbound(case.events, 0, "old"))
    lanes = Lanes(starts={partition: 1})
    consumer = case.consumer(lanes)
    until(lambda: consumer.poll(10, 0.05) == [] and partition in lanes.owned)

    case.publish(outbound(case.events, 0, "new"))

    assert values(polled(consumer, 1)) == ["new"]


def test_an_offset_that_does_not_exist_is_an_error_naming_it_and_the_other_partitions_go_on(case: Case) -> None:
    case.publish(outbound(case.events, 0, "here"), outbound(case.events, 3, "there"))
    consumer = case.consumer(Lanes(starts={Partition(case.events, 3): 99}))

    received: list[Record] = []
    errors: list[BrokerError] = []

    def both() -> bool:
        try:
            received.extend(consumer.poll(10, 0.05))
        except BrokerError as error:
            errors.append(error)
        return bool(received and errors)

    until(both)

    assert values(received) == ["here"]
    assert not errors[0].retriable
    assert f"{case.events}/3 has no offset 99" in str(errors[0])


def test_a_partition_that_ended_at_such_an_offset_goes_on_where_it_is_sought(case: Case) -> None:
    case.publish(outbound(case.events, 0, "here"), outbound(case.events, 3, "there"))
    partition = Partition(case.events, 3)
    consumer = case.consumer(Lanes(starts={partition: 99, Partition(case.events, 0): 1}))
    with pytest.raises(BrokerError, match="has no offset 99"):
        polled(consumer, 1)

    consumer.pause([partition])
    consumer.resume([partition])
    consumer.seek(partition, 0)

    assert values(polled(consumer, 1)) == ["there"]


def test_a_paused_partition_is_silent_until_it_is_resumed(case: Case) -> None:
    paused = Partition(case.events, 0)
    case.publish(outbound(case.events, 0, "before"))
    consumer = case.consumer()
    polled(consumer, 1)

    consumer.pause([paused])
    case.publish(outbound(case.events, 0, "behind"), outbound(case.events, 1, "beside"))
    meanwhile = polled(consumer, 1) + consumer.poll(10, 0.1)
    consumer.resume([paused])

    assert values(meanwhile) == ["beside"]
    assert values(polled(consumer, 1)) == ["behind"]


def test_a_partition_paused_as_soon_as_it_is_assigned_keeps_its_start(case: Case) -> None:
    case.publish(*(outbound(case.events, 0, str(n)) for n in range(5)))
    partition = Partition(case.events, 0)
    lanes = Lanes(starts={partition: 3})
    consumer = case.consumer(lanes)
    received = polled_until(consumer, lambda _: partition in lanes.owned, limit=1)

    consumer.pause([partition])
    consumer.resume([partition])

    assert values(received + polled(consumer, 2 - len(received))) == ["3", "4"]


@pytest.mark.parametrize(("offset", "rest"), [(None, ["0", "1", "2"]), (1, ["1", "2"]), (3, ["3"])])
def test_a_paused_partition_can_be_sought_and_goes_on_there(case: Case, offset: int | None, rest: list[str]) -> None:
    partition = Partition(case.events, 0)
    case.publish(*(outbound(case.events, 0, str(n)) for n in range(3)))
    consumer = case.consumer()
    polled(consumer, 2, limit=2)

    consumer.pause([partition])
    meanwhile = consumer.poll(10, 0.05)
    consumer.seek(partition, offset)
    consumer.resume([partition])
    if offset == 3:
        case.publish(outbound(case.events, 0, "3"))

    assert meanwhile == []
    assert values(polled(consumer, len(rest))) == rest


def test_a_consumer_is_told_where_its_partitions_end(case: Case) -> None:
    consumer = case.consumer()
    case.publish(outbound(case.events, 1, "a"), outbound(case.events, 1, "b"))
    until(lambda: consumer.poll(10, 0.05), what="the records")

    ends = consumer.ends([Partition(case.events, 1), Partition(case.compensations, 1)])

    assert ends == {Partition(case.events, 1): 2, Partition(case.compensations, 1): 0}
    until(lambda: consumer.poll(10, 0.05) or consumer.ends_seen([*ends]) == ends, what="the fetches to have told the same")


def test_a_seek_goes_back_and_nothing_fetched_ahead_gets_through(case: Case) -> None:
    case.publish(*(outbound(case.events, 0, str(n)) for n in range(5)))
    consumer = case.consumer()
    polled(consumer, 2, limit=2)

    consumer.seek(Partition(case.events, 0), 1)

    assert values(polled(consumer, 4)) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("case", ["memory", pytest.param("embedded group", marks=pytest.mark.slow)], indirect=True)
def test_the_members_of_a_group_share_the_partitions(case: Case) -> None:
    lanes = Lanes(), Lanes()
    consumers = [case.consumer(each) for each in lanes]

    until(lambda: not any(c.poll(1, 0.02) for c in consumers) and all(len(each.owned) == 4 for each in lanes))
    consumers[0].close()
    until(lambda: consumers[1].poll(1, 0.02) == [] and lanes[1].owned == case.lanes)

    assert lanes[0].told[-1][0] == "revoked"


def test_closing_tells_what_is_revoked_and_ends_polling(case: Case) -> None:
    lanes = Lanes()
    consumer = case.consumer(lanes)
    until(lambda: consumer.poll(1, 0.05) == [] and lanes.owned == case.lanes)

    consumer.close()
    consumer.close()

    assert [(what, set(which)) for what, which in lanes.told if what == "revoked"] == [("revoked", case.lanes)]
    with pytest.raises(LifecycleError, match="closed"):
        consumer.poll(1, 0)


def test_an_exception_in_assigned_surfaces_and_no_record_follows_it(case: Case) -> None:
    case.publish(*(outbound(case.events, n, str(n)) for n in range(PARTITIONS)))
    consumer = case.consumer(Lanes(fail="assigned"))

    with pytest.raises(ZeroDivisionError, match="assigned failed"):
        polled(consumer, 1)

    with pytest.raises(LifecycleError, match="callback failed"):
        consumer.poll(10, 0.1)


def test_an_exception_in_revoked_surfaces_from_close(case: Case) -> None:
    lanes = Lanes(fail="revoked")
    consumer = case.consumer(lanes)
    until(lambda: consumer.poll(1, 0.05) == [] and lanes.owned == case.lanes)

    with pytest.raises(ZeroDivisionError, match="revoked failed"):
        consumer.close()


def test_every_delivery_is_reported_once_with_its_offset(case: Case) -> None:
    producer = case.broker.producer()

    producer.send([outbound(case.events, 0, "a"), outbound(case.events, 0, "b"), outbound(case.compensations, 0, "c")])
    producer.flush(PATIENCE)
    reports = producer.reports()

    assert sorted(reports, key=lambda d: d.token) == [Delivery("a", 0), Delivery("b", 1), Delivery("c", 0)]
    assert producer.reports() == []
    producer.purge()


def test_a_purged_producer_refuses_further_use(case: Case) -> None:
    producer = case.broker.producer()
    producer.send([outbound(case.events, 0, "a")])

    producer.purge()
    producer.purge()

    uses: list[Callable[[Producer], object]] = [lambda p: p.send([]), lambda p: p.reports(), lambda p: p.flush(1)]
    for use in uses:
        with pytest.raises(LifecycleError, match="purged"):
            use(producer)


def test_reading_gives_everything_from_the_starts_to_the_end_as_it_is_when_asked(case: Case) -> None:
    case.publish(*(outbound(case.events, n % 2, str(n)) for n in range(10)))
    case.publish(outbound(case.compensations, 0, "undone"))
    everything = {p: None for p in case.lanes}

    reading = case.broker.read({**everything, Partition(case.events, 1): 3, Partition(case.compensations, 0): 1})
    case.publish(outbound(case.events, 0, "late"), outbound(case.compensations, 0, "too late"))
    records = list(reading)

    assert values([r for r in records if r.partition == 0]) == ["0", "2", "4", "6", "8"]
    assert values([r for r in records if r.partition == 1]) == ["7", "9"]


def test_reading_nothing_ends_at_once(case: Case) -> None:
    case.publish(outbound(case.events, 0, "a"))

    assert list(case.broker.read({})) == []
    assert list(case.broker.read({Partition(case.events, 0): 1, Partition(case.events, 1): None})) == []


def test_reading_can_be_given_up_at_any_record(case: Case) -> None:
    case.publish(*(outbound(case.events, 0, str(n)) for n in range(10)))

    reading = case.broker.read({Partition(case.events, 0): None})
    first = next(reading)
    del reading

    assert first.offset == 0
    assert len(list(case.broker.read({Partition(case.events, 0): None}))) == 10


def test_reading_from_an_offset_that_does_not_exist_is_an_error(case: Case) -> None:
    case.publish(outbound(case.events, 0, "a"))

    with pytest.raises(BrokerError, match=r"events/0 has no offset 7, only 0 to 1"):
        case.broker.read({Partition(case.events, 0): 7})


def test_looking_up_a_topic_that_does_not_exist_gives_none_and_does_not_create_it(case: Case) -> None:
    expected = {case.events: PARTITIONS, "nowhere": None}

    assert case.broker.partitions([case.events, "nowhere"]) == expected
    assert case.broker.partitions([case.events, "nowhere"]) == expected


def test_a_consumer_of_a_topic_that_does_not_exist_says_what_to_do(case: Case) -> None:
    with pytest.raises(BrokerError, match="waiting for topic nowhere; run: saga topics apply") as raised:
        case.broker.consumer("g", [case.events, "nowhere"], Lanes())

    assert raised.value.retriable


@pytest.mark.parametrize("case", ["memory"], indirect=True)
def test_creating_topics_leaves_existing_ones_alone(case: Case) -> None:
    case.broker.create([case.events, "saga.new"], 6, {"cleanup.policy": "delete"})

    assert case.broker.partitions([case.events, "saga.new"]) == {case.events: PARTITIONS, "saga.new": 6}
