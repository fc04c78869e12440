"""What all confluent-kafka clients share: how they are opened, and how their errors become ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import wraps
from operator import methodcaller
from threading import Thread, current_thread, main_thread
from typing import ParamSpec, TypeVar, cast

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from saga.errors import BrokerError, DefinitionError
from saga.transport.port import Partition, Record

log = logging.getLogger("saga.transport.kafka")
Client = TypeVar("Client")
Answer = TypeVar("Answer")
Asked = ParamSpec("Asked")

UNREADABLE_NAMES = "(a header's name is not UTF-8)"
UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
# librdkafka repeats by itself whatever repeating can help, and says `retriable` only of transactions: so these are listed.
# Who one is is not among them: a connection that breaks in the middle of that question is told in the same words as a refusal.
_HOPELESS = frozenset(
    {
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_SESSION_TIMEOUT,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNSUPPORTED_ASSIGNOR,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.UNSUPPORTED_VERSION,
    }
)


def opened(kind: Callable[..., Client], config: Mapping[str, object]) -> Client:
    """A client of this kind; raises DefinitionError when librdkafka does not accept the settings."""
    try:
        return kind(dict(config), logger=log)
    except KafkaException as refused:
        said = refused.args[0].str()
        raise DefinitionError(f"librdkafka refuses the Kafka client settings: {said}. Correct SAGA_KAFKA.") from refused


def broker_error(error: KafkaError, doing: str) -> BrokerError:
    """Our error for librdkafka's; retriable unless trying again cannot help."""
    return BrokerError(f"{doing}: {error.name()}: {error.str()}", retriable=not error.fatal() and error.code() not in _HOPELESS)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn a KafkaException from the block into a BrokerError that says what was being done."""
    try:
        yield
    except KafkaException as error:
        raise broker_error(error.args[0], doing) from error


def interruptible(question: Callable[Asked, Answer]) -> Callable[Asked, Answer]:
    """A question that Ctrl-C ends at once: of the main thread, which alone hears of it, but not while the client waits in C."""

    @wraps(question)
    def ask(*arguments: Asked.args, **named: Asked.kwargs) -> Answer:
        if current_thread() is not main_thread():
            return question(*arguments, **named)
        answer: Future[Answer] = Future()

        def hear() -> None:
            try:
                answer.set_result(question(*arguments, **named))
            except BaseException as error:
                answer.set_exception(error)

        Thread(target=hear, daemon=True).start()
        return answer.result()

    return ask


def partition_of(message: Message) -> Partition:
    """Where a record, or an error that concerns one partition, comes from."""
    topic, number = message.topic(), message.partition()
    assert topic is not None
    assert number is not None
    return Partition(topic, number)


# In a call of its own, which looks whether the client has left an exception behind: it answers with half a list then.
_headers_of = methodcaller("headers")


def record_of(message: Message) -> Record:
    """The record as it is."""
    topic, number, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert number is not None
    assert offset is not None
    return Record(topic, number, offset, message.key(), message.value(), _headers(message))


def _headers(message: Message) -> Sequence[tuple[str, bytes | None]]:
    try:
        return cast("list[tuple[str, bytes | None]]", _headers_of(message) or ())
    except (SystemError, UnicodeDecodeError):  # confluent-kafka hands none over if one name is no UTF-8
        return ((UNREADABLE_NAMES, None),)


def kafka_partition(partition: Partition, offset: int | None = None) -> TopicPartition:
    """The partition in librdkafka's terms, at an offset if one is given."""
    if offset is None:
        return TopicPartition(partition.topic, partition.number)
    return TopicPartition(partition.topic, partition.number, offset)
