"""What the in-memory log can do beyond the port: fail deliveries and evict members."""

from __future__ import annotations

from saga.transport.memory import MemoryBroker
from saga.transport.port import Delivery
from tests.brokers import Lanes, outbound, publish


def test_an_evicted_member_is_told_that_its_partitions_are_lost_and_joins_again() -> None:
    broker = MemoryBroker(["saga.events"])
    lanes = Lanes()
    consumer = broker.consumer("g", ["saga.events"], lanes)
    consumer.poll(1, 0)

    broker.evict(consumer)
    consumer.poll(1, 0)

    assert [what for what, _ in lanes.told] == ["assigned", "lost", "assigned"]


def test_a_fault_fails_the_delivery_and_leaves_a_hole() -> None:
    broker = MemoryBroker(["saga.events"], fault=lambda record: "timed out" if record.token == "b" else None)

    reports = publish(broker.producer(), *(outbound("saga.events", 0, token) for token in "abc"))

    assert reports == [Delivery("a", 0), Delivery("b", error="timed out"), Delivery("c", 1)]
