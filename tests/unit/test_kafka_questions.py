"""Questions to a Kafka that does not answer: what is told, and that nobody has to wait who does not want to."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from saga.errors import BrokerError
from saga.transport.embedded import EmbeddedBroker
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition

NOWHERE = KafkaSettings("127.0.0.1:1", timeout=0.1)

WHERE = Partition("checkout.events", 0)
QUESTIONS: dict[str, Callable[[KafkaBroker], object]] = {
    "partitions": lambda broker: broker.partitions(["checkout.events"]),
    "spans": lambda broker: broker.spans([WHERE]),
    "committed": lambda broker: broker.committed("checkout.stock", [WHERE]),
    "read": lambda broker: [*broker.read({WHERE: 0})],
}

ASKING = """
import signal, sys
from contextlib import suppress
from threading import Event
from saga.transport import kafka
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition

class Silent:
    "A client that waits in C, which no signal interrupts, for ever."

    def ask(self, *_, timeout):
        while True:
            with suppress(KeyboardInterrupt):
                print("asked", flush=True)
                Event().wait()

    list_topics = get_watermark_offsets = committed = ask

    def poll(self, _): ...
    def close(self): ...

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have what runs in the background ignore it
kafka.opened = lambda *_: Silent()
broker, where = kafka.KafkaBroker(KafkaSettings("127.0.0.1:1")), Partition("checkout.events", 0)
questions = {
    "partitions": lambda: broker.partitions(["checkout.events"]),
    "spans": lambda: broker.spans([where]),
    "committed": lambda: broker.committed("checkout.stock", [where]),
    "read": lambda: broker.read({where: 0}),
}
questions[sys.argv[1]]()
"""


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_broker_that_does_not_answer_is_named_with_the_setting(question: str) -> None:
    with pytest.raises(BrokerError, match=r" at 127\.0\.0\.1:1 \(see that Kafka runs there, or correct SAGA_BROKER\)"):
        QUESTIONS[question](KafkaBroker(NOWHERE))


@pytest.mark.parametrize("question", QUESTIONS)
def test_why_it_is_not_reached_is_told_the_same_way_each_time(question: str) -> None:
    told = set()
    for _ in range(2):
        with pytest.raises(BrokerError, match="Connection refused") as error:
            QUESTIONS[question](KafkaBroker(replace(NOWHERE, timeout=0.5)))
        told.add(str(error.value))

    assert len(told) == 1


def test_a_wrong_protocol_is_told_from_a_server_that_is_away() -> None:
    with EmbeddedBroker(["checkout.events"]) as plain:
        settings = KafkaSettings(plain.servers, timeout=1.0, client={"security.protocol": "SSL"})
        with pytest.raises(BrokerError, match=r"cannot look topic checkout.events up .*(SSL|ssl:)"):
            KafkaBroker(settings).partitions(["checkout.events"])


@pytest.mark.slow
@pytest.mark.parametrize("question", [*QUESTIONS])
def test_ctrl_c_does_not_wait_for_an_answer(question: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ASKING, question], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"asked\n"

            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in said
