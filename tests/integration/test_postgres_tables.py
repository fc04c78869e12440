"""The tables in PostgreSQL, the server's address, and what a store refuses when it is opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from saga import assembly
from saga.errors import DefinitionError, StoreError
from saga.store.outbox import OutboxRow
from saga.store.port import Changes
from saga.store.postgres import PostgresStore
from saga.store.postgres_tables import PostgresTables
from saga.store.workflow import Workflow
from servers.process import free_port
from tests.waiting import until

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def administrator(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


# --- tables


def test_the_outbox_reads_as_the_event_router_of_debezium_expects(database: str, administrator: psycopg.Connection) -> None:
    row = OutboxRow(
        id="e1",
        saga="checkout",
        lane=0,
        topic="checkout.events",
        workflow_id="w1",
        type="checkout.StockReserved",
        sequence=1,
        headers=[("ce_id", "e1")],
        payload=b"\x00",
        created=NOW,
    )
    with closing(PostgresStore(database, migrate=True)) as store, store.unit() as unit:
        unit.save("checkout", Changes(workflows=[Workflow(id="w1", version=1, lane=0, opened=NOW)], outbox=[row]))

    found = administrator.execute("SELECT id, aggregatetype, aggregateid, type, payload FROM saga_outbox").fetchone()
    rest = administrator.execute("SELECT headers::text, created, published FROM saga_outbox").fetchone()

    assert found == ("e1", "checkout.events", "w1", "checkout.StockReserved", b"\x00")
    assert rest is not None
    assert json.loads(rest[0]) == [["ce_id", "e1"]]
    assert rest[1:] == (NOW, None)


# --- the server


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    port = free_port()

    with pytest.raises(StoreError, match=rf"127\.0\.0\.1:{port}/shop cannot be reached.*Check that") as refusal:
        PostgresStore(f"postgresql://clerk:s3cret@127.0.0.1:{port}/shop")

    assert "s3cret" not in f"{refusal.value}{refusal.value.__cause__}"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("{at}/no_such_shop", 'database "no_such_shop" does not exist'),
        ("postgresql://nobody:s3cret@{server}/postgres", 'role "nobody" does not exist'),
        ("{at}/postgres?sslmode=require", "server does not support SSL, but SSL was required"),
        ("{at}/postgres?options=-c%20colour%3Dred", 'unrecognized configuration parameter "colour"'),
    ],
)
def test_a_server_that_will_never_let_us_in_is_not_waited_for(postgres: str, address: str, told: str) -> None:
    at = postgres.rpartition("/")[0]

    with pytest.raises(DefinitionError, match=rf"cannot be opened: .*{told}. Correct SAGA_DATABASE") as refusal:
        assembly.patiently(lambda: PostgresStore(address.format(at=at, server=at.rpartition("@")[2])))

    assert "s3cret" not in f"{refusal.value}{refusal.value.__cause__}"


def test_an_address_that_is_none_is_refused_without_the_password() -> None:
    with pytest.raises(DefinitionError, match=r"no connection string.*expected postgresql://") as refusal:
        PostgresStore("host=shop password=s3cret nonsense")

    assert "s3cret" not in str(refusal.value)
    assert refusal.value.__suppress_context__


def test_a_server_that_may_forget_commits_is_refused(database: str, administrator: psycopg.Connection) -> None:
    PostgresTables(database).upgrade()
    name = sql.Identifier(urlsplit(database).path.removeprefix("/"))
    administrator.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))

    with pytest.raises(DefinitionError, match=r"synchronous_commit=off.*Set it to on"):
        PostgresStore(database)


@pytest.mark.parametrize(("lock", "idle"), [(0, 4), (2, 0), (5, 4), (-1, 4)])
def test_limits_that_make_no_sense_are_refused(database: str, lock: float, idle: float) -> None:
    with pytest.raises(DefinitionError, match="expected 0 < lock_timeout <= idle_timeout"):
        PostgresStore(database, lock_timeout=lock, idle_timeout=idle)


def test_the_servers_sessions_have_our_limits_and_a_name(database: str) -> None:
    names = ("lock_timeout", "idle_in_transaction_session_timeout", "application_name", "synchronous_commit")
    with closing(PostgresStore(database, migrate=True, lock_timeout=1.5, idle_timeout=3)) as store, store.unit() as unit:
        found = [unit.execute("SELECT current_setting(%s)", [name]).fetchone()[0] for name in names]

    assert found == ["1500ms", "3s", "saga", "on"]


def test_moments_are_in_utc_whatever_the_servers_time_zone(database: str, administrator: psycopg.Connection) -> None:
    name = sql.Identifier(urlsplit(database).path.removeprefix("/"))
    administrator.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Kolkata'").format(name))
    known = Workflow(id="w1", version=1, lane=0, opened=NOW, deadline=NOW)

    with closing(PostgresStore(database, migrate=True)) as store:
        with store.unit() as unit:
            unit.save("checkout", Changes(workflows=[known]))
        ((_, found, _),) = store.find("w1")

    assert found.deadline is not None
    assert (found.opened.isoformat(), found.deadline.isoformat()) == (NOW.isoformat(), NOW.isoformat())


def test_threads_that_ended_leave_no_session_behind(database: str, administrator: psycopg.Connection) -> None:
    with closing(PostgresStore(database, migrate=True)) as store:
        for _ in range(5):
            with ThreadPoolExecutor(1) as thread:
                thread.submit(store.find, "w1").result()

        until(lambda: sessions(administrator) <= 2, what="the server to end the sessions of all threads but the last")


def sessions(administrator: psycopg.Connection) -> int:
    """How many of the store there are, those that end just now too."""
    row = administrator.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'saga'"
    ).fetchone()
    assert row is not None
    return int(row[0])
