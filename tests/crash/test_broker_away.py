"""Orders takes orders in while the broker is away, in the middle of its life and at its start."""

from __future__ import annotations

import signal
from itertools import islice
from pathlib import Path

import httpx
import pytest

from demo import sample
from demo.embedded import BROKER
from demo.feed import Feed
from demo.fleet import Fleet
from tests.waiting import until

pytestmark = pytest.mark.slow

PENDING = "SELECT count(*) FROM saga_outbox WHERE published IS NULL"


def test_orders_answers_202_while_the_broker_is_away(tmp_path: Path) -> None:
    first, second = islice((i.order for i in sample.invoices() if i.order), 2)
    fleet = Fleet(tmp_path, opening={})

    try:
        fleet.prepare()
        fleet.start_all()
        fleet.processes[BROKER].send_signal(signal.SIGKILL)
        fleet.wait_dead(BROKER)
        Feed(fleet.url, fleet.books).send([first])
        fleet.processes["orders"].send_signal(signal.SIGKILL)
        fleet.wait_dead("orders")
        fleet.start("orders")
        Feed(fleet.url, fleet.books).send([second])  # sent again until it is up, and answers 202
        until(lambda: "broker: " in httpx.get(f"{fleet.url}/saga/readyz", timeout=60).text, what="health to say so")
        livez, readyz = (httpx.get(f"{fleet.url}/saga/{page}", timeout=60).status_code for page in ("livez", "readyz"))
    finally:
        fleet.stop()

    assert (livez, readyz) == (200, 503)
    assert fleet.books.rows("orders", "SELECT status FROM orders") == [("placed",), ("placed",)]
    assert fleet.books.rows("orders", PENDING) == [(2,)]
