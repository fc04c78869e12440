"""Kafka, through confluent-kafka. What it needs of the cluster is plain: topics, groups, idempotent writes; no transactions.

Every question to the cluster opens a client of its own, so one broker object serves any number of threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unanswered
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from saga.clock import Clock, SystemClock
from saga.errors import BrokerError
from saga.transport.kafka_client import (
    UNKNOWN_TOPIC,
    broker_error,
    interruptible,
    kafka_partition,
    opened,
    partition_of,
    record_of,
    translated,
)
from saga.transport.kafka_consumer import KafkaConsumer
from saga.transport.kafka_producer import KafkaProducer
from saga.transport.kafka_settings import READERS, KafkaSettings
from saga.transport.port import Assignments, Partition, Record, out_of_range, unknown_topics

_READ_BATCH = 500
_WHEN = re.compile(r" \(after \d+ms in state \w+\)")  # each time another one, of a reason that is the same
_UNTOLD = frozenset(
    {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}
)  # brokers that have no ids of topics, or do not tell everybody


class KafkaBroker:
    """Opens nothing before it is asked; the first use raises DefinitionError if librdkafka does not accept the settings."""

    def __init__(self, settings: KafkaSettings, clock: Clock | None = None) -> None:
        self.settings, self._clock = settings, clock or SystemClock()

    def check(self) -> None:
        """Raises DefinitionError if librdkafka does not accept the settings, whichever client they are for; asks nobody."""
        opened(Consumer, self.settings.consumer(READERS)).close()
        opened(Producer, self.settings.producer())

    def consumer(self, group: str, topics: Sequence[str], assignments: Assignments) -> KafkaConsumer:
        """A member of `group`; raises BrokerError, retriable, while a topic does not exist."""
        found = self.partitions(topics)
        if missing := [topic for topic, count in found.items() if count is None]:
            raise unknown_topics(missing)
        counts = {topic: count for topic, count in found.items() if count is not None}
        return KafkaConsumer(self.settings, group, counts, assignments, self._clock, self.spans)

    def producer(self) -> KafkaProducer:
        return KafkaProducer(self.settings)

    @interruptible
    def partitions(self, topics: Sequence[str]) -> dict[str, int | None]:
        with self._reader() as client:
            return {topic: self._count(client, topic) for topic in topics}

    def ids(self, topics: Sequence[str]) -> dict[str, str | None]:
        if self.settings.embedded or not topics:
            return dict.fromkeys(topics)  # the mock cluster leaves that question unanswered
        admin = opened(AdminClient, self.settings.admin())
        limit = self.settings.timeout
        with translated(self._asking("for the ids of topics")):
            asked = admin.describe_topics(TopicCollection(list(topics)), request_timeout=limit)
        return {topic: _id(topic, answer, limit) for topic, answer in asked.items()}

    def kept(self, topics: Sequence[str]) -> dict[str, timedelta | None]:
        if self.settings.embedded:
            return dict.fromkeys(topics)  # the mock cluster deletes nothing
        admin, limit = opened(AdminClient, self.settings.admin()), self.settings.timeout
        with translated("cannot ask how topics are configured"):
            wanted = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
            asked = admin.describe_configs(wanted, request_timeout=limit)
        return {resource.name: _kept(resource.name, answer, limit) for resource, answer in asked.items()}

    def create(self, topics: Sequence[str], partitions: int, config: Mapping[str, str]) -> None:
        """Create topics that do not exist, with the cluster's own replication factor; raises BrokerError."""
        missing = [topic for topic, count in self.partitions(topics).items() if count is None]
        if not missing:
            return
        if self.settings.embedded:
            raise BrokerError(
                f"an embedded broker cannot create {', '.join(missing)}: it has the topics it was started with. "
                f"Name them in EmbeddedBroker([...]), or use a real Kafka"
            )
        admin = opened(AdminClient, self.settings.admin())
        limit = self.settings.timeout
        wanted = [NewTopic(topic, num_partitions=partitions, config=dict(config)) for topic in missing]
        for topic, answer in admin.create_topics(wanted, request_timeout=limit, operation_timeout=limit).items():
            try:
                answer.result(limit + 1)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise broker_error(error.args[0], f"cannot create topic {topic}") from error
            except Unanswered as silence:
                raise BrokerError(f"no answer to creating topic {topic} within {limit} s", retriable=True) from silence

    @interruptible
    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        with self._reader(group) as client, translated(self._asking(f"for the offsets of group {group}")):
            found = client.committed([kafka_partition(p) for p in partitions], timeout=self.settings.timeout)
        return {Partition(p.topic, p.partition): p.offset for p in found if p.error is None and p.offset >= 0}

    @interruptible
    def spans(self, partitions: Sequence[Partition]) -> dict[Partition, range]:
        with self._reader() as client:
            return {partition: range(*self._watermarks(client, partition)) for partition in partitions}

    def read(self, starts: Mapping[Partition, int | None]) -> Iterator[Record]:
        return self._read(self._spans(starts))

    def _count(self, client: Consumer, topic: str) -> int | None:
        doing = f"cannot look topic {topic} up at {self.settings.servers}"
        with translated(f"{doing} (see that Kafka runs there, or correct SAGA_BROKER)"):
            found = client.list_topics(topic, timeout=self.settings.timeout).topics[topic]
        if found.error is None:
            return len(found.partitions)
        if found.error.code() in UNKNOWN_TOPIC:
            return None
        raise broker_error(found.error, doing)

    @interruptible
    def _spans(self, starts: Mapping[Partition, int | None]) -> dict[Partition, range]:
        """The offsets to be read of each partition that has any."""
        spans = {}
        with self._reader() as client:
            for partition, start in starts.items():
                low, high = self._watermarks(client, partition)
                first = low if start is None else start
                if not low <= first <= high:
                    raise out_of_range(partition, first, f", only {low} to {high}")
                spans[partition] = range(first, high)
        return {partition: span for partition, span in spans.items() if span}

    def _asking(self, what: str) -> str:
        return f"cannot ask {what} at {self.settings.servers} (see that Kafka runs there, or correct SAGA_BROKER)"

    def _watermarks(self, client: Consumer, partition: Partition) -> tuple[int, int]:
        where = f"{partition.topic}/{partition.number}"
        with translated(self._asking(f"for the ends of {where}")):
            found = client.get_watermark_offsets(kafka_partition(partition), timeout=self.settings.timeout)
        if found is None:
            raise BrokerError(f"no answer for the ends of {where} within {self.settings.timeout} s", retriable=True)
        low, high = found
        return low, high

    def _read(self, spans: dict[Partition, range]) -> Iterator[Record]:
        if not spans:
            return
        left: dict[tuple[str, int], range] = {(*partition,): span for partition, span in spans.items()}
        with self._reader() as client:
            client.assign([kafka_partition(p, span.start) for p, span in spans.items()])
            while left:
                for message in self._fetched(client):
                    record: Record | None = None
                    if (error := message.error()) is None:
                        record = record_of(message)
                        place, after = record[:2], record[2] + 1
                    elif _is_end(error):
                        place, after = partition_of(message), _offset(message)
                    else:
                        continue
                    if (span := left.get(place)) is None:
                        continue
                    if record is not None and record[2] in span:
                        yield record
                    if after >= span.stop:  # markers of foreign transactions may take the last offsets of a span
                        del left[place]
                        client.pause([kafka_partition(Partition(*place))])

    def _fetched(self, client: Consumer) -> list[Message]:
        first = client.poll(self.settings.timeout)
        if first is None:
            raise BrokerError(f"nothing to read arrived within {self.settings.timeout} s", retriable=True)
        return [first, *client.consume(_READ_BATCH - 1, 0)]

    @contextmanager
    def _reader(self, group: str = READERS) -> Iterator[Consumer]:
        """A client that is in no group's way; why it reached nobody the error says too, and not only that nobody answered."""
        heard: set[str] = set()

        def hear(error: KafkaError) -> None:
            if error.code() != KafkaError._ALL_BROKERS_DOWN:
                heard.add(_WHEN.sub("", error.str()))

        client = opened(Consumer, {**self.settings.reader(), "group.id": group, "error_cb": hear})
        try:
            yield client
        except BrokerError as error:
            client.poll(0)  # hands over what was heard
            if not heard:
                raise
            raise BrokerError(f"{error}: {max(sorted(heard), key=len)}", retriable=error.retriable) from error
        finally:
            client.close()


