"""A service's database is gone in the middle of a run on real servers; it is made of the topics, and the audit is clean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from demo import sample
from demo.audit import audit
from demo.books import GATEWAY, ROOT, SAGA
from demo.feed import Feed, settle
from demo.fleet import COMMAND, Fleet, foreign_environment
from demo.order import Intake, Order
from demo.real import Real, real
from demo.stocking import opening_stock
from saga.contracts.topics import fact_topics
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from tests.waiting import until

pytestmark = pytest.mark.slow

ORDERS, BEFORE = 120, 40
WHILE_LANES_ARE_READ = "ALTER TABLE items DROP CONSTRAINT items_on_hand_check, DROP CONSTRAINT items_reserved_check;"
AFTERWARDS = "ALTER TABLE items ADD CHECK (on_hand >= 0), ADD CHECK (reserved >= 0);"


@pytest.fixture
def ground(kafka: str, postgres: str, registry: str, tmp_path: Path) -> Iterator[Real]:
    with real(tmp_path, {"kafka": kafka, "postgres": postgres, "registry": registry}, print) as ground:
        yield ground


@pytest.mark.timeout(400)
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
def test_a_database_that_is_gone_is_made_of_the_topics_and_the_audit_is_clean(
    ground: Real, postgres: str, tmp_path: Path, ending: signal.Signals
) -> None:
    """That of payments first, then that of stock."""
    invoices = [*islice(sample.invoices(), ORDERS)]
    intake = Intake.of(invoices)
    opening = opening_stock(intake.demand)
    orders = [invoice.order for invoice in invoices if invoice.order]
    with Fleet(tmp_path / "fleet", opening=opening, ground=ground) as fleet:
        for service, own in (("payments", orders[: ORDERS // 2]), ("stock", orders[ORDERS // 2 :])):
            with empty_database(postgres, ground, service) as again:
                options = ["--to", again, *scripts(tmp_path, service, opening)]
                lose_and_rebuild(fleet, ground, postgres, service, ending, options, own)
        standing = settle(fleet.books, fleet.require_alive, patience=90)
        findings = audit(fleet.books, opening=opening, totals=intake.totals)
        ground.books.close()

    assert standing.settled
    assert [finding.claim for finding in findings if not finding.holds] == []
    assert not any("StoreBehind" in fleet.log(service).read_text() for service in ("payments", "stock"))


def lose_and_rebuild(
    fleet: Fleet, ground: Real, postgres: str, service: str, ending: signal.Signals, options: list[str], orders: list[Order]
) -> None:
    """The database goes in the midst of these orders; one made of the topics takes its place, and tells nobody of it."""
    feed, before = Feed(fleet.url, fleet.books), fleet.books.ended()
    feed.send(orders[:BEFORE])
    until(lambda: fleet.books.ended() > before + BEFORE // 4, what="orders to end")
    live = ground.books.urls[service]

    end(fleet, service, ending)
    gone = take_away(postgres, ground, service)
    stated, called = own_facts(ground, service), calls(fleet, service)
    feed.send(orders[BEFORE : BEFORE + 10])  # the others go on
    said = rebuild(ground, service, *options, "--compare", "--database", gone)
    assert (own_facts(ground, service), calls(fleet, service)) == (stated, called)
    if ending is signal.SIGTERM:
        assert said["compared"]["differences"] == []
        assert said["compared"]["not_published"] == 0
        assert all(said["compared"]["rows"][table] for table in ("saga_workflow", "saga_fence", business(service)))

    said = rebuild(ground, service, *options, "--swap", "--database", live, fails=False)
    assert (own_facts(ground, service), calls(fleet, service)) == (stated, called)
    assert said["swapped"]
    fleet.restart(service)
    feed.send(orders[BEFORE + 10 :])


def test_a_rebuild_beside_a_living_service_takes_its_place_without_loss(ground: Real, postgres: str, tmp_path: Path) -> None:
    invoices = [*islice(sample.invoices(), ORDERS)]
    intake = Intake.of(invoices)
    opening = opening_stock(intake.demand)
    with (
        Fleet(tmp_path / "fleet", opening=opening, ground=ground) as fleet,
        empty_database(postgres, ground, "shipping") as again,
        (tmp_path / "rebuild.log").open("wb+") as log,
    ):
        feed, orders = Feed(fleet.url, fleet.books), [invoice.order for invoice in invoices if invoice.order]
        live, options = ground.books.urls["shipping"], ["--to", again, "--sql", "services/shipping/tables.sql"]
        feed.send(orders[:BEFORE])
        follow = command("shipping", *options, "--follow")
        following = subprocess.Popen(follow, cwd=ROOT, env=told(ground), stderr=log, stdout=log)
        try:
            until(lambda: "up to date" in (tmp_path / "rebuild.log").read_text(), seconds=90, what="the topics to be read")
            feed.send(orders[BEFORE : 2 * BEFORE])
            end(fleet, "shipping", signal.SIGTERM)
            following.send_signal(signal.SIGINT)
            assert following.wait(90) == 0, (tmp_path / "rebuild.log").read_text()
        finally:
            following.kill()
        ground.books.close()
        said = rebuild(ground, "shipping", *options, "--compare", "--swap", "--database", live, fails=False)
        assert said["compared"]["differences"] == []
        assert said["compared"]["rows"]["parcels"] > 0
        fleet.restart("shipping")
        feed.send(orders[2 * BEFORE :])
        standing = settle(fleet.books, fleet.require_alive, patience=90)
        findings = audit(fleet.books, opening=opening, totals=intake.totals)
        drop(postgres, said["kept"])
        ground.books.close()

    assert standing.settled
    assert [finding.claim for finding in findings if not finding.holds] == []


def drop(postgres: str, name: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def empty_database(postgres: str, ground: Real, service: str) -> Iterator[str]:
    """The URL of a database which may be renamed; what is left of it, and of the one that was taken away, goes at the end."""
    url = ground.books.urls[service]
    name = url.rpartition("/")[2]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"{name}_again")))
        try:
            yield f"{url}_again"
        finally:
            for left in (f"{name}_again", f"{name}_gone"):
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(left)))


def business(service: str) -> str:
    return {"payments": "payments", "stock": "reservations"}[service]


def end(fleet: Fleet, service: str, ending: signal.Signals) -> None:
    """Drained, or killed where it stands."""
    process = fleet.processes[service]
    os.killpg(process.pid, ending) if ending is signal.SIGKILL else process.send_signal(ending)
    fleet.wait_dead(service)


def take_away(postgres: str, ground: Real, service: str) -> str:
    """The service's database is not there any more; the URL under which it can be looked at."""
    name = ground.books.urls[service].rpartition("/")[2]
    ground.books.close()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", (name,)
        )
        statement = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(f"{name}_gone"))
        until(lambda: renamed(connection, statement), what="the sessions of the dead to end")
    return f"{ground.books.urls[service]}_gone"


