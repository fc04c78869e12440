"""What all contenders do: take a placed order of about 300 bytes, change one row of the service's own, answer with an event."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from saga import Event, Participant, Saga, Transaction
from saga.contracts.avro import AvroCodec
from saga.contracts.message import Kind, Message, event_id, to_headers
from saga.contracts.topics import lane_of, saga_topics
from saga.protocol.facts import FactStatus

PARTITIONS = 4
BATCH = 500
ACCOUNTS = 10_000
CREATE_ACCOUNTS = "CREATE TABLE accounts (id integer PRIMARY KEY, events integer NOT NULL DEFAULT 0)"
FILL_ACCOUNTS = "INSERT INTO accounts (id) SELECT * FROM generate_series(0, 9999)"
BUSINESS = "UPDATE accounts SET events = events + 1 WHERE id = %s"

Headers = list[tuple[str, str]]


class Order(Event):
    """What events of all benchmarks say, about 300 bytes."""

    order: str
    account: int
    customer: str
    street: str
    city: str
    country: str
    sku: str
    quantity: int
    price: int
    note: str


class Placed(Order):
    """The event that is handled."""


class Accepted(Order):
    """The event that answers it."""


class Finished(Event):
    """Ends the saga; not measured."""

    order: str


def record(event: type[Event], namespace: str = "bench") -> dict[str, Any]:
    """The contract of an event."""
    fields = [{"name": n, "type": "int" if f.annotation is int else "string"} for n, f in event.model_fields.items()]
    return {"type": "record", "name": event.__name__, "namespace": namespace, "fields": fields}


def saga(name: str) -> Saga:
    """place (shop) -> accept (ledger, measured) -> finish (shop)."""

    def step(name: str, **step: Any) -> dict[str, Any]:
        events = [*step["emits"], *([step["compensated"]] if step.get("compensated") else [])]
        return {"name": name, "type": ["null", *events], "default": None, "step": step}

    return Saga.of(
        record(Placed),
        record(Accepted),
        record(Finished),
        {
            "type": "record",
            "name": "Bench",
            "namespace": "bench",
            "saga": {"name": name, "version": 1, "owner": "shop"},
            "fields": [
                step("place", by="shop", emits=["Placed"], compensated=None),
                step("accept", by="ledger", on=["Placed"], emits=["Accepted"], compensated=None),
                step("finish", by="shop", on=["Accepted"], emits=["Finished"]),
            ],
        },
    )


def ledger(bench: Saga, poisoned: Collection[int] = (), business: str = BUSINESS, *, wait: float = 0.0) -> Participant:
    """The measured participant, which never manages the orders with `poisoned` numbers.

    For each order it waits so many seconds, as if for somebody's answer.
    """
    participant, hopeless = Participant("ledger", bench), {placed(number)["order"] for number in poisoned}

    @participant.step
    def accept(placed: Placed, tx: Transaction) -> Accepted:
        tx.execute(business, (placed.account,))
        if wait:
            time.sleep(wait)
        if placed.order in hopeless:
            raise ValueError("this order cannot be accepted")
        return Accepted(**placed.__dict__)

    return participant


def placed(number: int) -> dict[str, Any]:
    """The fields of one order."""
    return {
        "order": f"order-{number:010}",
        "account": number % ACCOUNTS,
        "customer": f"customer-{number % 9973:08}",
        "street": "27 Old Gloucester Street, third floor, bell on the left-hand side",
        "city": "London WC1N 3AX",
        "country": "United Kingdom",
        "sku": "85123A-white-hanging-heart",
        "quantity": number % 12 + 1,
        "price": 255,
        "note": "please leave it with the neighbour if nobody is at home in the afternoon",
    }


def key(number: int) -> str:
    """The workflow of an order."""
    return f"01990000-0000-7000-8000-{number:012}"


def messages(bench: Saga, count: int, first: int = 0) -> Iterator[tuple[str, bytes, Headers]]:
    """Key, value and headers of `count` placed orders."""
    codec, kind = AvroCodec(bench), Kind("bench.Placed", "shop", bench.name, 1, "place", FactStatus.DONE)
    for number in range(first, first + count):
        id = key(number)
        message = Message(kind, event_id(bench.name, id, "place", "done"), id, datetime.now(UTC), 1)
        yield id, codec.encode("bench.Placed", placed(number)), to_headers(message)


def load(servers: str, bench: Saga, count: int) -> None:
    """Create the saga's topics, and put `count` orders on them."""
    create(servers, saga_topics(bench.name))
    send(servers, bench, count)


def send(servers: str, bench: Saga, count: int, *, partitions: int = PARTITIONS, traced: bool = False) -> None:
    """Put `count` orders on topics that are there; with `traced` each has its trace, of which one in a hundred is sampled."""
    producer = Producer({"bootstrap.servers": servers, "acks": "all", "linger.ms": 5})
    topic = saga_topics(bench.name)[0]
    for number, (key, value, headers) in enumerate(messages(bench, count)):
        if traced:
            headers.append(("traceparent", f"00-{number + 1:032x}-{number + 1:016x}-{'01' if number % 100 == 0 else '00'}"))
        producer.produce(topic, value, key.encode(), partition=lane_of(key, partitions), headers=headers)  # type: ignore[arg-type]
        producer.poll(0)
    assert producer.flush(60) == 0


def create(servers: str, topics: Sequence[str], partitions: int = PARTITIONS) -> None:
    """Create topics and wait until they are known."""
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(topic, partitions, 1) for topic in topics]).values():
        future.result(30)
    limit = time.monotonic() + 30
    while any(topic not in admin.list_topics(timeout=10).topics for topic in topics):
        assert time.monotonic() < limit, "topics do not appear"
