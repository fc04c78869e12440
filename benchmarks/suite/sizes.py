"""What an event costs against what is in the database already, the number of partitions, and that of steps."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import orjson
import psycopg

from benchmarks.__main__ import database
from benchmarks.four_steps import ENDED, wait
from benchmarks.suite import chain
from benchmarks.suite.fleet import ROOT, Fleet
from benchmarks.suite.place import Place
from benchmarks.suite.processes import on_postgres
from benchmarks.suite.results import Table, number, stderr
from benchmarks.workload import PARTITIONS, key, load, placed, saga
from saga.store.postgres import PostgresStore

EVENTS, WORKFLOWS, WARMING, BURST = 20_000, 4000, 100, 100
CLOSED = (0, 10_000, 1_000_000, 10_000_000)
FILL = """INSERT INTO saga_workflow (workflow_id, saga, version, lane, status, sequence, opened, closed, steps)
SELECT '01980000-0000-7000-8000-' || lpad(number::text, 12, '0'), %s, 1, number %% 4, 'completed', 1, now(), now(),
       '{"place":["done",false],"accept":["done",false],"finish":["done",false]}'::json
FROM generate_series(1, %s) AS number"""


def sizes(place: Place) -> Iterator[Table]:
    """Three tables."""
    yield _states(place)
    yield _partitions(place)
    yield _steps(place)


def _states(place: Place) -> Table:
    table = Table(
        "Against the number of closed workflows in the database",
        f"One participant, {number(place.count(EVENTS))} events of new workflows, in a database with so many closed ones.",
        ("closed workflows", "events/s", "CPU us/event", "size of saga_workflow, MiB"),
        "the participant's own Python. Ids are in order of time (UUIDv7), so that new workflows find the end of the "
        "index in PostgreSQL's buffers however long it is.",
    )
    for closed in CLOSED:
        try:
            table.add(number(closed), *_with_closed(place, place.count(closed) if closed else 0))
        except Exception as error:
            table.fail(number(closed), error)
    return table


def _with_closed(place: Place, closed: int) -> tuple[str, ...]:
    label, count = place.label("size"), place.count(EVENTS)
    dsn = database(place.postgres, label.replace("-", "_"))
    with closing(PostgresStore(dsn, migrate=True)):
        pass
    with psycopg.connect(dsn, autocommit=True) as connection:
        began = time.monotonic()
        connection.execute(FILL, (label, closed))
        connection.execute("VACUUM ANALYZE saga_workflow")
        [(size,)] = connection.execute("SELECT pg_total_relation_size('saga_workflow') / 1048576").fetchall()
        stderr.print(f"  {closed:,} closed workflows written in {time.monotonic() - began:,.0f} s")
    load(place.kafka, saga(label), count)
    command = [sys.executable, "-m", "benchmarks.contender", "engine", place.kafka, dsn, label, str(count)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=180)
    if answer.returncode:
        raise RuntimeError(answer.stderr.decode(errors="replace")[-300:])
    took = orjson.loads(answer.stdout)
    with psycopg.connect(place.postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {label.replace('-', '_')} WITH (FORCE)")
    return number(count / took["seconds"]), number(took["cpu_seconds"] / count * 1e6), number(size)


def _partitions(place: Place) -> Table:
    table = Table(
        "Against the number of partitions",
        f"One participant in one process, {number(place.count(EVENTS))} events over all partitions.",
        ("partitions", "events/s", "CPU us/event"),
        "the participant's own Python; a lane's batch is a transaction of its own, so more lanes have smaller batches.",
    )
    for partitions in (1, PARTITIONS, 16):
        try:
            count = place.count(EVENTS)
            with Fleet(place, "ledger", place.label("lanes"), [("ledger",)], partitions) as fleet:
                before = fleet.ask("cpu")
                seconds = on_postgres(fleet, count)
                table.add(str(partitions), number(count / seconds), number((fleet.ask("cpu") - before) / count * 1e6))
        except Exception as error:
            table.fail(str(partitions), error)
    return table


def _steps(place: Place) -> Table:
    table = Table(
        "Against the number of steps",
        f"{number(place.count(WORKFLOWS))} workflows of so many steps in a row, of two participants in one process who "
        "take turns; time until both have closed all.",
        ("steps", "workflows/s", "steps/s", "CPU us/step"),
        "the process's own Python (two participants, two threads, one interpreter lock).",
    )
    for steps in (2, 4, 8):
        try:
            seconds, cpu = _chained(place, steps, count := place.count(WORKFLOWS))
            done = steps * count
            table.add(str(steps), number(count / seconds), number(done / seconds), number(cpu / done * 1e6))
        except Exception as error:
            table.fail(str(steps), error)
    return table


def _chained(place: Place, steps: int, count: int) -> tuple[float, float]:
    label = place.label("chain")
    even, first = chain.participants(label, steps)["even"], chain.first(steps)
    with ExitStack() as stack:
        fleet = stack.enter_context(Fleet(place, f"chain-{steps}", label, [chain.OWNERS]))
        watching = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for dsn in fleet.stores.values()]
        store = stack.enter_context(closing(PostgresStore(fleet.stores["even"])))

        def start(begin: int, end: int) -> None:
            for burst in range(begin, end, BURST):
                with store.transaction() as tx:
                    for one in range(burst, min(burst + BURST, end)):
                        even.start(first(**placed(one)), tx, workflow_id=key(one))
            wait(lambda: all(each.execute(ENDED).fetchall() == [(end,)] for each in watching))

        start(0, WARMING)
        began, before = time.perf_counter(), fleet.ask("cpu")
        start(WARMING, WARMING + count)
        return time.perf_counter() - began, fleet.ask("cpu") - before
