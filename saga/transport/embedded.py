"""An in-process Kafka for demos and tests: librdkafka's mock cluster, spoken to over its real protocol.

It is reachable from other processes as long as its owner lives; nothing persists. It has no topic creation, transactions,
fencing or look-up by time, drops silently what is beyond 5 MB in a partition, and proves nothing about rebalances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from confluent_kafka import Producer

from saga.errors import BrokerError, LifecycleError
from saga.transport.kafka_client import opened, translated
from saga.transport.kafka_settings import KafkaSettings

PARTITIONS = 4  # the mock cluster has no other number
_NOT_RUNNING = "the embedded broker is not running; use it in a `with` block"


class EmbeddedBroker:
    """Use it as a context manager; the topics exist, with 4 partitions each, before anyone can know its address.

    Another process is told `servers` and that they are embedded (`KafkaSettings(servers, embedded=True)`).
    """

    def __init__(self, topics: Sequence[str], *, timeout: float = 10.0) -> None:
        self._topics, self._timeout = topics, timeout
        self._cluster: Producer | None = None
        self._servers = ""

    @property
    def servers(self) -> str:
        """Address of the broker; raises LifecycleError outside of the `with` block."""
        if self._cluster is None:
            raise LifecycleError(_NOT_RUNNING)
        return self._servers

    def settings(self, *, lanes: Literal["group", "all"] = "group", client: Mapping[str, str] | None = None) -> KafkaSettings:
        """Settings with which a KafkaBroker talks to this cluster."""
        return KafkaSettings(self.servers, lanes=lanes, embedded=True, timeout=self._timeout, client=client or {})

    def add(self, topics: Sequence[str]) -> None:
        """Make topics; only a consumer opened afterwards hears of them."""
        if self._cluster is None:
            raise LifecycleError(_NOT_RUNNING)
        with translated("the embedded broker does not answer"):
            for topic in topics:
                # Only its owner may ask for a topic that is not there, and asking makes it.
                count = len(self._cluster.list_topics(topic, timeout=self._timeout).topics[topic].partitions)
                if count != PARTITIONS:
                    raise BrokerError(f"the embedded broker gave topic {topic} {count} partitions, not {PARTITIONS}")

    def __enter__(self) -> Self:
        cluster = opened(Producer, {"bootstrap.servers": "embedded", "test.mock.num.brokers": "1", "log_level": "2"})
        with translated("the embedded broker does not start"):
            brokers = cluster.list_topics(timeout=self._timeout).brokers.values()
        self._cluster, self._servers = cluster, ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        self.add(self._topics)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None
