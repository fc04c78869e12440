from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from saga import Overloaded, Transaction, Worker
from saga.errors import StoreError
from saga.observe.health import asgi
from saga.store.memory import MemoryStore
from saga.transport.memory import MemoryBroker
from services.orders import api as module
from services.orders.api import api
from services.orders.app import cancel, confirm, orders, place
from services.orders.events import OrderCancelled, OrderConfirmed, OrderLine, OrderPlaced, ParcelDispatched
from tests.services.asgi import client
from tests.services.tables import SERVICES

ORDER: dict[str, Any] = {
    "order_id": "1",
    "customer_id": None,
    "country": "Spain",
    "lines": [{"sku": "MUG", "quantity": 2, "unit_price": 250}],
}
PLACED = OrderPlaced(
    order_id="1", customer_id=None, country="Spain", lines=[OrderLine(sku="MUG", quantity=2, unit_price=250)], total=500
)


@pytest.fixture
def store() -> MemoryStore:
    """With orders' tables, and lanes that a worker has claimed before."""
    store = MemoryStore()
    store.claim("checkout", 0, 4)
    with store.transaction() as tx:
        tx.execute((SERVICES / "orders" / "tables.sql").read_text())
    return store


@pytest.fixture
def http(store: MemoryStore) -> Iterator[httpx.Client]:
    with client(api(store)) as http:
        yield http


def begun(store: MemoryStore) -> list[str]:
    """The workflows whose first event is about to be published."""
    return [row.workflow_id for lane in range(4) for row in store.pending("checkout", lane, 100)]


def test_an_order_is_accepted_and_begins_a_workflow(http: httpx.Client, store: MemoryStore) -> None:
    response = http.post("/orders", json=ORDER)

    assert response.status_code == 202
    assert response.json()["order_id"] == "1"
    assert begun(store) == [response.json()["workflow_id"]]


def test_the_same_order_again_changes_nothing(http: httpx.Client, store: MemoryStore) -> None:
    first, second = http.post("/orders", json=ORDER), http.post("/orders", json=ORDER)

    assert second.status_code == 202
    assert second.json() == first.json()
    assert len(begun(store)) == 1


def test_another_order_of_the_same_id_is_a_conflict(http: httpx.Client, store: MemoryStore) -> None:
    http.post("/orders", json=ORDER)

    response = http.post("/orders", json={**ORDER, "country": "Norway"})

    assert response.status_code == 409
    assert "choose another order_id" in response.json()["error"]
    assert len(begun(store)) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"lines": []}, "lines: List should have at least 1 item"),
        ({"lines": [{"sku": "MUG", "quantity": 0, "unit_price": 1}]}, "lines[0].quantity: Input should be greater"),
        ({"lines": [{"sku": "MUG", "quantity": 1.5, "unit_price": 1}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "MUG", "quantity": 2**31 - 1, "unit_price": 2**31 - 1}] * 3}, "does not fit the contract"),
        ({"order_id": ""}, "order_id"),
        ({"country": None}, "country: Input should be a valid string, found None"),
        ({"coupon": "X"}, "coupon: Extra inputs are not permitted"),
    ],
    ids=["no line", "nothing of an item", "half an item", "too much money", "no id", "no country", "unknown field"],
)
def test_a_request_that_is_no_order_is_told_why(change: dict[str, Any], complaint: str, http: httpx.Client) -> None:
    response = http.post("/orders", json={**ORDER, **change})

    assert response.status_code == 400
    assert complaint in response.json()["error"]


def test_a_body_that_is_no_json_is_refused(http: httpx.Client) -> None:
    response = http.post("/orders", content=b"{")

    assert response.status_code == 400
    assert "Invalid JSON" in response.json()["error"]


def test_an_order_too_large_for_one_event_is_refused_before_it_is_placed(http: httpx.Client) -> None:
    lines = [{"sku": f"{number:0100}", "quantity": 1, "unit_price": 1} for number in range(10_000)]

    response = http.post("/orders", json={**ORDER, "lines": lines})

    assert response.status_code == 413
    assert http.get("/orders/1").status_code == 404


def test_a_service_without_room_says_when_to_come_back(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(order: OrderPlaced, tx: Transaction) -> str:
        raise Overloaded("the outbox is full", retry_after=7)

    monkeypatch.setattr(module, "place", full)

    response = http.post("/orders", json=ORDER)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "7"


def test_the_health_of_the_embedded_worker_is_answered_beside_the_orders(store: MemoryStore) -> None:
    worker = Worker(orders, store=store, broker=MemoryBroker())

    with client(api(store, asgi(worker))) as http:
        alive, ready = http.get("/saga/livez"), http.get("/saga/readyz")

    assert (alive.status_code, ready.status_code) == (200, 503)
    assert ready.json()["reasons"] == ["worker: it does not run"]


def test_a_database_that_is_away_is_no_fault_of_the_customer_and_not_named(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(order: OrderPlaced, tx: Transaction) -> str:
        raise StoreError("db.internal:5432/orders cannot be reached")

    monkeypatch.setattr(module, "place", away)

    response = http.post("/orders", json=ORDER)

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.json() == {"error": "the order book is away; send the request again"}


def test_a_service_whose_worker_has_never_run_asks_to_come_back() -> None:
    store = MemoryStore()
    with store.transaction() as tx:
        tx.execute((SERVICES / "orders" / "tables.sql").read_text())
    with client(api(store)) as http:
        response = http.post("/orders", json=ORDER)

        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert http.get("/orders/1").status_code == 404


def test_an_order_tells_how_it_stands(http: httpx.Client, store: MemoryStore) -> None:
    workflow_id = http.post("/orders", json=ORDER).json()["workflow_id"]
    expected = {**ORDER, "total": 500, "workflow_id": workflow_id, "status": "placed", "parcel": None}
    assert http.get("/orders/1").json() == expected

    with store.transaction() as tx:
        outcome = confirm(ParcelDispatched(order_id="1", parcel="P-1"), tx)

    assert outcome == OrderConfirmed(order_id="1", parcel="P-1")
    assert http.get("/orders/1").json() == {**expected, "status": "confirmed", "parcel": "P-1"}


def test_a_cancelled_order_says_so(http: httpx.Client, store: MemoryStore) -> None:
    with store.transaction() as tx:
        place(PLACED, tx)
    with store.transaction() as tx:
        assert cancel(PLACED, tx) == OrderCancelled(order_id="1")

    assert http.get("/orders/1").json()["status"] == "cancelled"


def test_an_order_nobody_placed_is_not_found(http: httpx.Client) -> None:
    assert http.get("/orders/none").status_code == 404
