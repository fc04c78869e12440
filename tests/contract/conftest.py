"""The stores that must pass the conformance suite: add one here, and every test runs on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from saga.store.archive import Archive
from saga.store.memory import MemoryStore
from saga.store.port import Store
from saga.store.postgres import PostgresStore
from servers import fresh_database
from tests.laid import sqlite_store


class ArchivedStore(Store, Archive, Protocol):
    """A store with its archive."""


@dataclass(frozen=True)
class Database:
    """One store under test, and what a test must know of its driver.

    `connection` is the caller's own, for `join`; `begin` opens a transaction on it; `foreign` is one of some other database.
    """

    store: ArchivedStore
    connection: Any
    begin: str
    foreign: Any
    integrity_error: type[Exception]


@contextmanager
def memory(request: pytest.FixtureRequest, folder: Path) -> Iterator[Database]:
    with closing(MemoryStore()) as store, closing(sqlite3.connect(":memory:", isolation_level=None)) as foreign:
        yield Database(store, store.connection, "BEGIN", foreign, sqlite3.IntegrityError)


@contextmanager
def sqlite(request: pytest.FixtureRequest, folder: Path) -> Iterator[Database]:
    path = folder / "stock.db"
    with (
        closing(sqlite_store(path)) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as own,
        closing(sqlite3.connect(folder / "other.db", isolation_level=None)) as foreign,
    ):
        yield Database(store, own, "BEGIN IMMEDIATE", foreign, sqlite3.IntegrityError)


@contextmanager
def postgres(request: pytest.FixtureRequest, folder: Path) -> Iterator[Database]:
    server: str = request.getfixturevalue("postgres")
    url: str = request.getfixturevalue("emptied")
    with (
        closing(PostgresStore(url, migrate=True, lock_timeout=60, idle_timeout=60)) as store,
        psycopg.connect(url, autocommit=True) as own,
        psycopg.connect(server, autocommit=True) as foreign,
    ):
        yield Database(store, own, "BEGIN", foreign, psycopg.IntegrityError)


@pytest.fixture(scope="session")
def reused(postgres: str) -> Iterator[str]:
    """The URL of a database that all these tests have, one after the other."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def emptied(reused: str) -> str:
    """The same, with nothing in it and nobody on it: to make a database anew takes ten times as long."""
    with psycopg.connect(reused, autocommit=True) as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        administrator.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return reused


@pytest.fixture(params=[memory, sqlite, pytest.param(postgres, marks=pytest.mark.slow)], ids=lambda make: make.__name__)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    make: Callable[[pytest.FixtureRequest, Path], Any] = request.param
    with make(request, tmp_path) as database:
        with database.store.transaction() as tx:
            tx.execute("CREATE TABLE shelf (sku TEXT PRIMARY KEY, pieces INTEGER NOT NULL)")
        yield database


@pytest.fixture
def store(database: Database) -> ArchivedStore:
    return database.store
