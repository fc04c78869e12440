"""Other people's connections to PostgreSQL, SQLAlchemy's included: what is joined, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from saga.errors import DefinitionError
from saga.store.outbox import OutboxRow
from saga.store.port import Changes, Unit
from saga.store.postgres import PostgresStore
from saga.store.workflow import Workflow

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(database, migrate=True)) as store:
        with store.transaction() as tx:
            tx.execute("CREATE TABLE shelf (sku TEXT PRIMARY KEY, pieces INTEGER NOT NULL)")
        yield store


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine(dialect(database))
    yield engine
    engine.dispose()


def dialect(database: str, name: str = "postgresql+psycopg") -> str:
    return database.replace("postgresql", name, 1)


def add_event(unit: Unit) -> None:
    """What `start` does: read what is known, write a workflow and an event."""
    assert unit.partitions("checkout") is None
    assert unit.load("checkout", ["w1"]) == {}
    row = OutboxRow(
        id="e1",
        saga="checkout",
        lane=0,
        topic="checkout.events",
        workflow_id="w1",
        type="checkout.StockReserved",
        sequence=1,
        headers=[("ce_id", "e1")],
        payload=b"\x00\xff",
        created=NOW,
    )
    unit.save("checkout", Changes(workflows=[Workflow(id="w1", version=1, lane=0, opened=NOW)], outbox=[row]))
    unit.execute("INSERT INTO shelf VALUES (%s, %s)", ["tea", 3])
    assert unit.load("checkout", ["w1"])["w1"].unpublished == {"e1"}
    assert unit.execute("SELECT pieces FROM shelf").fetchone() == (3,)


def written(store: PostgresStore) -> tuple[list[str], list[tuple[str, int]]]:
    """Events and business rows that are committed."""
    with store.transaction() as tx:
        rows = tx.execute("SELECT sku, pieces FROM shelf ORDER BY sku").fetchall()
    return [row.id for row in store.pending("checkout", 0, 10)], rows


BOTH = (["e1"], [("tea", 3)])
NOTHING: tuple[list[str], list[tuple[str, int]]] = ([], [])


# --- psycopg


def test_a_connection_that_begins_by_itself_may_be_joined(store: PostgresStore, database: str) -> None:
    with psycopg.connect(database) as caller:
        add_event(store.join(caller))
        before = written(store)

    assert before == NOTHING
    assert written(store) == BOTH


def test_a_block_that_fails_takes_the_event_with_it(store: PostgresStore, database: str) -> None:
    def fail() -> None:
        with psycopg.connect(database, autocommit=True) as caller, caller.transaction():
            add_event(store.join(caller))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert written(store) == NOTHING


def test_the_callers_row_factory_serves_the_caller_only(store: PostgresStore, database: str) -> None:
    with psycopg.connect(database, row_factory=dict_row) as caller:
        unit = store.join(caller)
        unit.save("checkout", Changes(workflows=[Workflow(id="w1", version=1, lane=0, opened=NOW)]))
        loaded = unit.load("checkout", ["w1"])
        row = unit.execute("SELECT sequence FROM saga_workflow").fetchone()

    assert loaded["w1"].sequence == 0
    assert row == {"sequence": 0}


def test_an_asynchronous_connection_is_refused(store: PostgresStore, database: str) -> None:
    async def join() -> None:
        async with await psycopg.AsyncConnection.connect(database) as caller:
            store.join(caller)

    with pytest.raises(DefinitionError, match=r"psycopg\.AsyncConnection"):
        asyncio.run(join())


def test_another_schema_of_the_same_database_is_refused(store: PostgresStore, database: str) -> None:
    with (
        psycopg.connect(database, options="-c search_path=elsewhere") as caller,
        pytest.raises(DefinitionError, match="lacks this store's tables"),
    ):
        store.join(caller)


# --- SQLAlchemy


def test_a_connection_of_sqlalchemy_commits_both_or_neither(store: PostgresStore, engine: Engine) -> None:
    with engine.connect() as connection:
        connection.begin()
        add_event(store.join(connection))
        connection.rollback()
        rolled_back = written(store)
        with connection.begin():
            add_event(store.join(connection))

    assert rolled_back == NOTHING
    assert written(store) == BOTH


def test_a_session_of_sqlalchemy_commits_both_or_neither(store: PostgresStore, engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        add_event(store.join(session))
        session.rollback()
        rolled_back = written(store)
    with Session(engine) as session, session.begin():
        add_event(store.join(session))

    assert rolled_back == NOTHING
    assert written(store) == BOTH


def test_an_asynchronous_session_is_joined_on_its_synchronous_side(store: PostgresStore, database: str) -> None:
    async def commit() -> None:
        engine = create_async_engine(dialect(database))
        async with AsyncSession(engine) as session, session.begin():
            await session.run_sync(lambda session: add_event(store.join(session)))
        await engine.dispose()

    asyncio.run(commit())

    assert written(store) == BOTH


def test_an_asynchronous_connection_is_joined_on_its_synchronous_side(store: PostgresStore, database: str) -> None:
    async def take_back() -> None:
        engine = create_async_engine(dialect(database))
        async with engine.connect() as connection, connection.begin() as transaction:
            await connection.run_sync(lambda connection: add_event(store.join(connection)))
            await transaction.rollback()
        await engine.dispose()

    asyncio.run(take_back())

    assert written(store) == NOTHING


def test_an_asynchronous_session_itself_is_refused_and_told_the_way(store: PostgresStore, database: str) -> None:
    session = AsyncSession(create_async_engine(dialect(database)))

    with pytest.raises(DefinitionError, match=r"sqlalchemy\.AsyncSession.*run_sync"):
        store.join(session)


def test_a_session_in_no_transaction_is_refused(store: PostgresStore, engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(DefinitionError, match=r"in none: open one with begin\(\)"):
        store.join(session)


def test_a_connection_that_commits_every_statement_is_refused(store: PostgresStore, engine: Engine) -> None:
    careless = engine.execution_options(isolation_level="AUTOCOMMIT")

    with careless.begin() as connection, pytest.raises(DefinitionError, match="commits every statement by itself"):
        store.join(connection)


def test_a_session_of_another_database_is_refused(store: PostgresStore) -> None:
    engine = create_engine("sqlite://")

    with Session(engine) as session, session.begin(), pytest.raises(DefinitionError, match=r"Session over sqlite3\.Connection"):
        store.join(session)

    engine.dispose()
