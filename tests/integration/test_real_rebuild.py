"""A rebuild of several processes on real servers, killed: all of it ends, and the next one goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest

from demo.fleet import foreign_environment
from saga.contracts.topics import saga_topics
from saga.replay.comparison import compare
from saga.store.postgres import PostgresStore
from saga.store.postgres_swap import swap
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from servers import fresh_database
from tests.brokers import copy
from tests.histories import records
from tests.travel import CREATE_EFFECTS, Script, TripBooked, harness
from tests.waiting import until

pytestmark = pytest.mark.slow

NAME, TRIPS = "killed", 120
MODULE = """
import os, pathlib, signal, time
from saga.participant.participant import Participant
from saga.replay.rebuild import Rebuild
from saga.replay.shadow import Shadow
from saga import Transaction
from tests.travel import HotelBooked, HotelFreed, HotelFull, note, saga

Rebuild.__init__.__kwdefaults__["batch"] = 4
hotels = Participant("hotels", saga(name="killed"))

if pathlib.Path("cut").exists():
    Shadow.drop = lambda _: os.kill(os.getpid(), signal.SIGKILL)

@hotels.evolve(HotelBooked, HotelFull, HotelFreed)
def again(told: HotelBooked | HotelFull | HotelFreed, tx: Transaction) -> None:
    note(tx, "hotel", "compensation" if isinstance(told, HotelFreed) else "action")
    while pathlib.Path("held").exists():
        time.sleep(0.05)
    if pathlib.Path("deadly").exists():  # in its turn, for which the other process waits
        os.kill(os.getpid(), signal.SIGKILL)
"""
EVERYTHING = {
    "saga_workflow": "SELECT workflow_id, lane, status, sequence, opened, closed FROM saga_workflow ORDER BY 1",
    "saga_fence": "SELECT * FROM saga_fence ORDER BY 1, 2, 3",
    "saga_inbox": "SELECT * FROM saga_inbox ORDER BY 1, 2, 3",
    "saga_lane": "SELECT lane, offsets FROM saga_lane ORDER BY 1",
    "effects": "SELECT * FROM effects ORDER BY 1, 2, 3, 4",
}


@pytest.fixture(scope="module")
def published(kafka: str) -> str:
    broker = KafkaBroker(KafkaSettings(kafka))
    broker.create(saga_topics(NAME), 2, {})
    script = Script(
        failing={("pay", f"trip-{n}") for n in range(0, TRIPS, 3)}, waiting={f"trip-{n}" for n in range(0, TRIPS, 7)}
    )
    with harness(script, name=NAME) as running:
        for n in range(TRIPS):
            running.start(TripBooked(trip=f"trip-{n}"), workflow_id=f"trip-{n}")
        running.settle()
        copy(records(running.broker), broker)
    return kafka


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "killed.py").write_text(MODULE)
    (tmp_path / "tables.sql").write_text(f"{CREATE_EFFECTS};")
    return tmp_path


def begun(folder: Path, kafka: str, database: str, *more: str) -> subprocess.Popen[str]:
    """A rebuild by two processes, in a group of processes of its own."""
    program = [sys.executable, "-c", "from saga.cli import main; main()", "rebuild", "killed:hotels", "--to", database]
    environment = {**foreign_environment(), "SAGA_BROKER": kafka, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    return subprocess.Popen(
        [*program, "--sql", "tables.sql", "--processes", "2", "--at-most", "none", *more],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code, and what it said of its trouble; whatever is left of it is killed."""
    try:
        _, told = running.communicate(timeout=120)
        return running.returncode, told
    finally:
        if not is_gone(running.pid):
            os.killpg(running.pid, signal.SIGKILL)


def has_come_to(database: str, enough: int) -> bool:
    """Whether there were so many transactions of records."""
    with psycopg.connect(database) as connection:
        if connection.execute("SELECT to_regclass('saga_lane')").fetchone() == (None,):
            return False
        [row] = connection.execute("SELECT coalesce(sum(batch), 0)::int FROM saga_lane")
        return bool(row[0] >= enough)


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def everything(database: str) -> dict[str, list[tuple[object, ...]]]:
    with psycopg.connect(database) as connection:
        return {table: connection.execute(asked).fetchall() for table, asked in EVERYTHING.items()}


