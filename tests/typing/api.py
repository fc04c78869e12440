"""The public API as a type checker sees it; never run. Each wrong use carries the error that it must be.

`warn_unused_ignores` of mypy turns an ignore into an error once the wrong use is accepted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, assert_type

from saga import (
    Clock,
    Event,
    ExternalCall,
    Failure,
    Participant,
    Pending,
    Retry,
    Saga,
    SystemClock,
    Transaction,
    Worker,
)
from saga.store.memory import MemoryStore
from saga.store.port import Store
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from saga.testing.clock import ManualClock
from saga.testing.harness import Harness
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.memory import MemoryBroker
from saga.transport.port import Broker


class OrderPlaced(Event):
    order_id: str


class Reserved(Event, name="StockReserved"):
    order_id: str


checkout = Saga.load("schemas/checkout")
stock = Participant("stock", checkout)


@stock.step
def reserve(order: OrderPlaced, tx: Transaction) -> Reserved:
    assert_type(tx.workflow_id, str | None)
    assert_type(tx.execute("SELECT 1", (1,)).fetchall(), list[Any])
    return Reserved(order_id=order.order_id)


@stock.step(step="reserve", retry=Retry(attempts=5, first=0.1, longest=2.0))
async def reserve_later(order: OrderPlaced, tx: Transaction) -> Reserved | Pending:
    return Pending()


@stock.step(step="reserve")
def reserve_elsewhere(order: OrderPlaced, call: ExternalCall) -> Reserved:
    assert_type(call.idempotency_key, str)
    return Reserved(order_id=order.order_id)


@stock.compensation(of=reserve, retry=Retry())
def release(reserved: Reserved, tx: Transaction) -> OrderPlaced:
    return OrderPlaced(order_id=reserved.order_id)


robot = stock.dependency("shelf-robot", errors=[OSError], window=timedelta(minutes=1), pause=5, probes=2)


@stock.step(step="reserve", needs=robot)
def reserve_by_robot(order: OrderPlaced, tx: Transaction) -> Reserved:
    return Reserved(order_id=order.order_id)


@stock.compensation(of="reserve", needs=[robot])
def release_by_robot(reserved: Reserved, tx: Transaction) -> OrderPlaced:
    return OrderPlaced(order_id=reserved.order_id)


@stock.step(step="reserve", needs="shelf-robot")  # type: ignore[arg-type]
def reserve_by_name(order: OrderPlaced, tx: Transaction) -> Reserved:
    return Reserved(order_id=order.order_id)


@stock.classify
def classify(error: Exception) -> Failure | None:
    return Failure.of(robot) if isinstance(error, TimeoutError) else Failure.TRANSIENT


@stock.classify  # type: ignore[type-var]
def classifies_by_name(error: Exception) -> str:
    return "transient"


@stock.step(step="reserve", batch=True, retry=Retry(attempts=5))
def reserve_all(orders: list[OrderPlaced], tx: Transaction) -> list[Reserved | OrderPlaced]:
    assert_type(tx.workflow_ids, Sequence[str])
    return [Reserved(order_id=order.order_id) for order in orders]


@stock.compensation(of="reserve", batch=True)
async def release_all(reserved: list[Reserved], tx: Transaction) -> list[OrderPlaced]:
    return [OrderPlaced(order_id=each.order_id) for each in reserved]


@stock.step(step="reserve", batch=True)  # type: ignore[type-var]
def answers_one(orders: list[OrderPlaced], tx: Transaction) -> Reserved:
    return Reserved(order_id=orders[0].order_id)


@stock.step(step="reserve")  # type: ignore[type-var]
def answers_many(orders: list[OrderPlaced], tx: Transaction) -> list[Reserved]:
    return []


@stock.recording(of="reserve")
def record(outcome: Reserved | OrderPlaced, tx: Transaction) -> None: ...


def handlers_stay_what_they_are(tx: Transaction, order: OrderPlaced) -> None:
    assert_type(reserve(order, tx), Reserved)
    reserve(order)  # type: ignore[call-arg]
    reserve(tx, order)  # type: ignore[arg-type]


@stock.step  # type: ignore[type-var]
def answers_no_event(order: OrderPlaced, tx: Transaction) -> str:
    return order.order_id


@stock.compensation  # type: ignore[call-overload]
def undoes_nothing_by_name(reserved: Reserved, tx: Transaction) -> OrderPlaced:
    return OrderPlaced(order_id=reserved.order_id)


def ways_in(tx: Transaction) -> None:
    assert_type(stock.start(OrderPlaced(order_id="o-1"), tx), str)
    assert_type(stock.start(OrderPlaced(order_id="o-1"), tx, workflow_id="w-1", traceparent=None), str)
    stock.abort("w-1", tx, reason="the customer called")
    stock.resolve("w-1", "reserve", Reserved(order_id="o-1"), tx)

    stock.start({"order_id": "o-1"}, tx)  # type: ignore[arg-type]
    stock.start(OrderPlaced(order_id="o-1"))  # type: ignore[call-arg]
    stock.start(OrderPlaced(order_id="o-1"), tx, "w-1")  # type: ignore[call-arg]
    stock.abort("w-1", tx)  # type: ignore[call-arg]


def a_connection_is_joined_not_passed(store: SqliteStore, connection: sqlite3.Connection) -> None:
    stock.start(OrderPlaced(order_id="o-1"), store.join(connection))
    stock.start(OrderPlaced(order_id="o-1"), connection)  # type: ignore[arg-type]
    with store.transaction() as tx:
        assert_type(tx, Transaction)


def events_are_facts(order: OrderPlaced) -> None:
    order.order_id = "o-2"  # type: ignore[misc]
    OrderPlaced()  # type: ignore[call-arg]


def running() -> None:
    broker, store = KafkaBroker(KafkaSettings("kafka:9092", lanes="group")), SqliteStore("stock.db")
    worker = Worker(stock, store=store, broker=broker, threads=2, batch=200)
    with worker.running() as same:
        assert_type(same, Worker)
    assert_type(worker.standing().lanes, tuple[int, ...])
    assert_type(worker.standing().breakers["shelf-robot"].failure_rate, float)
    KafkaSettings("kafka:9092", lanes="some")  # type: ignore[arg-type]
    Worker(stock, store, broker)  # type: ignore[call-arg]


def every_adapter_fits_its_port() -> None:
    stores: list[Store] = [SqliteStore("stock.db"), PostgresStore("postgresql:///stock"), MemoryStore()]
    brokers: list[Broker] = [KafkaBroker(KafkaSettings("kafka:9092")), MemoryBroker(["checkout.events"], partitions=1)]
    clocks: list[Clock] = [SystemClock(), ManualClock()]
    Participant("stock", checkout, clock=clocks[0], ids=lambda: "w-1")
    with Harness(stock, partitions=1) as fleet:
        assert_type(fleet.start(OrderPlaced(order_id="o-1")), str)
    assert stores
    assert brokers