def _id(topic: str, answer: Future[Any], limit: float) -> str | None:
    try:
        id = answer.result(limit + 1).topic_id
    except KafkaException as error:
        if error.args[0].code() in UNKNOWN_TOPIC or error.args[0].code() in _UNTOLD:
            return None
        raise broker_error(error.args[0], f"cannot ask for the id of topic {topic}") from error
    except Unanswered as silence:
        raise BrokerError(f"no answer to what the id of topic {topic} is within {limit} s", retriable=True) from silence
    return str(id) if id is not None and id.get_most_significant_bits() else None  # zero is none, and the first are reserved


def _kept(topic: str, answer: Future[Any], limit: float) -> timedelta | None:
    """A segment goes as a whole, once the latest of its records is too old."""
    try:
        found = {name: entry.value for name, entry in answer.result(limit + 1).items()}
    except KafkaException as error:
        raise broker_error(error.args[0], f"cannot ask how topic {topic} is configured") from error
    except Unanswered as silence:
        raise BrokerError(f"no answer to how topic {topic} is configured within {limit} s", retriable=True) from silence
    retention, segment = (int(found[name]) for name in ("retention.ms", "segment.ms"))
    if retention < 0 or found["cleanup.policy"] != "delete":
        return None
    return timedelta(milliseconds=retention + segment)


def _is_end(error: KafkaError) -> bool:
    """Whether it says that a partition ends; if not, it is of a group that is not used here. Raises BrokerError for others."""
    if error.code() not in (KafkaError._PARTITION_EOF, KafkaError.GROUP_AUTHORIZATION_FAILED):
        raise broker_error(error, "cannot read")
    return error.code() == KafkaError._PARTITION_EOF


def _offset(end: Message) -> int:
    """Where a partition ends."""
    offset = end.offset()
    assert offset is not None
    return offset
