"""Questions to a Kafka that does not answer: what is told, and that nobody has to wait who does not want to."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from threading import Event as Flag
from threading import main_thread

import pytest
from confluent_kafka import KafkaError, KafkaException

from saga.errors import BrokerError
from saga.transport import kafka
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition

NOWHERE = KafkaSettings("127.0.0.1:1", timeout=0.1)


def test_a_broker_that_does_not_answer_is_named_with_the_setting() -> None:
    with pytest.raises(BrokerError, match=r"up at 127\.0\.0\.1:1 \(see that Kafka runs there, or correct SAGA_BROKER\)"):
        KafkaBroker(NOWHERE).partitions(["checkout.events"])


class Silent:
    """A client that waits in C, which no signal interrupts, until it is let go."""

    def __init__(self) -> None:
        self.let_go = Flag()

    def list_topics(self, *_: object, timeout: float) -> object:
        self._wait()
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def get_watermark_offsets(self, *_: object, timeout: float) -> None:
        self._wait()

    def committed(self, *_: object, timeout: float) -> list[object]:
        self._wait()
        return []

    def poll(self, _: float) -> None: ...
    def close(self) -> None: ...

    def _wait(self) -> None:
        with suppress(KeyboardInterrupt):  # Python's own waiting is interrupted, C's is not
            signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)
            self.let_go.wait(30)


@pytest.mark.parametrize("question", ["partitions", "spans", "committed", "read"])
def test_ctrl_c_does_not_wait_for_an_answer(monkeypatch: pytest.MonkeyPatch, question: str) -> None:
    client, broker, where = Silent(), KafkaBroker(NOWHERE), Partition("checkout.events", 0)
    monkeypatch.setattr(kafka, "opened", lambda *_: client)
    asked: dict[str, Callable[[], object]] = {
        "partitions": lambda: broker.partitions(["checkout.events"]),
        "spans": lambda: broker.spans([where]),
        "committed": lambda: broker.committed("checkout.stock", [where]),
        "read": lambda: broker.read({where: 0}),
    }
    try:
        with pytest.raises(KeyboardInterrupt):
            asked[question]()
    finally:
        client.let_go.set()
