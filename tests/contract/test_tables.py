"""What the schema of every database must do: be laid once and whole, and be refused where it is not the one that is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from saga.errors import DefinitionError, StoreError
from saga.store.postgres import PostgresStore
from saga.store.postgres_tables import PostgresTables
from saga.store.sqlite import SqliteStore
from saga.store.sqlite_tables import SqliteTables
from saga.store.statements import Migration, migrations
from saga.store.tables import Tables
from servers import fresh_database


@dataclass(frozen=True, slots=True)
class Empty:
    """A database without our tables: `execute` is an administrator's, `open` a store's, `missing` names what is not there."""

    tables: Callable[[], Tables]
    open: Callable[[], Any]
    execute: Callable[[str], Any]
    missing: tuple[type[Exception], ...]


@contextmanager
def sqlite(request: pytest.FixtureRequest, folder: Path) -> Iterator[Empty]:
    path = folder / "stock.db"

    def execute(sql: str) -> None:
        with closing(sqlite3.connect(path)) as administrator:
            administrator.executescript(sql)

    yield Empty(lambda: SqliteTables(path), lambda: SqliteStore(path), execute, (sqlite3.OperationalError,))


@contextmanager
def postgres(request: pytest.FixtureRequest, folder: Path) -> Iterator[Empty]:
    server: str = request.getfixturevalue("postgres")
    with fresh_database(server) as url, psycopg.connect(url, autocommit=True) as administrator:

        def execute(sql: str) -> None:
            administrator.execute(sql.encode())

        yield Empty(lambda: PostgresTables(url), lambda: PostgresStore(url), execute, (psycopg.errors.UndefinedTable,))


@pytest.fixture(params=[sqlite, pytest.param(postgres, marks=pytest.mark.slow)], ids=lambda make: make.__name__)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Empty]:
    make: Callable[[pytest.FixtureRequest, Path], Any] = request.param
    with make(request, tmp_path) as empty:
        yield empty


def names(tables: Tables) -> list[str]:
    return [migration.name for migration in migrations(tables.database)]


def test_a_database_without_tables_names_the_next_step(empty: Empty) -> None:
    with pytest.raises(DefinitionError, match=r"has no saga tables.*run: saga db upgrade"):
        empty.open()


def test_a_database_of_a_newer_library_is_refused(empty: Empty) -> None:
    empty.tables().upgrade()
    empty.execute("INSERT INTO saga_migration VALUES (999, '999_tomorrow', '2026-03-01')")

    with pytest.raises(DefinitionError, match=r"is at migration 999.*upgrade the library"):
        empty.open()
    with pytest.raises(DefinitionError, match=r"is at migration 999.*upgrade the library"):
        empty.tables().upgrade()


def test_upgrade_applies_what_is_missing_and_nothing_twice(empty: Empty) -> None:
    tables = empty.tables()

    before, first, second = tables.version(), tables.upgrade(), tables.upgrade()

    assert before == 0
    assert first == names(tables)
    assert second == []
    assert tables.version() == tables.latest() == len(first)


def test_all_that_migrate_at_once_find_the_tables_laid_once(empty: Empty) -> None:
    with ThreadPoolExecutor(6) as threads:
        applied = [done.result() for done in [threads.submit(empty.tables().upgrade) for _ in range(6)]]

    assert sorted(name for one in applied for name in one) == names(empty.tables())  # they may take turns


def test_the_script_does_what_upgrade_does(empty: Empty) -> None:
    tables = empty.tables()

    empty.execute(tables.script())

    assert tables.version() == tables.latest()
    assert tables.script() == ""


def test_a_migration_that_fails_leaves_nothing_of_itself(empty: Empty, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = empty.tables()
    script = "CREATE TABLE half (done text);\nCREATE TABLE saga_lane (again text);\n"
    broken = Migration(tables.latest() + 1, "999_broken", script)
    monkeypatch.setattr(tables, "_migrations", [*tables._migrations, broken])

    with pytest.raises(StoreError, match=r'"?saga_lane"? already exists'):
        tables.upgrade()

    assert tables.version() == broken.number - 1
    with pytest.raises(empty.missing):
        empty.execute("SELECT * FROM half")
