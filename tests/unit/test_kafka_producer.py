"""What the producer on confluent-kafka makes of delivery reports."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Message

from saga.transport.kafka_producer import KafkaProducer
from saga.transport.kafka_settings import KafkaSettings


class Report:
    """A delivered message, as librdkafka tells of it."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def topic(self) -> str:
        return "travel.events"

    def partition(self) -> int:
        return 2

    def offset(self) -> int | None:
        return self._offset


@pytest.mark.parametrize("unknown", [None, -1001])
def test_a_delivery_of_which_the_broker_does_not_know_the_offset_counts_as_failed_and_ends_nobody(unknown: int | None) -> None:
    """A broker that was killed answers so to what it had written before: the sequence number is a duplicate."""
    producer = KafkaProducer(KafkaSettings("127.0.0.1:1"))

    producer._on_delivery("e1", None, cast(Message, Report(7)))
    producer._on_delivery("e2", None, cast(Message, Report(unknown)))
    known, lost = producer.reports()
    producer.purge()

    assert (known.token, known.offset, known.error) == ("e1", 7, None)
    assert (lost.token, lost.error) == ("e2", "travel.events/2 has it, and does not say at which offset")
