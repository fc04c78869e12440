"""`python -m benchmarks.four_steps [WORKFLOWS]`: whole sagas, all four participants in one process, on Kafka and PostgreSQL.

place (shop) -> reserve (stock) -> charge (bank, pivot) -> ship (carrier), each with a database of its own and one statement of
its own. Prints one line of JSON; time runs from the first start until every participant has closed every workflow.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import orjson
import psycopg

from benchmarks.__main__ import database, stderr
from benchmarks.workload import BUSINESS, CREATE_ACCOUNTS, FILL_ACCOUNTS, PARTITIONS, Order, create, key, placed, record
from saga import Participant, Saga, Transaction, Worker
from saga.cli.running.run import tame_collector
from saga.contracts.topics import saga_topics
from saga.store.postgres import PostgresStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from servers.ladder import KAFKA, POSTGRES

WORKFLOWS, WARMING = 10_000, 200
BURST = 100  # workflows that are started in one transaction
PATIENCE = 240.0
PARTICIPANTS = ("shop", "stock", "bank", "carrier")
BUSINESS_OF_MANY = """UPDATE accounts SET events = events + many.times
FROM (SELECT id, count(*) AS times FROM unnest(%s::integer[]) AS id GROUP BY id) AS many WHERE accounts.id = many.id"""
ENDED = "SELECT count(*) FROM saga_workflow WHERE status = 'completed' AND closed IS NOT NULL"


class Placed(Order):
    """Begins the saga."""


class Reserved(Order):
    """The stock has it."""


class Charged(Order):
    """The bank has let it go."""


class Shipped(Order):
    """Ends the saga."""


class Took(NamedTuple):
    """What the workflows took: by the clock, and of processors (this process alone, servers apart)."""

    seconds: float
    cpu_seconds: float


def saga(name: str) -> Saga:
    """Four steps in a row, each of another participant."""

    def step(name: str, event: str, **step: Any) -> dict[str, Any]:
        return {"name": name, "type": ["null", event], "default": None, "step": {**step, "emits": [event]}}

    return Saga.of(
        *(record(event) for event in (Placed, Reserved, Charged, Shipped)),
        {
            "type": "record",
            "name": "FourSteps",
            "namespace": "bench",
            "saga": {"name": name, "version": 1, "owner": "shop"},
            "fields": [
                step("place", "Placed", by="shop", compensated=None),
                step("reserve", "Reserved", by="stock", on=["Placed"], compensated=None),
                step("charge", "Charged", by="bank", on=["Reserved"], pivot=True),
                step("ship", "Shipped", by="carrier", on=["Charged"]),
            ],
        },
    )


def participants(bench: Saga, *, vectorised: bool = False) -> dict[str, Participant]:
    """All four, by name; each handler changes one row of its service's own, or one of each of its workflows at once."""
    found = {name: Participant(name, bench) for name in PARTICIPANTS}
    if vectorised:
        _declare_vectorised(found)
    else:
        _declare(found)
    return found


def _declare(found: Mapping[str, Participant]) -> None:

    @found["stock"].step
    def reserve(order: Placed, tx: Transaction) -> Reserved:
        tx.execute(BUSINESS, (order.account,))
        return Reserved(**order.__dict__)

    @found["bank"].step
    def charge(order: Reserved, tx: Transaction) -> Charged:
        tx.execute(BUSINESS, (order.account,))
        return Charged(**order.__dict__)

    @found["carrier"].step
    def ship(order: Charged, tx: Transaction) -> Shipped:
        tx.execute(BUSINESS, (order.account,))
        return Shipped(**order.__dict__)


def _declare_vectorised(found: Mapping[str, Participant]) -> None:
    @found["stock"].step(batch=True)
    def reserve(orders: list[Placed], tx: Transaction) -> list[Reserved]:
        tx.execute(BUSINESS_OF_MANY, ([order.account for order in orders],))
        return [Reserved(**order.__dict__) for order in orders]

    @found["bank"].step(batch=True)
    def charge(orders: list[Reserved], tx: Transaction) -> list[Charged]:
        tx.execute(BUSINESS_OF_MANY, ([order.account for order in orders],))
        return [Charged(**order.__dict__) for order in orders]

    @found["carrier"].step(batch=True)
    def ship(orders: list[Charged], tx: Transaction) -> list[Shipped]:
        tx.execute(BUSINESS_OF_MANY, ([order.account for order in orders],))
        return [Shipped(**order.__dict__) for order in orders]


def measure(servers: str, dsn: str, name: str, workflows: int, *, burst: int = BURST, vectorised: bool = False) -> Took:
    """What so many sagas of this name took, on topics and databases of their own; a few before them warm everything up.

    The first step of `burst` workflows is one transaction.
    """
    bench = saga(name)
    create(servers, saga_topics(name))
    everybody = participants(bench, vectorised=vectorised)
    with ExitStack() as stack:
        dsns = {each: prepared(dsn, f"{name}_{each}") for each in everybody}
        stores = {each: stack.enter_context(closing(PostgresStore(dsns[each], migrate=True))) for each in everybody}
        broker = KafkaBroker(KafkaSettings(servers))
        workers = [Worker(everybody[each], store=stores[each], broker=broker) for each in everybody]
        for worker in workers:
            stack.enter_context(worker.running())
        watching = [stack.enter_context(psycopg.connect(each, autocommit=True)) for each in dsns.values()]
        wait(lambda: all(len(worker.standing().lanes) == PARTITIONS for worker in workers))
        start(everybody["shop"], stores["shop"], 0, WARMING)
        wait(lambda: all_ended(watching, WARMING))
        tame_collector()  # as `saga run` does
        began, cpu = time.perf_counter(), time.process_time()
        start(everybody["shop"], stores["shop"], WARMING, workflows, burst)
        wait(lambda: all_ended(watching, WARMING + workflows))
        return Took(time.perf_counter() - began, time.process_time() - cpu)


def prepared(dsn: str, name: str) -> str:
    """A new database with the service's own table."""
    own = database(dsn, name.replace("-", "_"))
    with psycopg.connect(own, autocommit=True) as connection:
        connection.execute(CREATE_ACCOUNTS)
        connection.execute(FILL_ACCOUNTS)
    return own


def start(shop: Participant, store: PostgresStore, first: int, count: int, burst: int = BURST) -> None:
    """The first step of so many workflows from number `first` on, `burst` of them in one transaction."""
    for begin in range(first, first + count, burst):
        with store.transaction() as tx:
            orders = {key(number): Placed(**placed(number)) for number in range(begin, min(begin + burst, first + count))}
            tx.execute(BUSINESS_OF_MANY, ([order.account for order in orders.values()],))
            shop.start_many(orders, tx)


def all_ended(watching: list[psycopg.Connection], count: int) -> bool:
    """Whether every participant has closed so many workflows."""
    return all(each.execute(ENDED).fetchall() == [(count,)] for each in watching)


def wait(done: Callable[[], bool]) -> None:
    """Return when it is done; looks ten times a second."""
    limit = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < limit, "the workflows do not end"
        time.sleep(0.1)


def main(workflows: str = str(WORKFLOWS)) -> None:
    """Start the servers, run, print the line."""
    count = int(workflows)
    with ExitStack() as stack:
        servers = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        dsn = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        took = measure(servers, dsn, "four-steps", count)
    line = {
        "workflows": count,
        "workflows_per_s": round(count / took.seconds),
        "cpu_ms_per_workflow": round(1000 * took.cpu_seconds / count, 2),
    }
    sys.stdout.write(orjson.dumps(line).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
