"""SQLAlchemy's objects over SQLite: what is joined, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from saga.errors import DefinitionError
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Workflow
from tests.laid import sqlite_store

KNOWN = Changes(workflows=[Workflow(id="w1", version=1, lane=0, opened=datetime(2026, 3, 1, tzinfo=UTC))])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(sqlite_store(tmp_path / "stock.db")) as store:
        yield store


@pytest.fixture
def engine(store: SqliteStore) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{store.path}")
    yield engine
    engine.dispose()


def test_a_session_commits_both_or_neither(store: SqliteStore, engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(text("BEGIN IMMEDIATE"))
        store.join(session).save("checkout", KNOWN)
        session.rollback()
        rolled_back = store.find("w1")
        session.execute(text("BEGIN IMMEDIATE"))
        store.join(session).save("checkout", KNOWN)
        session.commit()

    assert rolled_back == []
    assert [saga for saga, _, _ in store.find("w1")] == ["checkout"]


def test_a_connection_commits_with_its_block(store: SqliteStore, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        store.join(connection).save("checkout", KNOWN)

    assert [saga for saga, _, _ in store.find("w1")] == ["checkout"]


def test_a_session_in_no_transaction_is_refused(store: SqliteStore, engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(DefinitionError, match=r"in none: open one with begin\(\)"):
        store.join(session)


def test_a_session_whose_driver_has_not_begun_is_told_how_to(store: SqliteStore, engine: Engine) -> None:
    with Session(engine) as session, session.begin(), pytest.raises(DefinitionError, match="BEGIN IMMEDIATE"):
        store.join(session)
