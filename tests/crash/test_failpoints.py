"""SIGKILL at every registered failpoint of every service, on real processes; after a restart the books must be right.

A failpoint that is added to the library is tried here without a further word.
"""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path
from uuid import uuid5

import pytest

from demo import sample
from demo.audit import audit
from demo.books import SERVICES
from demo.feed import Feed, settle
from demo.fleet import Fleet
from demo.order import Order
from saga.failpoints import Failpoint
from saga.protocol.facts import StepStatus
from saga.store.sqlite import SqliteStore
from services.orders.app import ORDERS, orders
from tests.crash.killing import EVERYWHERE, OPENING, false_claims, run_to_the_end
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_a_service_killed_anywhere_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, opening=OPENING)
    places = {service: [*Failpoint] if service == "payments" else EVERYWHERE for service in SERVICES}

    died = run_to_the_end(fleet, places)

    assert died == places
    assert false_claims(fleet) == []


def test_an_abort_between_intent_and_result_waits_for_the_result_and_undoes_it(tmp_path: Path) -> None:
    order = _order_that_can_be_served()
    opening, totals = {line.sku: 1000 for line in order.lines}, {order.order_id: order.total}
    fleet, workflow_id = Fleet(tmp_path, opening=opening), str(uuid5(ORDERS, order.order_id))

    try:
        fleet.prepare()
        fleet.start_all({"payments": {"SAGA_FAILPOINTS": f"{Failpoint.EXTERNAL_INTENDED}:kill"}})
        Feed(fleet.url, fleet.books).send([order])
        assert fleet.wait_dead("payments") == -signal.SIGKILL
        with closing(SqliteStore(fleet.books.path("orders"))) as store, store.transaction() as tx:
            orders.abort(workflow_id, tx, reason="the customer has called")
        until(lambda: _step(fleet, "shipping", workflow_id, "dispatch") is StepStatus.SKIPPED, what="shipping's tombstone")
        fleet.restart("payments")
        settle(fleet.books)
    finally:
        fleet.stop()

    assert _step(fleet, "payments", workflow_id, "authorise") is StepStatus.COMPENSATED
    assert fleet.books.rows("gateway", "SELECT kind FROM ledger ORDER BY rowid") == [("authorised",), ("voided",)]
    assert [f for f in audit(fleet.books, opening=opening, totals=totals) if not f.holds] == []


def _order_that_can_be_served() -> Order:
    return next(i.order for i in sample.invoices() if i.order and i.order.customer_id and i.order.country == "United Kingdom")


def _step(fleet: Fleet, service: str, workflow_id: str, step: str) -> StepStatus:
    with closing(SqliteStore(fleet.books.path(service))) as store:
        found = store.find(workflow_id)
    fence = found[0][1].fences.get(step) if found else None
    return fence.status if fence else StepStatus.IDLE
