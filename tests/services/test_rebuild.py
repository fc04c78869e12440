"""The services' own tables, made of events, row by row as their handlers had left them; nobody is called for that."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from saga.replay.rebuild import Rebuild
from saga.store.memory import MemoryStore
from saga.testing.harness import Harness
from services.orders.app import orders, place
from services.orders.events import OrderLine, OrderPlaced
from services.payments import app
from services.payments.app import payments
from services.payments.client import Gateway
from services.payments.gateway import Ledger, api
from services.shipping.app import shipping
from services.stock.app import stock
from tests.services.asgi import client
from tests.services.tables import SERVICES

TABLES = {"orders": ["orders"], "stock": ["items", "reservations"], "payments": ["payments"], "shipping": ["parcels"]}
SHELVES = "INSERT INTO items (sku, on_hand) VALUES ('LAMP', 10), ('RUG', 3)"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        ledger = Ledger(connection, limit=1000_00)
        with client(api(ledger)) as http:
            monkeypatch.setattr(app, "gateway", lambda: Gateway(http))
            yield ledger


def scripts(service: str) -> list[str]:
    return [(SERVICES / service / "tables.sql").read_text(), *([SHELVES] if service == "stock" else [])]


def statements(service: str) -> list[str]:
    lines = [line for line in ";".join(scripts(service)).splitlines() if not line.startswith("--")]
    return "\n".join(lines).split(";")


def order(number: str, *lines: tuple[str, int], country: str = "Spain", price: int = 10_00, guest: bool = False) -> OrderPlaced:
    wanted = [OrderLine(sku=sku, quantity=quantity, unit_price=price) for sku, quantity in lines]
    total = sum(line.quantity * line.unit_price for line in wanted)
    return OrderPlaced(order_id=number, customer_id=None if guest else "4711", country=country, lines=wanted, total=total)


ORDERS = [
    order("plain", ("LAMP", 2), ("LAMP", 1), ("RUG", 1)),
    order("too many", ("RUG", 30)),
    order("declined", ("LAMP", 1), price=2000_00),
    order("guest", ("LAMP", 1), price=600_00, guest=True),
    order("no courier", ("LAMP", 1), country="Atlantis"),
]


def rows(store: MemoryStore, service: str) -> dict[str, list[tuple[object, ...]]]:
    with store.transaction() as tx:
        return {t: sorted(tx.execute(f"SELECT * FROM {t}").fetchall(), key=repr) for t in TABLES[service]}


def test_all_tables_of_all_services_are_equal_row_by_row_and_nobody_is_called(ledger: Ledger) -> None:
    with Harness(orders, stock, payments, shipping) as fleet:
        for name in fleet.stores:
            with fleet.transaction(name) as tx:
                for statement in statements(name):
                    tx.execute(statement)
        for one in ORDERS:
            with fleet.transaction("orders") as tx:
                place(one, tx)
        fleet.settle()
        said, called = sum(map(len, fleet.facts())), ledger.entries()

        for name, participant in fleet.participants.items():
            rebuild = Rebuild(participant, store := MemoryStore(fleet.clock), fleet.broker, clock=fleet.clock)
            rebuild.prepare(scripts(name))
            rebuild.start()
            rebuild.catch_up()
            rebuild.finish()
            assert rows(store, name) == rows(fleet.stores[name], name)

        statuses = {number: status for number, _, _, _, status, _ in rows(fleet.stores["orders"], "orders")["orders"]}
        assert statuses == {"plain": "confirmed"} | dict.fromkeys(("too many", "declined", "guest", "no courier"), "cancelled")
        assert (sum(map(len, fleet.facts())), ledger.entries()) == (said, called)
