"""How long one step takes at low load: from the producer of its event to a consumer of its answer."""

from __future__ import annotations

import time
from contextlib import closing

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.workload import CREATE_ACCOUNTS, FILL_ACCOUNTS, PARTITIONS, Headers, create, ledger, messages, saga
from saga import Worker
from saga.contracts.topics import lane_of, saga_topics
from saga.store.postgres import PostgresStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings


def latencies(servers: str, dsn: str, name: str, count: int, per_second: float) -> list[float]:
    """Milliseconds of `count` steps sent at this rate, in order of size; the worker runs in this process, as in a service."""
    bench = saga(name)
    topic = saga_topics(name)[0]
    create(servers, saga_topics(name))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(CREATE_ACCOUNTS)
        connection.execute(FILL_ACCOUNTS)
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 0})
    consumer = Consumer({"bootstrap.servers": servers, "group.id": f"{name}.watch", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    with closing(PostgresStore(dsn, migrate=True)) as store:
        worker = Worker(ledger(bench), store=store, broker=KafkaBroker(KafkaSettings(servers)))
        with worker.running():
            while len(worker.standing().lanes) < PARTITIONS:
                time.sleep(0.01)
            taken = _measure(producer, consumer, list(messages(bench, count + 20)), topic, 1 / per_second)
    consumer.close()
    return sorted(taken[20:])


def _measure(
    producer: Producer, consumer: Consumer, orders: list[tuple[str, bytes, Headers]], topic: str, pause: float
) -> list[float]:
    """Milliseconds of each order; the first ones warm everything up."""
    sent: dict[bytes, float] = {}
    taken: list[float] = []
    due = time.perf_counter()
    while len(taken) < len(orders):
        now = time.perf_counter()
        if len(sent) < len(orders) and now >= due:
            key, value, headers = orders[len(sent)]
            sent[key.encode()] = now
            producer.produce(topic, value, key.encode(), partition=lane_of(key, PARTITIONS), headers=headers)  # type: ignore[arg-type]
            due += pause
        producer.poll(0)
        message = consumer.poll(0.001)
        if message is not None and message.error() is None and ("ce_source", b"ledger") in (message.headers() or []):
            taken.append((time.perf_counter() - sent[message.key() or b""]) * 1000)
    return taken