def renamed(connection: psycopg.Connection[Any], statement: sql.Composed) -> bool:
    try:
        connection.execute(statement)
    except psycopg.errors.ObjectInUse:
        return False
    return True


def own_facts(ground: Real, service: str) -> int:
    """How many records of this participant are on the topics."""
    broker = KafkaBroker(KafkaSettings(ground.addresses["kafka"]))
    counts = broker.partitions(fact_topics(SAGA))
    starts = {Partition(topic, number): None for topic, count in counts.items() for number in range(count or 0)}
    return sum(("ce_source", service.encode()) in record.headers for record in broker.read(starts))


def calls(fleet: Fleet, service: str) -> list[tuple[Any, ...]]:
    """What the gateway was asked, if it is this service that asks; else payments goes on asking meanwhile."""
    return fleet.books.rows(GATEWAY, "SELECT * FROM ledger") if service == "payments" else []


def scripts(folder: Path, service: str, opening: Mapping[str, int]) -> list[str]:
    """The service's tables and what never was in an event; constraints over several workflows wait for the end."""
    options = ["--sql", f"services/{service}/tables.sql"]
    if service == "stock":
        shelves = [f"INSERT INTO items (sku, on_hand) VALUES ('{sku}', {units});" for sku, units in opening.items()]
        (folder / "opening.sql").write_text("\n".join([WHILE_LANES_ARE_READ, *shelves]))
        (folder / "afterwards.sql").write_text(AFTERWARDS)
        options += ["--sql", str(folder / "opening.sql"), "--sql-after", str(folder / "afterwards.sql")]
    return options


def rebuild(ground: Real, service: str, *options: str, fails: bool = True) -> dict[str, Any]:
    asked = command(service, "--json", *options)
    done = subprocess.run(asked, cwd=ROOT, env=told(ground), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in ({0, 1} if fails else {0}), done.stderr
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def command(service: str, *options: str) -> list[str]:
    return [COMMAND, "rebuild", f"services.{service}.app:{service}", *options]


def told(ground: Real) -> dict[str, str]:
    addresses = {"SAGA_BROKER": ground.addresses["kafka"], "SAGA_REGISTRY": ground.addresses["registry"]}
    return {**foreign_environment(), **addresses}
