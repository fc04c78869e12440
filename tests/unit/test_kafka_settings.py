"""Which Kafka client settings are refused, and what each kind of client gets."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from saga.errors import DefinitionError
from saga.transport.kafka_client import opened
from saga.transport.kafka_settings import KafkaSettings


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


@pytest.mark.parametrize("server", ["kafka:none", "kafka:0", "kafka:65536", "SSL://kafka:9o92", "[::1:9092"])
def test_a_port_that_is_none_is_refused_and_not_a_server_that_is_away(server: str) -> None:
    with pytest.raises(
        DefinitionError, match=r"expected host:port with a port from 1 to 65535.*Correct SAGA_BROKER"
    ) as refused:
        KafkaSettings(f"kafka-1:9092, {server}")

    assert repr(server) in str(refused.value)


@pytest.mark.parametrize("servers", ["kafka", "kafka:9092,", "[::1]:9092", "SASL_SSL://kafka:9092, kafka-2:9092"])
def test_a_port_may_be_left_out(servers: str) -> None:
    assert KafkaSettings(servers).reader()["bootstrap.servers"] == servers


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(DefinitionError, match="no Kafka servers given"):
        KafkaSettings(" ")
    with pytest.raises(DefinitionError, match="for an embedded broker"):
        KafkaSettings("kafka:9092", group_protocol="classic", embedded=True)
    with pytest.raises(DefinitionError, match="expected group_protocol 'consumer' or 'classic'"):
        KafkaSettings("kafka:9092", group_protocol="share")  # type: ignore[arg-type]


def test_a_member_of_a_classic_group_is_missed_for_as_short_as_brokers_allow() -> None:
    told = KafkaSettings("kafka:9092", group_protocol="classic").consumer("g")
    new = KafkaSettings("kafka:9092").consumer("g")

    assert (told["session.timeout.ms"], told["heartbeat.interval.ms"]) == ("6000", "1000")
    assert not {"session.timeout.ms", "heartbeat.interval.ms"} & new.keys()


@pytest.mark.parametrize(("session", "heartbeat"), [("30000", "1000"), ("45000", "15000")])
def test_another_session_may_be_chosen(session: str, heartbeat: str) -> None:
    client = {"session.timeout.ms": session, "heartbeat.interval.ms": heartbeat}

    told = KafkaSettings("kafka:9092", group_protocol="classic", client=client).consumer("g")

    assert client.items() <= told.items()


@pytest.mark.parametrize(
    ("session", "heartbeat"),
    [("6000", "2001"), ("6000", "6000"), ("2999", None), (None, "3000"), ("6 s", "1000"), ("6000", "0")],
)
def test_a_session_that_one_late_heartbeat_would_end_is_refused(session: str | None, heartbeat: str | None) -> None:
    client = {"session.timeout.ms": session, "heartbeat.interval.ms": heartbeat}
    chosen = {key: value for key, value in client.items() if value is not None}

    with pytest.raises(DefinitionError, match="expected 3 heartbeats or more in a session"):
        KafkaSettings("kafka:9092", group_protocol="classic", client=chosen)


def test_passwords_are_not_shown() -> None:
    assert "hunter2" not in repr(KafkaSettings("kafka:9092", client={"sasl.password": "hunter2"}))


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


@pytest.mark.parametrize(("partitions", "ahead"), [(1, "10000"), (8, "1250"), (1000, "100")])
def test_what_is_read_ahead_is_bounded_over_all_partitions(partitions: int, ahead: str) -> None:
    consumer = KafkaSettings("kafka:9092").consumer("g", partitions)

    assert consumer["queued.min.messages"] == ahead
    assert int(consumer["queued.max.messages.kbytes"]) * 1024 + int(consumer["fetch.max.bytes"]) < 11_000_000


def test_bounds_of_memory_may_be_chosen_otherwise() -> None:
    settings = KafkaSettings("kafka:9092", client={"queued.max.messages.kbytes": "1024", "queue.buffering.max.kbytes": "2048"})

    assert settings.consumer("g", 4)["queued.max.messages.kbytes"] == "1024"
    assert settings.producer()["queue.buffering.max.kbytes"] == "2048"


@pytest.mark.parametrize(("key", "value"), [("linger.msx", "5"), ("linger.ms", "soon")])
def test_what_librdkafka_refuses_is_told_with_the_setting_to_correct(key: str, value: str) -> None:
    with pytest.raises(DefinitionError, match=r"librdkafka refuses the Kafka client settings: .+\. Correct SAGA_KAFKA\."):
        opened(Producer, KafkaSettings("127.0.0.1:1", client={key: value}).producer())
