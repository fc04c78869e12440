"""The shop, as far as the measured participant hears of it: a process that acknowledges all that it is told.

`python -m benchmarks.shop SERVERS SAGA` goes on until it is ended.
"""

from __future__ import annotations

import sys

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.workload import PARTITIONS, saga
from saga.contracts.acknowledged import RECORD, Acknowledged
from saga.contracts.avro import AvroCodec
from saga.contracts.topics import acks_topic, events_topic

MOST, PATIENCE = 2000, 0.1  # as many spans as a worker tells that takes in some thousands of events a second


def main(servers: str, name: str) -> None:
    """Take in, tell the spans, and do nothing else: what a shop costs is not measured here."""
    codec, topic, told = AvroCodec(saga(name)), events_topic(name), [0] * PARTITIONS
    consumer = Consumer({"bootstrap.servers": servers, "group.id": f"{name}.shop", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 1})
    while True:
        for number, end in sorted(_ends(consumer).items()):
            span = Acknowledged("shop", topic, told[number], end)
            producer.produce(acks_topic(name), codec.encode(RECORD, span.fields()), partition=number)
            told[number] = end
        producer.poll(0)


def _ends(consumer: Consumer) -> dict[int, int]:
    """By partition, the offset behind the records that have come."""
    records = [record for record in consumer.consume(MOST, PATIENCE) if record.error() is None]
    return {record.partition() or 0: (record.offset() or 0) + 1 for record in records}


if __name__ == "__main__":
    main(*sys.argv[1:])
