"""A producer on confluent-kafka: idempotent, to explicit partitions, its delivery reports kept until they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as Client

from saga.errors import BrokerError, LifecycleError
from saga.transport.kafka_client import broker_error, log, opened
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Delivery, Outbound

_PATIENCE = 0.1


class KafkaProducer:
    """When `send` raises, some of its records may be under way: purge, and read the outbox again."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._patience = settings.timeout
        self._reported: list[Delivery] = []
        self._ended, self._end = False, ""
        self._client = opened(Client, {**settings.producer(), "error_cb": self._on_error})

    def send(self, records: Iterable[Outbound]) -> None:
        self._refuse_ended()
        for record in records:
            try:
                self._produce(record)
            except KafkaException as error:
                refused = broker_error(error.args[0], f"cannot publish {record.token} to {record.topic}/{record.partition}")
                raise BrokerError(f"{refused}{self._end}", retriable=refused.retriable) from error

    def reports(self) -> list[Delivery]:
        self._refuse_ended()
        with self._serving():
            self._client.poll(0)
        reported, self._reported = self._reported, []
        return reported

    def flush(self, timeout: float) -> None:
        self._refuse_ended()
        with self._serving():
            self._client.flush(timeout)

    def purge(self) -> None:
        if not self._ended:
            self._ended = True
            with self._serving():
                self._client.purge()
                self._client.close()

    def _produce(self, record: Outbound) -> None:
        waited = 0.0
        while True:
            try:
                self._client.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=partial(self._on_delivery, record.token),
                    headers=cast("list[tuple[str, str | bytes | None]]", record.headers),
                )
            except BufferError as full:
                if waited >= self._patience:
                    raise BrokerError(f"the client's queue is full after {waited:.1f} s", retriable=True) from full
                self._client.poll(_PATIENCE)
                waited += _PATIENCE
            else:
                return

    def _on_delivery(self, token: str, error: KafkaError | None, message: Message) -> None:
        if not self._ended:
            self._reported.append(_delivery(token, error, message, self._end))

    def _on_error(self, error: KafkaError) -> None:
        # Whatever is lost by it comes back as a failed delivery.
        log.debug("librdkafka: %s", error)

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """A client that ends for good says so once, out of whatever is called; all it has comes back as failed deliveries."""
        try:
            yield
        except KafkaException as error:
            self._end = f": {error.args[0].str()}"

    def _refuse_ended(self) -> None:
        if self._ended:
            raise LifecycleError("this producer was purged; open another one")


def _delivery(token: str, error: KafkaError | None, message: Message, end: str) -> Delivery:
    if error:
        refused = broker_error(error, f"{message.topic()}/{message.partition()} did not take it")
        return Delivery(token, error=f"{refused}{end}")
    offset = message.offset()
    if offset is None or offset < 0:
        # The broker has it, from a try whose answer was lost, and does not say where. Without its place nobody could see it
        # acknowledged, so it is published once more.
        return Delivery(token, error=f"{message.topic()}/{message.partition()} has it, and does not say at which offset")
    return Delivery(token, offset)
