"""Names of topics and groups, lanes, and the plan for a saga's topics; what Kafka client settings are refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from saga.errors import DefinitionError
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.topics import group, lane_of, plan, saga_topics

EVENTS, COMPENSATIONS = "checkout.events", "checkout.compensations"


def test_topics_and_groups_are_named_after_the_saga() -> None:
    assert saga_topics("checkout") == (EVENTS, COMPENSATIONS)
    assert group("checkout", "stock") == "checkout.stock"


@pytest.mark.parametrize(
    ("key", "hashed"),
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536), ("abc", 479470107)],
)
def test_lanes_agree_with_the_examples_in_kafkas_own_tests(key: str, hashed: int) -> None:
    assert lane_of(key, 1_000_003) == (hashed & 0x7FFFFFFF) % 1_000_003


def test_missing_topics_are_created_as_history() -> None:
    plans = plan("checkout", {EVENTS: None}, 12, retention=timedelta(days=30))

    assert [(p.topic, p.action) for p in plans] == [(EVENTS, "create"), (COMPENSATIONS, "create")]
    assert all(p.config == {"cleanup.policy": "delete", "retention.ms": "2592000000"} for p in plans)


def test_topics_with_the_wanted_count_are_left_alone() -> None:
    plans = plan("checkout", {EVENTS: 12, COMPENSATIONS: 12}, 12)

    assert [p.action for p in plans] == ["ok", "ok"]


def test_another_partition_count_is_refused_together_with_creating_its_twin() -> None:
    events, compensations = plan("checkout", {EVENTS: 4, COMPENSATIONS: None}, 12)

    assert (events.action, compensations.action) == ("refuse", "refuse")
    assert "it has 4 partitions, 12 are wanted" in events.reason
    assert "checkout.events has another partition count" in compensations.reason


@pytest.mark.parametrize(("partitions", "retention"), [(0, timedelta(days=1)), (4, timedelta(0))])
def test_a_plan_without_partitions_or_retention_is_refused(partitions: int, retention: timedelta) -> None:
    with pytest.raises(DefinitionError, match="expected both to be positive"):
        plan("checkout", {}, partitions, retention=retention)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("enable.auto.commit", "true"),
        ("enable.auto.offset.store", "true"),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_uncommitted"),
        ("partitioner", "consistent_random"),
        ("acks", "1"),
        ("enable.idempotence", "False"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("group.remote.assignor", "uniform"),
        ("allow.auto.create.topics", "true"),
        ("transactional.id", "orders-1"),
        ("group.id", "mine"),
        ("bootstrap.servers", "elsewhere:9092"),
        ("test.mock.num.brokers", "1"),
        ("message.max.bytes", "500000"),
    ],
)
def test_a_client_setting_that_breaks_a_guarantee_is_refused_by_name_and_with_a_reason(key: str, value: str) -> None:
    with pytest.raises(DefinitionError, match=rf"{key}={value} is refused: .+; .+"):
        KafkaSettings("kafka:9092", client={key: value})


@pytest.mark.parametrize(("key", "value"), [("acks", "-1"), ("enable.auto.commit", "FALSE"), ("partitioner", "murmur2_random")])
def test_saying_what_holds_anyway_is_allowed(key: str, value: str) -> None:
    KafkaSettings("kafka:9092", client={key: value})


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(DefinitionError, match="no Kafka servers given"):
        KafkaSettings(" ")
    with pytest.raises(DefinitionError, match="cannot rejoin on an embedded broker"):
        KafkaSettings("kafka:9092", group_protocol="classic", embedded=True)
    with pytest.raises(DefinitionError, match="expected group_protocol 'consumer' or 'classic'"):
        KafkaSettings("kafka:9092", group_protocol="share")  # type: ignore[arg-type]


def test_each_kind_of_client_gets_the_settings_that_concern_it() -> None:
    settings = KafkaSettings("kafka:9092", client={"security.protocol": "SSL", "linger.ms": "1", "fetch.wait.max.ms": "50"})

    consumer, producer = settings.consumer("g"), settings.producer()

    assert (consumer["security.protocol"], producer["security.protocol"]) == ("SSL", "SSL")
    assert (producer["linger.ms"], consumer["fetch.wait.max.ms"]) == ("1", "50")
    assert "linger.ms" not in consumer
    assert "fetch.wait.max.ms" not in producer


def test_both_group_protocols_keep_the_partitions_of_a_lane_together() -> None:
    consumer = KafkaSettings("kafka:9092").consumer("g")
    classic = KafkaSettings("kafka:9092", group_protocol="classic").consumer("g")

    assert (consumer["group.protocol"], consumer["group.remote.assignor"]) == ("consumer", "range")
    assert (classic["group.protocol"], classic["partition.assignment.strategy"]) == ("classic", "range")
