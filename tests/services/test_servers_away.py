"""Database, broker and registry are taken away from the running fleet for 20 s each, under load.

Nobody is restarted, the audit is clean, and health tells what is away while it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event as Flag
from time import monotonic

import httpx
import pytest

from demo import sample
from demo.audit import audit
from demo.books import SERVICES
from demo.feed import Feed, settle
from demo.fleet import Fleet
from demo.order import Intake, Order
from demo.real import RealBooks, real
from demo.stocking import opening_stock
from servers import LocalServer, kafka, postgres, registry
from servers.process import LOOPBACK, free_port
from tests.serving import own
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

AWAY = 20.0
OUTAGES = (("store", "postgres"), ("broker", "kafka"), ("registry", "registry"))
"""What health calls the part, and the server behind it, in the order in which they go."""
BEFORE, MEANWHILE = 15, 40
EACH = BEFORE + MEANWHILE
INVOICES = [*islice((invoice for invoice in sample.invoices() if invoice.order), EACH * len(OUTAGES))]


@pytest.fixture
def servers() -> Iterator[dict[str, LocalServer]]:
    """Servers that only this test has."""
    with ExitStack() as stack:
        found = {make.__name__.rpartition(".")[2]: stack.enter_context(own(make.local)) for make in (kafka, postgres, registry)}
        for server in found.values():
            server.start()
        yield found


@pytest.fixture
def fleet(servers: dict[str, LocalServer], tmp_path: Path) -> Iterator[Fleet]:
    """The fleet of the demo on those servers, each process with a port that tells its health."""
    addresses = {name: server.address for name, server in servers.items()}
    with real(tmp_path, addresses, print) as ground:
        fleet = Fleet(tmp_path / "fleet", opening=opening_stock(Intake.of(INVOICES).demand), ground=ground)
        try:
            fleet.prepare()
            yield fleet
        finally:
            fleet.stop()


def test_a_fleet_from_which_each_server_is_taken_away_for_20_s_needs_no_restart_and_its_audit_is_clean(
    servers: dict[str, LocalServer], fleet: Fleet
) -> None:
    ports = {name: f"{LOOPBACK}:{free_port()}" for name in SERVICES if name != "orders"}
    fleet.start_all({name: {"SAGA_HEALTH": address} for name, address in ports.items()})
    health = {"orders": f"{fleet.url}/saga/health", **{name: f"http://{address}/health" for name, address in ports.items()}}
    pids = {name: process.pid for name, process in fleet.processes.items()}
    feed = Feed(fleet.url, fleet.books, patience=90)

    for number, (part, name) in enumerate(OUTAGES, start=1):
        invoices = INVOICES[: number * EACH]
        orders = [invoice.order for invoice in invoices[-EACH:] if invoice.order]
        feed.send(orders[:BEFORE])
        with ThreadPoolExecutor(1) as pool, away(servers[name]):
            feeding = pool.submit(feed.send, spread(orders[BEFORE:], AWAY))
            until(partial(everybody, health, "degraded", part), what=f"health to say that the {part} is away")
        feeding.result()
        assert isinstance(fleet.books, RealBooks)
        fleet.books.close()  # its connections may have died with the server
        standing = settle(fleet.books, fleet.require_alive, patience=60)
        findings = audit(fleet.books, opening=fleet.opening, totals=Intake.of(invoices).totals)

        assert standing.settled, (name, standing)
        assert [(finding.claim, finding.against) for finding in findings if not finding.holds] == []
        until(partial(everybody, health, "ready"), what="health to say that all is well")
        assert {name: process.pid for name, process in fleet.processes.items() if process.poll() is None} == pids


@contextmanager
def away(server: LocalServer) -> Iterator[None]:
    """Without this server from here on, for so long; at the end it is back."""
    began = monotonic()
    server.crash()
    yield
    until(lambda: monotonic() > began + AWAY, what="the outage to have lasted")
    server.start()


def spread(orders: Sequence[Order], seconds: float) -> Iterator[Order]:
    """One after the other, evenly over so many seconds."""
    for order in orders:
        yield order
        Flag().wait(seconds / len(orders))


def everybody(health: Mapping[str, str], state: str, part: str | None = None) -> bool:
    """Whether all services say this of themselves, and of the part if one is named; nobody may ever be dead."""
    with httpx.Client(timeout=60, verify=False) as client:  # to read whom to trust takes longer than to ask
        found = [client.get(url).json() for url in health.values()]
    assert {answer["state"] for answer in found} <= {"ready", "degraded"}, found
    parts = [{p["name"]: p["state"] for p in answer["parts"]} for answer in found]
    return all(answer["state"] == state for answer in found) and all(part is None or p[part] == state for p in parts)
