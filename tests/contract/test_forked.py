"""A forked process shares neither connections nor locks with the one before: some web servers load, then fork."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from saga.errors import LifecycleError
from saga.store.port import Store
from saga.store.postgres import PostgresStore
from saga.store.sqlite import SqliteStore
from servers import fresh_database
from tests.forked import FORKS, PATIENCE, forked

SHELF = "CREATE TABLE shelf (sku TEXT PRIMARY KEY)"


@pytest.fixture
def address(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as url:
        yield url


class Undone(Exception):
    """Raised to have a transaction rolled back."""


def skus(store: Store) -> list[str]:
    with store.transaction() as tx:
        return [sku for (sku,) in tx.execute("SELECT sku FROM shelf ORDER BY sku").fetchall()]


@pytest.mark.slow
def test_transactions_of_two_processes_do_not_meet_on_one_connection_of_postgresql(address: str) -> None:
    begun, undone = FORKS.Event(), FORKS.Event()
    with closing(PostgresStore(address, migrate=True)) as store:
        with store.transaction() as tx:
            tx.execute(SHELF)

        def work() -> None:
            with store.transaction() as tx:
                assert tx.execute("INSERT INTO shelf VALUES ('of the child')").rowcount == 1
                begun.set()
                assert undone.wait(PATIENCE)
            store.close()

        with forked(work):
            assert begun.wait(PATIENCE)
            with suppress(Undone), store.transaction() as tx:
                assert tx.execute("INSERT INTO shelf VALUES ('of the parent')").rowcount == 1
                raise Undone
            undone.set()

        assert skus(store) == ["of the child"]


@pytest.mark.slow
def test_a_forked_process_ends_no_connection_of_another_thread_of_the_first(address: str) -> None:
    inside, ended = FORKS.Event(), FORKS.Event()
    with closing(PostgresStore(address, migrate=True)) as store, psycopg.connect(address, autocommit=True) as other:
        other.execute(SHELF)

        def insert() -> None:
            with store.transaction() as tx:
                assert tx.execute("INSERT INTO shelf VALUES ('of a thread')").rowcount == 1
                inside.set()
                assert ended.wait(PATIENCE)

        thread = Thread(target=insert)
        thread.start()
        assert inside.wait(PATIENCE)
        with forked(lambda: skus(store)):
            pass
        ended.set()
        thread.join(PATIENCE)

        assert skus(store) == ["of a thread"]


def test_a_sqlite_store_that_nobody_has_used_yet_is_used_by_a_forked_process(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "stock.db", migrate=True)) as store:

        def work() -> None:
            with store.transaction() as tx:
                tx.execute(SHELF)

        with forked(work):
            pass

        assert skus(store) == []


def test_connections_to_sqlite_are_not_used_by_a_forked_process(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "stock.db", migrate=True)) as store:
        with store.transaction() as tx:
            tx.execute(SHELF)

        def work() -> None:
            for _ in range(2):
                with pytest.raises(LifecycleError, match=r"stock.db: .* was forked .* open the store in each"):
                    skus(store)
            store.close()

        with forked(work):
            pass

        assert skus(store) == []


def test_a_forked_process_does_not_keep_a_sqlite_file_from_the_next_worker(tmp_path: Path) -> None:
    over = FORKS.Event()
    with closing(SqliteStore(tmp_path / "stock.db", migrate=True)) as store:
        store.claim("checkout", 0, 1)

        def work() -> None:
            assert over.wait(PATIENCE)

        with forked(work):
            store.close()
            with closing(SqliteStore(tmp_path / "stock.db")) as following:
                assert following.claim("checkout", 0, 1).epoch == 2
            over.set()
