"""Dead letters to a Kafka topic in the form that Kafka Connect gives to its own, which tools for them read.

Source: KIP-298, and `DeadLetterQueueReporter` of Apache Kafka.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence

import typer

from saga.errors import BrokerError
from saga.store.dead_letter import DeadLetter
from saga.transport.port import Broker, Outbound, RecordHeaders

AT_ONCE = 500
PATIENCE = 30.0
_PREFIX = "__connect.errors."


def exported(letters: Sequence[DeadLetter], broker: Broker, topic: str) -> Generator[list[DeadLetter]]:
    """Publish them, each to the partition of its number as far as there are so many; part by part, what the broker has."""
    count = broker.partitions([topic])[topic]
    if count is None:
        raise BrokerError(f"there is no topic {topic}; create it, or name another one with --to")
    producer = broker.producer()
    try:
        with typer.progressbar(length=len(letters), label=f"to {topic}", file=sys.stderr) as bar:
            for begin in range(0, len(letters), AT_ONCE):
                part = {str(n): letter for n, letter in enumerate(letters[begin : begin + AT_ONCE])}
                producer.send(_outbound(token, letter, topic, count) for token, letter in part.items())
                producer.flush(PATIENCE)
                yield [part[report.token] for report in producer.reports() if report.error is None]
                bar.update(len(part))
    finally:
        producer.purge()


def connect_headers(letter: DeadLetter) -> RecordHeaders:
    """Its own headers, and behind them what Kafka Connect says of a record that failed."""
    said = {
        "topic": letter.place.topic,
        "partition": str(letter.place.partition),
        "offset": str(letter.place.offset),
        "connector.name": letter.place.saga,
        "task.id": str(letter.lane),
        "stage": "HEADER_CONVERTER" if letter.workflow_id is None else "VALUE_CONVERTER",
        "class.name": "saga.handling.intake.Intake",
        "exception.class.name": f"saga.{letter.reason}",
        "exception.message": letter.error,
        "exception.stacktrace": "",
    }
    return [*letter.headers, *((f"{_PREFIX}{name}", text.encode()) for name, text in said.items())]


def _outbound(token: str, letter: DeadLetter, topic: str, count: int) -> Outbound:
    return Outbound(token, topic, letter.lane % count, letter.key, letter.value, connect_headers(letter))
