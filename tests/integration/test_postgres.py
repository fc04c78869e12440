"""The PostgreSQL store where only the real server can judge it: order, fences, conflicts, lost answers, stopped owners."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus

from saga.errors import LaneFenced, StoreConflict, StoreError
from saga.store.archive import Search
from saga.store.outbox import OutboxRow
from saga.store.port import Changes, Unit
from saga.store.postgres import PostgresStore
from saga.store.postgres_tables import SQL
from saga.store.postgres_unit import PostgresUnit
from saga.store.workflow import Workflow
from tests.waiting import until

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PATIENCE = 30.0
OWNER = """
import sys
from saga.store.postgres import PostgresStore
from saga.errors import StoreError
store = PostgresStore(sys.argv[1], lock_timeout=0.3, idle_timeout=0.5)
lane = store.claim("checkout", 0, 1)
try:
    with store.unit() as unit:
        unit.load("checkout", ["w1"])
        print("inside", flush=True)
        sys.stdin.readline()
        unit.execute("UPDATE shelf SET pieces = 0")
        unit.advance(lane)
except StoreError as error:
    print(type(error).__name__, flush=True)
store.close()
"""
MANY_LATE_WORKFLOWS = """
INSERT INTO saga_workflow (saga, workflow_id, version, lane, status, sequence, deadline, opened)
SELECT 'checkout', 'w' || n, 1, n % 4, 'in_progress', 1, '2026-02-01T00:00:00Z'::timestamptz + n * '1 s'::interval, now()
FROM generate_series(1, 2000) AS n
"""
MANY_LATE_STEPS = """
INSERT INTO saga_fence (saga, workflow_id, step, status, pending, refused, attempt, due, expires)
SELECT saga, workflow_id, 'reserve', 'idle', false, false, 1, deadline, deadline FROM saga_workflow
"""


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    """The store with more patience than any test needs, however slow the machine is."""
    with closing(PostgresStore(database, migrate=True, lock_timeout=PATIENCE, idle_timeout=PATIENCE)) as store:
        with store.transaction() as tx:
            tx.execute("CREATE TABLE shelf (sku TEXT PRIMARY KEY, pieces INTEGER NOT NULL)")
            tx.execute("INSERT INTO shelf VALUES ('rice', 5), ('tea', 5)")
        yield store


@pytest.fixture
def other(database: str, store: PostgresStore) -> Iterator[PostgresStore]:
    """The store as another process has it."""
    with closing(PostgresStore(database, lock_timeout=PATIENCE, idle_timeout=PATIENCE)) as other:
        yield other


@pytest.fixture
def hasty(database: str, store: PostgresStore) -> Iterator[PostgresStore]:
    """The store with next to no patience, for what is to be cut."""
    with closing(PostgresStore(database, lock_timeout=0.3, idle_timeout=1.0)) as hasty:
        yield hasty


def event(workflow_id: str, sequence: int = 1) -> Changes:
    row = OutboxRow(
        id=f"{workflow_id}/{sequence}",
        saga="checkout",
        lane=0,
        topic="checkout.events",
        workflow_id=workflow_id,
        type="checkout.StockReserved",
        sequence=sequence,
        headers=[],
        payload=b"\x00",
        created=NOW,
    )
    known = Workflow(id=workflow_id, version=1, lane=0, opened=NOW, sequence=sequence)
    return Changes(workflows=[known], outbox=[row])


def add_event(unit: Unit, workflow_id: str) -> None:
    """What `start` and the ledger do: the next sequence number under the workflow's lock."""
    known = unit.load("checkout", [workflow_id]).get(workflow_id)
    unit.save("checkout", event(workflow_id, known.sequence + 1 if known else 1))


def pending(store: PostgresStore) -> list[str]:
    return [row.id for row in store.pending("checkout", 0, 100)]


def pieces(store: PostgresStore) -> dict[str, int]:
    with store.transaction() as tx:
        return dict(tx.execute("SELECT sku, pieces FROM shelf").fetchall())


def sessions(database: str, condition: LiteralString) -> int:
    """How many other sessions of the database there are of which this is true."""
    with psycopg.connect(database, autocommit=True) as administrator:
        row = administrator.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() AND " + condition
        ).fetchone()
    assert row is not None
    return int(row[0])


def open_transactions(database: str) -> int:
    return sessions(database, "xact_start IS NOT NULL")


