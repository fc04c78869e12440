"""The commands on real servers: a participant's way from an empty database to a workflow that is shown."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from demo.fleet import COMMAND
from demo.topics import Topics
from saga.contracts.topics import saga_topics
from saga.store.postgres import PostgresStore
from services.orders.app import place
from services.orders.events import OrderLine, OrderPlaced
from tests.commands import Commands
from tests.services.tables import SERVICES
from tests.waiting import until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CHECKOUT = ROOT / "schemas" / "checkout"
PLACED = OrderPlaced(
    order_id="1", customer_id=None, country="Spain", lines=[OrderLine(sku="MUG", quantity=2, unit_price=250)], total=500
)
TOPICS = saga_topics("checkout")


@pytest.fixture
def saga(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


@pytest.fixture
def broker(kafka: str, saga: Commands) -> Iterator[str]:
    """The address of a Kafka with the topics of the checkout, for as long as this test lasts."""
    said = saga("topics", "apply", CHECKOUT, "--partitions", "4", SAGA_BROKER=kafka)
    assert said.code == 0, said.err
    yield kafka
    Topics(kafka, TOPICS).delete(TOPICS)


def password(database: str) -> str:
    """The URL with a password, which a server that trusts everybody does not look at."""
    return database.replace("postgres@", "postgres:pa55@")


def test_sql_is_what_upgrade_applies(saga: Commands, database: str) -> None:
    script = saga("db", "sql", SAGA_DATABASE=database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(script.out.encode())

    done = saga("db", "upgrade", "--json", SAGA_DATABASE=database)

    assert done.json["applied"] == []
    assert saga("db", "sql", SAGA_DATABASE=database).out == ""


def test_upgrade_names_the_database_and_no_password(saga: Commands, database: str) -> None:
    said = saga("db", "upgrade", SAGA_DATABASE=password(database))

    assert said.code == 0
    assert "applied 001_tables" in said.out
    assert f"{database.rpartition('@')[2]} is at migration" in said.out
    assert "pa55" not in said.out + said.err


def test_a_database_without_our_tables_is_sent_to_the_upgrade(saga: Commands, database: str) -> None:
    said = saga("show", "w1", SAGA_DATABASE=database)

    assert said.code == 2
    assert "has no saga tables" in said.err
    assert "run: saga db upgrade" in said.err


def test_show_tells_of_a_workflow(saga: Commands, database: str) -> None:
    with closing(PostgresStore(database, migrate=True)) as store:
        store.claim("checkout", 0, 4)
        with store.transaction() as tx:
            tx.execute((SERVICES / "orders" / "tables.sql").read_text())
        with store.transaction() as tx:
            workflow_id = place(PLACED, tx)

    said = saga("show", workflow_id, "--schemas", CHECKOUT, SAGA_DATABASE=password(database))

    assert said.code == 0, said.err
    assert f"checkout v1 {workflow_id}: ACCEPTED" in said.out
    assert "OrderPlaced" in said.out
    assert "pa55" not in said.out


def test_the_doctor_finds_nothing_wrong_with_real_servers(saga: Commands, database: str, broker: str, registry: str) -> None:
    environment = {"SAGA_DATABASE": password(database), "SAGA_BROKER": broker, "SAGA_REGISTRY": registry}
    saga("db", "upgrade", **environment)
    saga("schemas", "register", CHECKOUT, **environment)

    said = saga("doctor", "services.stock.app:stock", "--json", **environment)

    assert said.code == 0, said.out
    assert {finding["level"] for finding in said.json["findings"]} == {"ok"}
    assert {"registry", "schemas", "database", "tables", "broker", "topics"} <= {f["subject"] for f in said.json["findings"]}
    assert "pa55" not in said.out


def test_run_lays_the_tables_takes_the_lanes_and_drains(database: str, broker: str) -> None:
    options = ["--upgrade", "--database", password(database), "--broker", broker]
    command = [COMMAND, "run", "services.stock.app:stock", *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SAGA_")}

    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: lanes(database) == 4 or process.poll() is not None, what="all lanes to be owned")
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 0, told
    assert lanes(database) == 4
    assert f"stock of saga checkout v1, on {database.rpartition('@')[2]} and broker {broker}" in told
    assert "pa55" not in told
    assert told.rstrip().endswith("drained")


def lanes(database: str) -> int:
    """How many lanes have been owned; none before there are tables."""
    with psycopg.connect(database) as connection:
        try:
            [(count,)] = connection.execute("SELECT count(*) FROM saga_lane")
        except psycopg.errors.UndefinedTable:
            return 0
    return int(count)
