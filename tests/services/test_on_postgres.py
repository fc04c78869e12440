"""The handlers on PostgreSQL: the same as on SQLite, and stock's judgement while several transactions are open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from saga import Transaction
from saga.store.postgres import PostgresStore
from services.orders.api import api
from services.payments.app import record
from services.payments.events import PaymentAuthorised, PaymentDeclined, PaymentVoided
from services.shipping.app import dispatch
from services.shipping.events import PaymentAuthorised as Paid
from services.shipping.events import StockReserved as Reserved
from services.stock.app import release, reserve
from services.stock.events import OrderLine, OrderPlaced, OutOfStock, StockReserved
from tests.services.asgi import client
from tests.services.tables import SERVICES
from tests.services.test_orders import ORDER
from tests.waiting import until

pytestmark = pytest.mark.slow

ITEMS = "SELECT sku, on_hand, reserved FROM items ORDER BY sku"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

Opened = Callable[..., PostgresStore]


@pytest.fixture
def opened(database: str) -> Iterator[Opened]:
    """Opens a store with a service's own tables, after these statements."""
    with ExitStack() as stack:

        def open_(service: str, *statements: str) -> PostgresStore:
            store = stack.enter_context(closing(PostgresStore(database, migrate=True, lock_timeout=60, idle_timeout=60)))
            with psycopg.connect(database) as connection:
                for statement in ((SERVICES / service / "tables.sql").read_text(), *statements):
                    connection.execute(statement.encode())
            return store

        yield open_


def order(*lines: tuple[str, int], order_id: str = "1") -> OrderPlaced:
    return OrderPlaced(order_id=order_id, country="Spain", lines=[OrderLine(sku=sku, quantity=n) for sku, n in lines])


def rows(store: PostgresStore, sql: str) -> list[tuple[Any, ...]]:
    with store.transaction() as tx:
        return tx.execute(sql).fetchall()


def test_reserving_and_releasing_leave_the_shelves_as_they_were(opened: Opened) -> None:
    store = opened("stock", "INSERT INTO items (sku, on_hand) VALUES ('MUG', 10), ('LAMP', 2)")

    with store.unit() as tx:
        outcome = reserve(order(("MUG", 4), ("LAMP", 2), ("MUG", 1)), tx)
    assert outcome == StockReserved(order_id="1", units=7, country="Spain")
    assert rows(store, ITEMS) == [("LAMP", 0, 2), ("MUG", 5, 5)]

    with store.unit() as tx:
        release(outcome, tx)
    assert rows(store, ITEMS) == [("LAMP", 2, 0), ("MUG", 10, 0)]


def test_one_short_line_reserves_nothing(opened: Opened) -> None:
    store = opened("stock", "INSERT INTO items (sku, on_hand) VALUES ('MUG', 10)")

    with store.unit() as tx:
        outcome = reserve(order(("MUG", 4), ("UNICORN", 1)), tx)

    assert outcome == OutOfStock(order_id="1", sku="UNICORN", wanted=1, available=0)
    assert rows(store, ITEMS) == [("MUG", 10, 0)]


def test_of_two_orders_at_the_same_moment_the_second_is_judged_by_what_the_first_left(opened: Opened, database: str) -> None:
    store = opened("stock", "INSERT INTO items (sku, on_hand) VALUES ('MUG', 10), ('LAMP', 2)")

    def second() -> StockReserved | OutOfStock:
        with store.transaction() as tx:
            return reserve(order(("MUG", 6), order_id="2"), tx)

    with ThreadPoolExecutor(1) as pool, psycopg.connect(database, autocommit=True) as watch:
        with store.transaction() as tx:
            reserve(order(("MUG", 6), ("LAMP", 2)), tx)
            late = pool.submit(second)
            until(lambda: watch.execute(WAITING).fetchone() == (1,), what="the second order to wait")

        assert late.result(60) == OutOfStock(order_id="2", sku="MUG", wanted=6, available=4)
    assert rows(store, ITEMS) == [("LAMP", 0, 2), ("MUG", 4, 6)]


def test_an_order_is_accepted_once_and_tells_how_it_stands(opened: Opened) -> None:
    store = opened("orders")
    store.claim("checkout", 0, 4)

    with client(api(store)) as http:
        first, again = http.post("/orders", json=ORDER), http.post("/orders", json=ORDER)
        other = http.post("/orders", json={**ORDER, "country": "Norway"})
        found = http.get("/orders/1")

    assert [first.status_code, again.status_code, other.status_code] == [202, 202, 409]
    assert found.json()["status"] == "placed"
    assert sum(len(store.pending("checkout", lane, 10)) for lane in range(4)) == 1


def test_payments_journal_has_every_outcome(opened: Opened) -> None:
    store = opened("payments")

    def write(tx: Transaction) -> None:
        record(PaymentAuthorised(order_id="1", authorisation="a", amount=2**40), tx)
        record(PaymentVoided(order_id="1", authorisation="a", amount=2**40), tx)
        record(PaymentDeclined(order_id="2", reason="100 % of the limit?"), tx)

    with store.unit() as tx:
        write(tx)

    assert rows(store, "SELECT order_id, kind, authorisation, amount, reason FROM payments ORDER BY order_id, kind") == [
        ("1", "authorised", "a", 2**40, None),
        ("1", "voided", "a", 2**40, None),
        ("2", "declined", None, 0, "100 % of the limit?"),
    ]


def test_a_parcel_is_written(opened: Opened) -> None:
    store = opened("shipping")

    with store.unit() as tx:
        dispatch(Reserved(order_id="1", country="Spain"), Paid(order_id="1"), tx)

    assert rows(store, "SELECT order_id, country FROM parcels") == [("1", "Spain")]
