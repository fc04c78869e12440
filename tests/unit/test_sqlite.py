"""What is particular to the SQLite store: the file, its lock, its tables, and other people's connections."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from saga.errors import DefinitionError, StoreBusy, StoreConflict, StoreError
from saga.store.outbox import OutboxRow, Published
from saga.store.port import Changes
from saga.store.sqlite import SqliteStore
from saga.store.sqlite_swap import swap
from saga.store.sqlite_tables import SqliteTables
from saga.store.statements import statements
from saga.store.workflow import Workflow
from tests.laid import sqlite_store

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOLD = """
import sys
import threading
from saga.store.sqlite import SqliteStore
SqliteStore(sys.argv[1]).claim("checkout", 0, 1)
print("held", flush=True)
sys.stdin.read()
"""
SWAP_AND_DIE = """
import os, signal, sys
from pathlib import Path
from saga.store.sqlite_swap import swap
sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGKILL) if event == sys.argv[1] else None)
swap(Path("live.db"), Path("rebuilt.db"), "before_1")
"""
MANY_LATE_WORKFLOWS = """
INSERT INTO saga_workflow (saga, workflow_id, version, lane, status, sequence, deadline, opened)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2000)
SELECT 'checkout', 'w' || n, 1, n % 4, 'in_progress', 1, printf('2026-02-01T%05d', n), '2026-02-01' FROM numbers
"""
MANY_LATE_STEPS = """
INSERT INTO saga_fence (saga, workflow_id, step, status, pending, refused, attempt, due, expires)
SELECT saga, workflow_id, 'reserve', 'idle', 0, 0, 1, deadline, deadline FROM saga_workflow
"""


class FixedClock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the store does not sleep")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stock.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with closing(sqlite_store(path, busy_timeout=0.05, clock=FixedClock())) as store:
        yield store


@pytest.fixture
def caller(store: SqliteStore) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(store.path, timeout=0.05, isolation_level=None)) as connection:
        yield connection


def one_event() -> Changes:
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
    return Changes(workflows=[Workflow(id="w1", version=1, lane=0, opened=NOW)], outbox=[row])


# --- tables


def test_a_file_that_is_refused_is_not_made(path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"has no saga tables.*run: saga db upgrade"):
        SqliteStore(path)

    assert not path.exists()


def test_all_that_start_at_once_on_a_new_file_find_its_tables(path: Path) -> None:
    with ThreadPoolExecutor(6) as threads:
        stores = [start.result() for start in [threads.submit(SqliteStore, path, migrate=True) for _ in range(6)]]

    assert [store.find("w1") for store in stores] == [[]] * 6
    for store in stores:
        store.close()


def test_a_store_in_memory_is_refused() -> None:
    with pytest.raises(DefinitionError, match="MemoryStore"):
        SqliteStore(":memory:")


def test_an_address_in_the_place_of_a_path_is_refused() -> None:
    """It was taken for a file of that name, of which it said that its tables are missing."""
    with pytest.raises(DefinitionError, match=r"found the address 'sqlite:///shop.db'; give the path that ends it"):
        SqliteStore("sqlite:///shop.db", migrate=True)


def test_every_commit_is_flushed_to_a_write_ahead_log(store: SqliteStore) -> None:
    with store.transaction() as tx:
        settings = [tx.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert settings == ["wal", 2]


@pytest.mark.parametrize("name", sorted(statements("sqlite")))
def test_every_statement_finds_its_tables(store: SqliteStore, caller: sqlite3.Connection, name: str) -> None:
    known = statements("sqlite")
    sql = f"{known['search']}\n{known[name]}" if name in {"latest", "longest_open", "longest_parked"} else known[name]
    places = max([int(n) for n in "123456789" if f"?{n}" in sql], default=sql.count("?"))

    plan = caller.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * places).fetchall()

    fine = ("VIRTUAL TABLE", "(subquery", "saga_fence_parked")  # an index of nothing but what is parked
    scans = [step for *_, step in plan if step.startswith("SCAN") and not any(kind in step for kind in fine)]
    assert (
        name in {"take_write_lock", "search", "latest", "longest_open", "left", "outstanding", "lanes", "letters"} or not scans
    )  # these are asked by people


def test_the_outbox_reads_as_the_event_router_of_debezium_expects(store: SqliteStore, caller: sqlite3.Connection) -> None:
    with store.unit() as unit:
        unit.save("checkout", one_event())
        unit.mark([Published("checkout", "w1", 1, 41)])

    row = caller.execute("SELECT id, aggregatetype, aggregateid, type, payload FROM saga_outbox").fetchone()
    rest = caller.execute("SELECT headers, created, published, record_offset, handled FROM saga_outbox").fetchone()

    assert row == ("e1", "checkout.events", "w1", "checkout.StockReserved", b"\x00")
    assert json.loads(rest[0]) == [["ce_id", "e1"]]
    assert rest[1:] == (NOW.isoformat(), NOW.isoformat(), 41, None)


# --- one worker process


def test_threads_of_one_process_share_the_worker_lock(store: SqliteStore) -> None:
    store.claim("checkout", 0, 2)

    with ThreadPoolExecutor(1) as other:
        lane = other.submit(store.claim, "checkout", 1, 2).result()

    assert lane.number == 1


def test_a_closed_store_gives_the_file_up(store: SqliteStore) -> None:
    store.claim("checkout", 0, 1)
    with closing(SqliteStore(store.path)) as successor:
        with pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
            successor.claim("checkout", 0, 1)

        store.close()

        assert successor.claim("checkout", 0, 1).epoch == 2


@pytest.mark.slow
def test_a_second_worker_process_is_refused_until_the_first_is_gone(store: SqliteStore) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(StoreBusy, match=f"held by process {holder.pid}: one worker process per SQLite file"):
            store.claim("checkout", 0, 1)
        with store.unit() as unit:
            unit.save("checkout", one_event())
        holder.kill()

    assert store.claim("checkout", 0, 1).epoch == 2
    assert not store.claim("checkout", 0, 1).clean


def test_threads_that_ended_leave_no_connection_behind(store: SqliteStore) -> None:
    def connections() -> int:
        return [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")].count(store.path)

    for _ in range(5):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(store.find, "w1").result()

    assert connections() == 1


# --- other people's connections


def test_a_locked_database_says_so_and_what_to_do(store: SqliteStore, caller: sqlite3.Connection) -> None:
    caller.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreConflict, match=r"database is locked.*busy_timeout") as refusal, store.unit():
        pass

    assert isinstance(refusal.value.__cause__, sqlite3.OperationalError)


def test_an_upgrade_that_has_nothing_to_do_waits_for_no_writer(store: SqliteStore, caller: sqlite3.Connection) -> None:
    caller.execute("BEGIN IMMEDIATE")

    assert SqliteTables(store.path, busy_timeout=0.05).upgrade() == []


def test_a_thread_that_waits_too_long_for_another_is_told_so(store: SqliteStore) -> None:
    with store.unit(), ThreadPoolExecutor(1) as other:
        refused = other.submit(store.claim, "checkout", 0, 1)

        with pytest.raises(StoreConflict, match="another thread's transaction"):
            refused.result()


def test_a_full_disk_is_the_databases_own_trouble(store: SqliteStore) -> None:
    with store.transaction() as tx:
        tx.execute("CREATE TABLE photo (bytes BLOB)")
        tx.execute("PRAGMA max_page_count = 1").fetchone()

    with pytest.raises(sqlite3.OperationalError) as failure, store.transaction() as tx:
        tx.execute("INSERT INTO photo VALUES (zeroblob(100000))")

    with store.unit() as unit:
        assert "full" in str(unit.technical(failure.value))


def test_reading_waits_for_no_writer(store: SqliteStore, caller: sqlite3.Connection) -> None:
    with store.unit() as unit:
        unit.save("checkout", one_event())
    caller.execute("BEGIN IMMEDIATE")
    caller.execute("DELETE FROM saga_outbox")

    assert [row.id for row in store.pending("checkout", 0, 10)] == ["e1"]
    assert [saga for saga, _, _ in store.find("w1")] == ["checkout"]


def test_a_deferred_transaction_gets_the_write_lock_when_it_is_joined(store: SqliteStore, caller: sqlite3.Connection) -> None:
    caller.execute("BEGIN")
    store.join(caller)

    with pytest.raises(StoreError, match="database is locked"), store.unit():
        pass


def test_a_deferred_transaction_that_came_too_late_is_told_to_begin_immediate(
    store: SqliteStore, caller: sqlite3.Connection
) -> None:
    caller.execute("BEGIN")
    caller.execute("SELECT * FROM saga_workflow").fetchall()
    store.claim("checkout", 0, 1)

    with pytest.raises(StoreError, match="begin again with BEGIN IMMEDIATE"):
        store.join(caller)


def test_a_connection_that_begins_by_itself_may_be_joined(store: SqliteStore) -> None:
    with closing(sqlite3.connect(store.path)) as legacy:
        legacy.execute("BEGIN IMMEDIATE")
        store.join(legacy).save("checkout", one_event())
        before = store.pending("checkout", 0, 10)
        legacy.commit()

    assert before == []
    assert [row.id for row in store.pending("checkout", 0, 10)] == ["e1"]


def test_a_connection_of_another_file_is_refused_by_name(store: SqliteStore, tmp_path: Path) -> None:
    orders = SqliteStore(tmp_path / "orders.db", migrate=True)
    refusal = pytest.raises(DefinitionError, match=r"orders\.db, which lacks this store's tables.*stock\.db")

    with closing(orders), orders.transaction() as tx, refusal:
        store.join(tx.connection)


def test_the_callers_row_factory_serves_the_caller_only(store: SqliteStore, caller: sqlite3.Connection) -> None:
    caller.row_factory = lambda cursor, row: {column[0]: value for column, value in zip(cursor.description, row, strict=True)}

    caller.execute("BEGIN IMMEDIATE")
    unit = store.join(caller)
    unit.save("checkout", one_event())
    loaded = unit.load("checkout", ["w1"])
    row = unit.execute("SELECT sequence FROM saga_outbox").fetchone()

    assert loaded["w1"].unpublished == {"e1"}
    assert row == {"sequence": 1}


def test_a_handlers_row_factory_ends_with_its_transaction(store: SqliteStore) -> None:
    with store.transaction() as tx:
        tx.connection.row_factory = lambda cursor, row: {"one": row[0]}
        named = tx.execute("SELECT 1").fetchone()
    woken = store.woken()
    with store.transaction() as tx:
        plain = tx.execute("SELECT 1").fetchone()

    assert (named, woken, plain) == ({"one": 1}, True, (1,))


@pytest.mark.parametrize(("look", "more"), [("due", []), ("expired", ["[]"]), ("expired", ["[1, 2]"])])
def test_of_thousands_that_are_late_at_once_no_more_are_read_than_can_be_seen_to(
    caller: sqlite3.Connection, look: str, more: list[str]
) -> None:
    caller.execute(MANY_LATE_WORKFLOWS)
    caller.execute(MANY_LATE_STEPS)
    statement = statements("sqlite")[look]
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    caller.set_progress_handler(count, 1)
    found = caller.execute(statement, ["checkout", "[0, 1]", NOW.isoformat(), 10, "[1, 2]", *more]).fetchall()

    assert len(found) == 10
    assert steps < 2000


def test_of_thousands_of_workflows_none_is_read_to_list_the_parked_but_those(caller: sqlite3.Connection) -> None:
    caller.execute(MANY_LATE_WORKFLOWS)
    caller.execute(MANY_LATE_STEPS)
    caller.execute("UPDATE saga_fence SET error = 'boom' WHERE workflow_id IN ('w7', 'w1234')")
    known, steps = statements("sqlite"), 0

    def count() -> None:
        nonlocal steps
        steps += 1

    caller.set_progress_handler(count, 1)
    found = caller.execute(f"{known['search']}\n{known['longest_parked']}", ["checkout", None, None, False, 10]).fetchall()

    assert len(found) == 2
    assert steps < 2000


@pytest.mark.parametrize("name", ["live.db", "rebuilt.db"])
def test_a_file_that_somebody_has_open_is_not_swapped_and_it_is_said_what_to_do(tmp_path: Path, name: str) -> None:
    for file in ("live.db", "rebuilt.db"):
        SqliteStore(tmp_path / file, migrate=True).close()

    with closing(SqliteStore(tmp_path / name)) as idle:
        idle.find("w1")
        with pytest.raises(DefinitionError, match="is in use; end the processes that read or write it"):
            swap(tmp_path / "live.db", tmp_path / "rebuilt.db", "before")

    assert swap(tmp_path / "live.db", tmp_path / "rebuilt.db", "before") == tmp_path / "live.db.before"


def test_a_file_that_is_no_database_is_not_held_open(path: Path) -> None:
    path.write_bytes(b"name,amount" * 1000)

    with pytest.raises(StoreError) as refused:
        SqliteStore(path)

    assert str(path) not in {os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()}, refused


def database_of(file: Path, word: str, *, ends: bool = True) -> None:
    """A file in WAL mode that says this word; unless its writer `ends` in order, the log beside it is not folded in."""
    write = f"CREATE TABLE said (word); INSERT INTO said VALUES ('{word}');"
    script = f"""
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.executescript({write!r})
{"connection.close()" if ends else "os._exit(0)"}
"""
    subprocess.run([sys.executable, "-c", script, file], check=True)


def said(file: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT word FROM said").fetchall()


def test_what_takes_the_place_of_a_lost_file_does_not_take_the_log_that_it_left_for_its_own(tmp_path: Path) -> None:
    live = tmp_path / "live.db"
    database_of(live, "old", ends=False)
    live.rename(tmp_path / "taken-away.db")
    database_of(tmp_path / "rebuilt.db", "new")

    assert swap(live, tmp_path / "rebuilt.db", "before") is None

    assert said(live) == [("new",)]
    (tmp_path / "taken-away.db").rename(tmp_path / "live.db.before")
    assert said(tmp_path / "live.db.before") == [("old",)]  # whose log is kept beside it


def test_a_link_to_the_live_file_goes_on_leading_to_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    database_of(tmp_path / "disk" / "live.db", "old")
    (tmp_path / "live.db").symlink_to(tmp_path / "disk" / "live.db")
    database_of(tmp_path / "rebuilt.db", "new")

    kept = swap(tmp_path / "live.db", tmp_path / "rebuilt.db", "before")

    assert said(tmp_path / "disk" / "live.db") == said(tmp_path / "live.db") == [("new",)]
    assert kept == tmp_path / "disk" / "live.db.before"
    assert said(kept) == [("old",)]


def test_a_file_that_cannot_be_moved_there_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("live", "rebuilt"):
        database_of(tmp_path / f"{name}.db", name)

    def on_another_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "replace", on_another_disk)

    with pytest.raises(DefinitionError, match=r"cannot take the place of .*live\.db \(.* link\), nothing was changed"):
        swap(tmp_path / "live.db", tmp_path / "rebuilt.db", "before")

    assert said(tmp_path / "live.db") == [("live",)]
    assert not (tmp_path / "live.db.before").exists()


@pytest.mark.parametrize("step", ["sqlite3.connect", "os.link", "os.rename"])
def test_a_swap_that_is_killed_leaves_the_old_file_in_its_place_and_is_done_by_the_next_one(tmp_path: Path, step: str) -> None:
    for name, word in ("live", "old"), ("rebuilt", "new"):
        database_of(tmp_path / f"{name}.db", word, ends=False)

    died = subprocess.run(
        [sys.executable, "-c", SWAP_AND_DIE, step],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )

    assert died.returncode == -signal.SIGKILL
    assert said(tmp_path / "live.db") == [("old",)]
    assert said(tmp_path / "rebuilt.db") == [("new",)]
    assert swap(tmp_path / "live.db", tmp_path / "rebuilt.db", "before_2") == tmp_path / "live.db.before_2"
    assert said(tmp_path / "live.db") == [("new",)]
    assert said(tmp_path / "live.db.before_2") == [("old",)]
    assert not (tmp_path / "live.db.before_1").exists()


def test_a_name_of_the_live_file_that_no_swap_has_given_is_left_alone(tmp_path: Path) -> None:
    for name, word in ("live", "old"), ("rebuilt", "new"):
        database_of(tmp_path / f"{name}.db", word)
    (tmp_path / "live.db.mine").hardlink_to(tmp_path / "live.db")

    swap(tmp_path / "live.db", tmp_path / "rebuilt.db", "before_2")

    assert said(tmp_path / "live.db.mine") == [("old",)]


def test_who_opens_the_file_while_it_is_swapped_gets_the_one_that_has_its_name_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, word in ("live", "old"), ("rebuilt", "new"):
        SqliteStore(tmp_path / f"{name}.db", migrate=True).close()
        database_of(tmp_path / f"{name}.db", word)
    link, found = os.link, list[str]()

    def opened() -> None:
        with closing(SqliteStore(tmp_path / "live.db")) as store, store.transaction() as tx:
            found.extend(word for (word,) in tx.execute("SELECT word FROM said").fetchall())
            tx.execute("INSERT INTO said VALUES ('written meanwhile')")

    somebody = threading.Thread(target=opened)

    def while_linking(*files: Path) -> None:
        link(*files)
        somebody.start()
        somebody.join(0.3)  # as long as it waits for the swap it does not end

    monkeypatch.setattr(os, "link", while_linking)

    swap(tmp_path / "live.db", tmp_path / "rebuilt.db", "before")
    somebody.join()

    assert found == ["new"]
    assert said(tmp_path / "live.db") == [("new",), ("written meanwhile",)]
    assert said(tmp_path / "live.db.before") == [("old",)]