def test_what_is_killed_again_and_again_leaves_nobody_behind_and_comes_to_the_same(
    published: str, postgres: str, database: str, folder: Path
) -> None:
    with fresh_database(postgres) as other:
        assert ended(begun(folder, published, other))[0] == 0
        whole = everything(other)
    assert len(whole["effects"]) > len(whole["saga_workflow"]) == TRIPS
    assert whole["saga_fence"]
    assert whole["saga_inbox"]

    for enough in (1, 20):
        running = begun(folder, published, database)
        until(partial(has_come_to, database, enough), seconds=60, what="transactions")
        (folder / "held").touch()
        running.kill()
        running.wait()
        try:
            until(partial(is_gone, running.pid), what="all of its processes to end")
        finally:
            ended(running)
        (folder / "held").unlink()

    assert ended(begun(folder, published, database))[0] == 0
    assert everything(database) == whole


def test_one_that_is_killed_in_its_turn_keeps_nobody_waiting_for_ever(published: str, database: str, folder: Path) -> None:
    (folder / "deadly").touch()

    code, told = ended(begun(folder, published, database))

    assert code == 1
    assert "of the rebuild died; run the same command to go on" in told
    (folder / "deadly").unlink()
    assert ended(begun(folder, published, database))[0] == 0


def test_one_that_is_killed_when_it_is_in_place_is_ended_by_the_same_command(
    published: str, postgres: str, folder: Path
) -> None:
    with fresh_database(postgres) as live, psycopg.connect(postgres, autocommit=True) as connection:
        name = live.rpartition("/")[2]
        rebuilt, command = f"{live}_again", ("--swap", "--database", live)
        connection.execute(f'CREATE DATABASE "{name}_again"')
        try:
            (folder / "cut").touch()
            killed, _ = ended(begun(folder, published, rebuilt, *command))
            (folder / "cut").unlink()
            code, told = ended(begun(folder, published, rebuilt, *command))
            there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
            whole = everything(live)
            with psycopg.connect(live) as asked:
                marked = asked.execute("SELECT to_regclass('saga_rebuild')").fetchone()
        finally:
            for (each,) in connection.execute("SELECT datname FROM pg_database").fetchall():
                if each.startswith(f"{name}_"):
                    connection.execute(f'DROP DATABASE "{each}"')

    assert (killed, code, marked) == (-signal.SIGKILL, 0, (None,)), told
    assert len(whole["saga_workflow"]) == TRIPS
    assert f"{name}_again" not in there
    assert any(each.startswith(f"{name}_before_") for each in there)


def test_tables_with_columns_of_any_type_are_compared_whatever_the_order_of_their_columns(postgres: str) -> None:
    column = {"id": "int", "said": "json", "at": "point", "page": "xml", "paid": "numeric"}
    values = {"id": "1", "said": """'{"a": 1}'""", "at": "'(1, 2)'", "page": "'<p/>'", "paid": "2.50"}
    with (
        fresh_database(postgres) as live,
        fresh_database(postgres) as other,
        closing(PostgresStore(live, migrate=True)) as ours,
        closing(PostgresStore(other, migrate=True)) as theirs,
    ):
        for store, names in (ours, [*column]), (theirs, sorted(column)):
            with store.transaction() as tx:
                tx.execute(f"CREATE TABLE odd ({', '.join(f'{name} {column[name]}' for name in names)})")
                tx.execute(f"INSERT INTO odd ({', '.join(values)}) VALUES ({', '.join(values.values())})")
        same = compare(NAME, ours, theirs)
        with theirs.transaction() as tx:
            tx.execute("UPDATE odd SET paid = 2.51")
        unlike = compare(NAME, ours, theirs)

    assert (same.compared["odd"], same.differing) == (1, {})
    assert unlike.differing == {"odd": 2}


def test_of_a_database_with_a_long_name_it_is_told_by_which_name_it_is_kept(postgres: str) -> None:
    server, name = postgres.rpartition("/")[0], "a_name_that_leaves_no_place_for_what_is_put_behind_it_ö"
    with psycopg.connect(postgres, autocommit=True) as connection:
        for each in (name, "rebuilt"):
            connection.execute(f'CREATE DATABASE "{each}"')
        try:
            kept = swap(f"{server}/{name}", f"{server}/rebuilt", "before_20261129184625")
            there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        finally:
            for (each,) in connection.execute("SELECT datname FROM pg_database").fetchall():
                if each == "rebuilt" or each.startswith(name[:20]):
                    connection.execute(f'DROP DATABASE "{each}"')

    assert kept is not None
    assert kept.endswith("_before_20261129184625")
    assert {kept, name} <= there
