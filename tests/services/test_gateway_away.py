"""The payment gateway is taken away in the middle of a run, and brought back: no attempt is spent, and the audit is clean."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from demo import sample
from demo.audit import audit
from demo.books import GATEWAY
from demo.feed import Feed, settle
from demo.fleet import COMMAND, Fleet
from demo.ground import Ground
from demo.order import Intake
from demo.real import real
from demo.stocking import opening_stock
from tests.waiting import until

pytestmark = pytest.mark.slow

ORDERS, BEFORE = 120, 20
PROBES_IN_VAIN = 15
"""With a pause of a second this is about 20 s."""
OPEN = "SELECT count(*) FROM saga_workflow WHERE closed IS NULL"
WAITING = "SELECT count(*), max(attempt) FROM saga_fence WHERE error LIKE 'waits for gateway%'"
TRIED = "SELECT coalesce(max(attempt), 0) FROM saga_fence"


@pytest.fixture
def ground(kafka: str, postgres: str, registry: str, tmp_path: Path) -> Iterator[Ground]:
    with real(tmp_path, {"kafka": kafka, "postgres": postgres, "registry": registry}, print) as ground:
        yield ground


def test_a_gateway_that_is_away_for_20_s_costs_no_attempt_and_no_order(ground: Ground, tmp_path: Path) -> None:
    invoices = [*islice(sample.invoices(), ORDERS)]
    intake = Intake.of(invoices)
    opening = opening_stock(intake.demand)
    with Fleet(tmp_path / "fleet", opening=opening, ground=ground) as fleet:
        feed, orders = Feed(fleet.url, fleet.books), [invoice.order for invoice in invoices if invoice.order]
        feed.send(orders[:BEFORE])
        fleet.processes[GATEWAY].terminate()
        fleet.wait_dead(GATEWAY)
        feed.send(orders[BEFORE:])

        log = fleet.log("payments")
        until(lambda: "gateway does not answer" in log.read_text(), what="the breaker to open")
        until(lambda: fleet.books.rows("payments", WAITING)[0][0] > ORDERS // 3, what="orders to wait")
        until(lambda: log.read_text().count("still does not answer") >= PROBES_IN_VAIN, seconds=120, what="probes in vain")
        assert fleet.books.rows("payments", TRIED) == [(0,)]
        assert "waits for gateway" in parked(fleet)

        fleet.restart(GATEWAY)
        standing = settle(fleet.books, fleet.require_alive, patience=60)
        findings = audit(fleet.books, opening=opening, totals=intake.totals)

    assert standing.settled
    assert [finding.claim for finding in findings if not finding.holds] == []
    assert "gateway answers again" in log.read_text()


def parked(fleet: Fleet) -> str:
    """What a person on call is told."""
    command = [COMMAND, "parked", "--database", fleet.environment("payments")["SAGA_DATABASE"]]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