def waiting_sessions(database: str) -> int:
    return sessions(database, "wait_event_type = 'Lock'")


@contextmanager
def killing(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave no stopped process behind, however the block ends."""
    try:
        yield
    finally:
        process.kill()


# --- order


def test_transactions_that_commit_in_reverse_order_lose_nothing(store: PostgresStore, database: str) -> None:
    with psycopg.connect(database) as early, psycopg.connect(database) as late:
        add_event(store.join(early), "w1")
        add_event(store.join(late), "w2")

        late.commit()
        first = pending(store)
        early.commit()

    assert first == ["w2/1"]
    assert pending(store) == ["w1/1", "w2/1"]


def test_the_lane_waits_for_a_start_and_goes_on_with_the_next_number(store: PostgresStore, database: str) -> None:
    def lane() -> None:
        with store.unit() as unit:
            add_event(unit, "w1")

    with psycopg.connect(database) as web, ThreadPoolExecutor(1) as worker:
        add_event(store.join(web), "w1")
        done = worker.submit(lane)
        until(lambda: waiting_sessions(database) == 1, what="the lane to wait")
        before = pending(store)
        web.commit()
        done.result()

    assert before == []
    assert pending(store) == ["w1/1", "w1/2"]


def test_a_workflow_opened_twice_at_once_is_a_conflict_for_the_second(store: PostgresStore, other: PostgresStore) -> None:
    def open_both() -> None:
        with store.unit() as unit:
            known = unit.load("checkout", ["w1", "w2"])
            with other.unit() as quicker:
                quicker.save("checkout", event("w2"))
            assert known == {}
            unit.save("checkout", event("w2"))

    with pytest.raises(StoreConflict, match="opened the same workflow"):
        open_both()

    assert pending(store) == ["w2/1"]


def test_an_event_of_another_process_wakes_and_the_own_lanes_does_not(store: PostgresStore, other: PostgresStore) -> None:
    lane = other.claim("checkout", 0, 1)
    store.woken()

    with other.unit() as unit:
        unit.save("checkout", event("w1"))
        unit.advance(replace(lane, batch=1))
    after_own = store.woken()
    with other.transaction() as tx:
        assert isinstance(tx, Unit)
        tx.save("checkout", event("w2"))

    assert not after_own
    until(store.woken, what="the notification")


def test_statements_that_nobody_waits_for_are_handed_over_together(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, waits = psycopg.Connection.wait, list[object]()

    def counted(connection: Any, *arguments: Any, **more: Any) -> Any:
        waits.append(connection._pipeline.command_queue.copy() if connection._pipeline else ())
        return wait(connection, *arguments, **more)

    with store.unit() as unit:
        for number in range(30):
            unit.execute(f"SELECT {number}")
        monkeypatch.setattr(psycopg.Connection, "wait", counted)
        unit.execute("SELECT 30").fetchall()
        monkeypatch.undo()

    assert max(len(kept) for kept in waits if isinstance(kept, deque)) >= 30


def test_a_lost_connection_wakes_and_is_replaced(store: PostgresStore, other: PostgresStore) -> None:
    store.woken()
    quiet = store.woken()

    with other.transaction() as tx:
        tx.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    assert not quiet
    until(store.woken, what="the loss to be noticed")
    assert pending(store) == []


def test_a_server_that_ends_the_connection_in_the_midst_is_a_store_error_whoever_was_asking(
    store: PostgresStore, other: PostgresStore
) -> None:
    def ask_after_the_end() -> None:
        with store.transaction() as tx:
            (own,) = tx.execute("SELECT pg_backend_pid()").fetchone()
            with other.transaction() as killer:
                killer.execute("SELECT pg_terminate_backend(%s, 20000)", (own,))
            tx.execute("SELECT 1")

    with pytest.raises(StoreError, match=r"closed the connection|terminating connection"):
        ask_after_the_end()

    with store.transaction() as tx:
        assert tx.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_of_the_services_own_that_is_wrong_is_told_as_the_driver_tells_it(store: PostgresStore) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable), store.transaction() as tx:
        tx.execute("SELECT * FROM nowhere")


# --- fences


def test_a_fenced_owner_fails_at_commit_with_all_that_it_did(store: PostgresStore, other: PostgresStore) -> None:
    lane = store.claim("checkout", 0, 1)

    def go_on() -> None:
        with store.unit() as unit:
            add_event(unit, "w1")
            unit.execute("UPDATE shelf SET pieces = 0")
            other.claim("checkout", 0, 1)
            unit.advance(replace(lane, batch=1))

    with pytest.raises(LaneFenced):
        go_on()

    assert pending(store) == []
    assert pieces(store) == {"rice": 5, "tea": 5}


def test_a_claim_waits_for_a_commit_that_is_under_way(store: PostgresStore, other: PostgresStore, database: str) -> None:
    lane = replace(store.claim("checkout", 0, 1), batch=7)

    with ThreadPoolExecutor(1) as thread, store.unit() as unit:
        unit.advance(lane)
        unit.execute("SELECT 1").fetchone()
        claimed = thread.submit(other.claim, "checkout", 0, 1)
        until(lambda: waiting_sessions(database) == 1, what="the claim to wait")

    assert claimed.result().batch == 7


# --- conflicts


def test_a_serialization_failure_at_commit_is_a_conflict_and_the_same_work_succeeds(
    store: PostgresStore, database: str
) -> None:
    strict = PostgresStore(f"{database}?options=-c%20default_transaction_isolation%3Dserializable")

    def move(sku: str, of: str, meanwhile: PostgresStore | None = None) -> None:
        with strict.unit(eager=True) as unit:
            (count,) = unit.execute("SELECT pieces FROM shelf WHERE sku = %s", [of]).fetchone()
            unit.execute("UPDATE shelf SET pieces = %s WHERE sku = %s", [count + 1, sku])
            if meanwhile is not None:
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(move, of, sku).result()

    with closing(strict):
        with pytest.raises(StoreConflict) as conflict:
            move("tea", "rice", meanwhile=strict)
        move("tea", "rice")

    assert isinstance(conflict.value.__cause__, psycopg.errors.SerializationFailure)
    assert pieces(store) == {"rice": 6, "tea": 7}


def test_a_row_that_another_transaction_holds_too_long_is_a_conflict(
    store: PostgresStore, hasty: PostgresStore, database: str
) -> None:
    with psycopg.connect(database) as holder:
        holder.execute("SELECT * FROM shelf FOR UPDATE")

        with pytest.raises(StoreConflict, match="lock timeout"), hasty.unit() as unit:
            unit.execute("UPDATE shelf SET pieces = 0")

    assert pieces(store) == {"rice": 5, "tea": 5}


def test_a_deadlock_is_a_conflict_for_one_of_two(store: PostgresStore, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as administrator:
        name = sql.Identifier(administrator.info.dbname)
        administrator.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '20ms'").format(name))

    def cross(first: str, second: str) -> str:
        try:
            with store.unit(eager=True) as unit:
                unit.execute("UPDATE shelf SET pieces = 0 WHERE sku = %s", [first])
                meeting.wait()
                unit.execute("UPDATE shelf SET pieces = 0 WHERE sku = %s", [second])
        except psycopg.errors.DeadlockDetected as error:
            with store.unit() as unit:
                return type(unit.technical(error)).__name__
        return "committed"

    meeting = Barrier(2)
    with ThreadPoolExecutor(2) as threads:
        ends = [threads.submit(cross, "tea", "rice"), threads.submit(cross, "rice", "tea")]
        found = sorted(end.result() for end in ends)

    assert found == ["StoreConflict", "committed"]


# --- stopped owners


def load(unit: PostgresUnit) -> None:
    unit.load("checkout", ["w1"])


def ask(unit: PostgresUnit) -> None:
    unit.execute("UPDATE shelf SET pieces = pieces + %s WHERE sku = 'tea'", [1])
    assert unit.execute("SELECT FROM shelf").rowcount == 2


def take_the_connection(unit: PostgresUnit) -> None:
    unit.load("checkout", ["w1"])
    assert unit.connection.info.transaction_status is TransactionStatus.INTRANS


def change_a_table(unit: PostgresUnit) -> None:
    unit.execute("ALTER TABLE shelf ADD COLUMN price INTEGER").rowcount  # noqa: B018


@pytest.mark.parametrize("last", [load, ask, take_the_connection, change_a_table], ids=lambda last: last.__name__)
@pytest.mark.parametrize("eager", [False, True])
def test_a_transaction_that_does_nothing_is_cut_and_the_store_goes_on(
    hasty: PostgresStore, database: str, last: Callable[[PostgresUnit], None], eager: bool
) -> None:
    def dawdle() -> None:
        with hasty.unit(eager=eager) as unit:
            last(unit)
            until(lambda: open_transactions(database) == 0, what="the server to end the transaction")

    # the server's word may arrive a moment before the COMMIT, or be found in place of its answer
    cut = r"nothing was committed: terminating connection due to idle.in.transaction|lost before COMMIT was answered"
    with pytest.raises(StoreError, match=cut):
        dawdle()

    assert pieces(hasty) == {"rice": 5, "tea": 5}


def test_a_stopped_owner_blocks_nobody_and_commits_nothing(store: PostgresStore, database: str) -> None:
    with store.unit() as unit:
        add_event(unit, "w1")
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process, killing(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        os.kill(process.pid, signal.SIGSTOP)

        successor = store.claim("checkout", 0, 1)
        until(lambda: open_transactions(database) == 0, what="the server to end the transaction")
        with store.unit() as unit:
            add_event(unit, "w1")
            unit.advance(replace(successor, batch=1))
        os.kill(process.pid, signal.SIGCONT)
        output, _ = process.communicate("go on\n", timeout=60)

    assert output == "Overstayed\n"
    assert pending(store) == ["w1/1", "w1/2"]
    assert pieces(store) == {"rice": 5, "tea": 5}


def test_a_claim_ends_the_former_owners_session_that_the_server_believes_to_be_at_work(
    store: PostgresStore, other: PostgresStore, hasty: PostgresStore, database: str
) -> None:
    with store.unit() as unit:
        add_event(unit, "w1")

    def run_away() -> None:
        lane = other.claim("checkout", 0, 1)
        with other.unit() as unit:
            unit.load("checkout", ["w1"])
            unit.execute("SELECT pg_sleep(600)")
            unit.advance(lane)

    overstayed: LiteralString = "wait_event = 'PgSleep' AND xact_start < clock_timestamp() - interval '1 s'"
    with ThreadPoolExecutor(1) as thread:
        former = thread.submit(run_away)
        until(lambda: sessions(database, overstayed) == 1, what="the statement to overstay")
        hasty.claim("checkout", 0, 1)

        with pytest.raises(StoreError, match="terminat"):
            former.result(60)
    with store.unit() as unit:
        add_event(unit, "w1")
    assert pending(store) == ["w1/1", "w1/2"]


def test_what_departed_commits_although_nobody_ever_waits_for_it(store: PostgresStore, database: str) -> None:
    lane = store.claim("checkout", 0, 1)
    with store.unit() as unit:
        for n in range(5000):  # more than any socket takes at once
            unit.execute("INSERT INTO shelf VALUES (%s, %s)", (f"tea {n} {'x' * 500}", n))
        unit.advance(replace(lane, batch=1))
        unit.depart()

    with psycopg.connect(database, autocommit=True) as connection:
        until(lambda: connection.execute("SELECT batch FROM saga_lane").fetchall() == [(1,)], what="the commit")
    assert unit.under_way
    unit.arrive()


def test_two_of_one_thread_that_change_the_same_rows_do_not_wait_for_each_other(store: PostgresStore) -> None:
    for skus in (["rice", "tea"], ["tea", "rice"]):
        for eager in (False, True):
            with store.unit() as first:
                for sku in skus:
                    first.execute("UPDATE shelf SET pieces = pieces + 1 WHERE sku = %s", (sku,))
                first.depart()
            with store.unit(eager=eager) as second:
                second.load("checkout", ["w1", "w2"])
                for sku in reversed(skus):
                    second.execute("UPDATE shelf SET pieces = pieces + 1 WHERE sku = %s", (sku,))
            first.arrive()

    with store.transaction() as tx:
        assert tx.execute("SELECT pieces FROM shelf").fetchall() == [(13,), (13,)]


# --- plans


def test_handlers_plan_as_their_database_is_set_up_and_the_engine_without_reading_whole_tables(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = "SELECT current_setting('enable_seqscan'), current_setting('jit')"
    monkeypatch.setitem(SQL, "settings", settings)
    engine, handlers = [("off", "off")], [("on", "on")]

    with store.unit() as unit:
        assert unit.pipeline.rows("settings") == engine
        assert unit.execute(settings).fetchall() == handlers
        add_event(unit, "w1")
        assert unit.pipeline.rows("settings") == engine
        assert unit.connection.execute(settings).fetchall() == handlers
        assert unit.pipeline.rows("settings") == engine

    with store.unit() as unit:
        assert unit.pipeline.rows("settings") == engine


def test_a_plan_that_was_made_while_a_table_was_empty_takes_its_index(
    store: PostgresStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database, autocommit=True) as administrator:
        administrator.execute("VACUUM ANALYZE saga_workflow, saga_fence, saga_inbox, saga_outbox")
    loads = ("load_workflows", "load_fences", "load_inbox", "load_unpublished")
    for load in loads:
        monkeypatch.setitem(SQL, f"plan of {load}", f"EXPLAIN {SQL[load]}")

    with store.unit() as unit:
        plans = [unit.pipeline.rows(f"plan of {load}", saga="checkout", ids=["w1", "w2"]) for load in loads]

    for plan in plans:
        assert any("Index" in line for (line,) in plan), plan
        assert not any("Seq Scan" in line for (line,) in plan), plan


def test_each_pending_row_is_looked_up_among_those_that_are_known(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SQL, "plan of pending", f"EXPLAIN {SQL['pending']}")

    with store.unit() as unit:
        asked = {"saga": "checkout", "lane": 0, "known": [f"event {n}" for n in range(300)], "limit": 9, "most_bytes": 9_000}
        plan = unit.pipeline.rows("plan of pending", **asked)

    assert any("hashed" in line for (line,) in plan), plan
    assert not any("Join" in line for (line,) in plan), plan


@pytest.mark.parametrize(("look", "more"), [("due", {}), ("expired", {"deadlines": []}), ("expired", {"deadlines": [1, 2]})])
def test_of_thousands_that_are_late_at_once_no_more_are_read_than_can_be_seen_to(
    store: PostgresStore, database: str, monkeypatch: pytest.MonkeyPatch, look: str, more: dict[str, list[int]]
) -> None:
    with psycopg.connect(database, autocommit=True) as administrator:
        administrator.execute(MANY_LATE_WORKFLOWS)
        administrator.execute(MANY_LATE_STEPS)
        administrator.execute("ANALYZE saga_workflow, saga_fence")
    monkeypatch.setitem(SQL, f"plan of {look}", f"EXPLAIN (ANALYZE, FORMAT JSON) {SQL[look]}")
    asked = {"saga": "checkout", "lanes": [0, 1], "versions": [1, 2], "now": NOW.isoformat(), "limit": 10, **more}

    with store.unit() as unit:
        [[[found]]] = unit.pipeline.rows(f"plan of {look}", **asked)

    assert 10 <= max(most_rows(found["Plan"])) < 100


def test_of_thousands_of_workflows_none_is_read_to_list_the_parked_but_those(
    store: PostgresStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database, autocommit=True) as administrator:
        administrator.execute(MANY_LATE_WORKFLOWS)
        administrator.execute(MANY_LATE_STEPS)
        administrator.execute("UPDATE saga_fence SET error = 'boom' WHERE workflow_id IN ('w7', 'w1234')")
        administrator.execute("ANALYZE saga_workflow, saga_fence")
    monkeypatch.setitem(SQL, "plan of search", f"EXPLAIN (ANALYZE, FORMAT JSON) {SQL['search']}")
    asked = {"saga": "checkout", "version": None, "status": None, "with_exceptions": False, "limit": 10}

    with store.unit() as unit:
        [[[found]]] = unit.pipeline.rows("plan of search", more="longest_parked", **asked)

    assert len(store.search(Search(parked=True), 10)) == 2
    assert 2 <= max(most_rows(found["Plan"])) < 20


def test_a_list_of_all_reads_them_in_a_row_and_compiles_nothing(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = "SELECT current_setting('enable_seqscan'), current_setting('jit')"
    monkeypatch.setitem(SQL, "settings", settings)

    with store.unit() as unit:
        unit.search(Search(), 10)

        assert unit.pipeline.rows("settings") == [("on", "off")]


def most_rows(node: dict[str, Any]) -> Iterator[int]:
    """How many rows each part of a plan has passed on or thrown away, one loop after the other."""
    yield (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    for part in node.get("Plans", ()):
        yield from most_rows(part)
