"""Events per second of one participant in one, two and four processes, on PostgreSQL and on SQLite."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg

from benchmarks.four_steps import wait
from benchmarks.suite import plot
from benchmarks.suite.fleet import Fleet
from benchmarks.suite.place import Place
from benchmarks.suite.results import PLOTS, Table, number
from benchmarks.workload import CREATE_ACCOUNTS, PARTITIONS, saga, send

EVENTS = 40_000
# Rows of the outbox go when everybody has acknowledged them, so handled events are counted, and what is yet to be published.
PUBLISHED = "SELECT (SELECT sum(events) FROM accounts) - (SELECT count(*) FROM saga_outbox WHERE published IS NULL)"


def processes(place: Place) -> Iterator[Table]:
    """One table: a row for each number of processes."""
    table = Table(
        "One participant in several processes",
        "place -> accept: consumed, one business statement, answered, published and marked; a saga of four partitions. "
        "Time from the first event sent to the last answer marked.",
        ("store", "processes", "events/s", "of one process"),
        "one process by its own Python; more of them by the cores, which Kafka, PostgreSQL and the sender share. "
        "SQLite allows one worker process for a database file, and a second is refused.",
        plot="processes.svg",
    )
    rates: dict[str, float] = {}
    for many in (1, 2, 4):
        try:
            rates[f"PostgreSQL, {many}"] = rate = _on_postgres(place, many)
            table.add("PostgreSQL", str(many), number(rate), f"{rate / next(iter(rates.values())):.2f}")
        except Exception as error:
            table.fail(f"PostgreSQL, {many} processes", error)
    try:
        rates["SQLite, 1"] = rate = _on_sqlite(place)
        table.add("SQLite", "1", number(rate), "1.00")
    except Exception as error:
        table.fail("SQLite", error)
    plot.bars(PLOTS / "processes.svg", "One participant in several processes", "events per second", rates, ours=[*rates])
    yield table


def handled(fleet: Fleet, published: Callable[[], int], count: int, *, traced: bool = False) -> float:
    """Seconds from the first of so many orders sent to the last answer marked."""
    began = time.perf_counter()
    send(fleet.place.kafka, saga(fleet.label), count, partitions=fleet.partitions, traced=traced)
    wait(lambda: published() >= count)
    return time.perf_counter() - began


def on_postgres(fleet: Fleet, count: int, *, traced: bool = False) -> float:
    """`handled`, asked of the ledger's database."""
    with psycopg.connect(fleet.stores["ledger"], autocommit=True) as watching:
        return handled(fleet, lambda: int(watching.execute(PUBLISHED).fetchall()[0][0]), count, traced=traced)


def _on_postgres(place: Place, many: int) -> float:
    count = place.count(EVENTS)
    with Fleet(place, "ledger", place.label("processes"), [("ledger",)] * many) as fleet:
        return count / on_postgres(fleet, count)


def _on_sqlite(place: Place) -> float:
    count, label = place.count(EVENTS), place.label("processes")
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "ledger.db"
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(CREATE_ACCOUNTS)
            connection.executemany("INSERT INTO accounts (id) VALUES (?)", [(account,) for account in range(10_000)])
        with (
            Fleet(place, "ledger-sqlite", label, [("ledger",)], PARTITIONS, {"ledger": str(file)}) as fleet,
            closing(sqlite3.connect(file, timeout=30)) as watching,
        ):
            return count / handled(fleet, lambda: int(watching.execute(PUBLISHED).fetchall()[0][0]), count)
