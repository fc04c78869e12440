"""Events per second of one participant in one, two and four processes, on PostgreSQL and on SQLite."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, TopicPartition

from benchmarks.four_steps import wait
from benchmarks.suite import plot
from benchmarks.suite.fleet import Fleet
from benchmarks.suite.place import Place
from benchmarks.suite.results import PLOTS, Table, number
from benchmarks.workload import CREATE_ACCOUNTS, PARTITIONS, saga, send
from saga.contracts.topics import events_topic

EVENTS, WAITING_EVENTS = 40_000, 4_000
# Rows of the outbox go when everybody has acknowledged them, so handled events are counted, and what is yet to be published.
PUBLISHED = "SELECT (SELECT sum(events) FROM accounts) - (SELECT count(*) FROM saga_outbox WHERE published IS NULL)"


def processes(place: Place) -> Iterator[Table]:
    """One table: a row for each number of processes."""
    table = Table(
        "One participant in several processes",
        "place -> accept: consumed, one business statement, answered, published and marked; a saga of four partitions. "
        "Time from the first event sent to the last answer on its topic. *Handler waits*: as if for somebody's "
        "answer.",
        ("store, handler", "processes", "events/s", "of one process"),
        "one process by its own Python; more of them by the cores, which Kafka, PostgreSQL and the sender share, but where the "
        "handler waits for somebody else: there neither cores nor servers are the bound. "
        "SQLite allows one worker process for a database file, and a second is refused.",
        plot="processes.svg",
    )
    rates = {
        **_on_postgres(place, table, "PostgreSQL", "ledger", EVENTS),
        **_on_postgres(place, table, "handler waits 2 ms", "ledger-waiting", WAITING_EVENTS),
    }
    try:
        rates["SQLite x 1"] = rate = _on_sqlite(place)
        table.add("SQLite", "1", number(rate), "1.00")
    except Exception as error:
        table.fail("SQLite", error)
    title = "One participant in so many processes"
    plot.bars(PLOTS / "processes.svg", title, "events per second", rates, ours=[*rates])
    yield table


def handled(fleet: Fleet, marked: Callable[[], int], count: int, *, traced: bool = False, each: int = 2) -> float:
    """Seconds from the first of so many orders sent until `each` event of all workflows is on its topic.

    It returns once the answers are marked, for which deliveries wait a moment.
    """
    began = time.perf_counter()
    send(fleet.place.kafka, saga(fleet.label), count, partitions=fleet.partitions, traced=traced)
    with closing(Consumer({"bootstrap.servers": fleet.place.kafka, "group.id": fleet.label})) as watching:
        wait(lambda: records_on(watching, events_topic(fleet.label), fleet.partitions) >= each * count)
    seconds = time.perf_counter() - began
    wait(lambda: marked() >= count)
    return seconds


def records_on(watching: Consumer, topic: str, partitions: int) -> int:
    """How many records were ever written there."""
    ends = (watching.get_watermark_offsets(TopicPartition(topic, number), timeout=10) for number in range(partitions))
    return sum(end for _, end in ends)


def on_postgres(fleet: Fleet, count: int, *, traced: bool = False, each: int = 2) -> float:
    """`handled`, asked of the ledger's database."""
    with psycopg.connect(fleet.stores["ledger"], autocommit=True) as watching:
        return handled(fleet, lambda: int(watching.execute(PUBLISHED).fetchall()[0][0]), count, traced=traced, each=each)


def _on_postgres(place: Place, table: Table, title: str, kind: str, events: int) -> dict[str, float]:
    """Events per second by one, two and four processes, each a row of the table too."""
    count, rates = place.count(events), dict[str, float]()
    for many in (1, 2, 4):
        try:
            with Fleet(place, kind, place.label("processes"), [("ledger",)] * many) as fleet:
                rates[f"{title} x {many}"] = rate = count / on_postgres(fleet, count)
            table.add(title, str(many), number(rate), f"{rate / next(iter(rates.values())):.2f}")
        except Exception as error:
            table.fail(f"{title}, {many} processes", error)
    return rates


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
