"""How long topics keep records, as a real broker tells it."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from saga.errors import BrokerError
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from tests.waiting import until

pytestmark = pytest.mark.slow

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("config", "span"),
    [
        ({"retention.ms": str(HOUR), "segment.ms": str(2 * HOUR)}, timedelta(hours=3)),
        ({"retention.ms": "-1"}, None),
        ({"retention.ms": str(HOUR), "cleanup.policy": "compact"}, None),
    ],
    ids=["for a while", "for ever", "compacted"],
)
def test_a_topic_tells_the_longest_time_for_which_it_keeps_a_record(
    kafka: str, config: dict[str, str], span: timedelta | None
) -> None:
    broker, topic = KafkaBroker(KafkaSettings(kafka)), f"kept-{uuid4().hex[:8]}"
    broker.create([topic], 1, config)
    until(lambda: broker.partitions([topic])[topic])

    assert broker.kept([topic]) == {topic: span}


def test_a_topic_that_is_not_there_tells_nothing(kafka: str) -> None:
    with pytest.raises(BrokerError, match="cannot ask how topic nowhere is configured"):
        KafkaBroker(KafkaSettings(kafka)).kept(["nowhere"])
