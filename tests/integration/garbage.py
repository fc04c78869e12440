"""Writing to a topic what no decent client writes, down to a header whose name is not text."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka
from confluent_kafka import Producer

from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Record


def write(settings: KafkaSettings, records: Sequence[Record]) -> None:
    """Put records on their topic and partition, as they are."""
    client = Producer(settings.producer())
    for record in records:
        headers: list[tuple[str, str | bytes | None]] = [*record.headers]
        client.produce(record.topic, record.value, record.key, record.partition, headers=headers)
    assert client.flush(20) == 0
    client.close()


def write_nameless(servers: str, topic: str, partition: int) -> None:
    """Put a record on the topic, by librdkafka alone, of which a header's name is no UTF-8."""
    [file] = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*")
    library = ctypes.CDLL(str(file))
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    why = ctypes.create_string_buffer(200)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(settings, b"bootstrap.servers", servers.encode(), why, 200)
    client = ctypes.c_void_p(library.rd_kafka_new(0, settings, why, 200))
    to = (1, ctypes.c_char_p(topic.encode()), 3, ctypes.c_int32(partition), 7, 2)
    value = (4, ctypes.c_char_p(b"value"), ctypes.c_size_t(5))
    header = (9, ctypes.c_char_p(b"\xff\xfe"), ctypes.c_char_p(b"v"), ctypes.c_ssize_t(1))
    assert library.rd_kafka_producev(client, *to, *value, *header, 0) == 0
    assert library.rd_kafka_flush(client, 20_000) == 0
    library.rd_kafka_destroy(client)
