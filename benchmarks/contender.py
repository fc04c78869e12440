"""One run of one contender in a process of its own: `python -m benchmarks.contender NAME SERVERS DSN SAGA COUNT`.

Prints one line of JSON: the seconds from the first record to the last mark, and those that this process had a processor.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing

import orjson
import psycopg

from benchmarks import same_rows
from benchmarks.loops import CONTENDERS, TABLES, Loop
from benchmarks.workload import BATCH, CREATE_ACCOUNTS, FILL_ACCOUNTS, PARTITIONS, create, key, ledger, saga
from saga.cli.running.run import tame_collector
from saga.contracts.topics import fact_topics, lane_of, saga_topics
from saga.engine.loop import Loop as Engine
from saga.store.lane import Lane
from saga.store.postgres import PostgresStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Record


def engine(servers: str, dsn: str, name: str, count: int, poisoned: Collection[int] = ()) -> float:
    """The library's own loop, turned by this thread just as a worker's thread turns it.

    The handler raises for the orders with `poisoned` numbers, whenever they are tried.
    """
    waiting = Counter(lane_of(key(number), PARTITIONS) for number in range(count))
    with closing(PostgresStore(dsn, migrate=True)) as store:
        loop = Engine(
            ledger(saga(name), poisoned),
            store,
            KafkaBroker(KafkaSettings(servers)),
            PARTITIONS,
            batch=BATCH,
            stopping=threading.Event(),
            chance=random.random,
        )
        began = _first_record(loop)
        loop.join()
        while _is_behind(loop, waiting) or not loop.relay.idle or loop.relay.waiting:
            loop.turn()
        loop.relay.flush(10)  # and the last marks, which would wait a moment for acknowledgments
        seconds = time.perf_counter() - began[0]
        loop.leave()
    return seconds


def _is_behind(loop: Engine, waiting: Mapping[int, int]) -> bool:
    """Whether something is still to be taken in of what lay in each lane before anything was answered there."""
    topic, owned = loop.lanes.topics[0], loop.lanes.owned
    return any(n not in owned or owned[n].lane.offsets.get(topic, 0) < count for n, count in waiting.items())


def _first_record(loop: Engine) -> list[float]:
    """Will hold the moment at which the first records have been polled, where the clock of the loops by hand starts too."""
    moments: list[float] = []
    process = loop.processor.process

    def timed(lane: Lane, records: Sequence[Record], until: float) -> bool:
        moments.append(time.perf_counter())
        return process(lane, records, until)

    loop.processor.process = timed  # type: ignore[method-assign]
    return moments


def by_hand(name: str, servers: str, dsn: str, saga_name: str, count: int) -> float:
    """A loop of `benchmarks.loops`."""
    source, target = saga_topics(saga_name)[0], f"{saga_name}.answers"
    create(servers, [target])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
    with closing(Loop(servers, dsn, saga(saga_name), source, target)) as loop:
        return CONTENDERS[name](loop, count)


def with_same_rows(servers: str, dsn: str, saga_name: str, count: int) -> float:
    """The loop of `benchmarks.same_rows`."""
    PostgresStore(dsn, migrate=True).close()
    with closing(same_rows.Loop(servers, dsn, saga(saga_name), fact_topics(saga_name))) as loop:
        return same_rows.batched(loop, count)


def one_in_each_lane(first: int) -> set[int]:
    """The numbers, from the `first` on, of one order in each lane."""
    found: dict[int, int] = {}
    for number in range(first, first + 100 * PARTITIONS):
        found.setdefault(lane_of(key(number), PARTITIONS), number)
    return {*found.values()}


def main(name: str, servers: str, dsn: str, saga_name: str, count: str) -> None:
    tame_collector()  # as `saga run` does; the loops by hand get the same
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(CREATE_ACCOUNTS)
        connection.execute(FILL_ACCOUNTS)
    logging.disable(logging.WARNING)  # of those that fail
    poisoned = one_in_each_lane(int(count) // 4) if name == "poisoned" else set[int]()
    loaded = time.process_time()
    if name in ("engine", "acknowledged", "poisoned"):
        seconds, outbox = engine(servers, dsn, saga_name, int(count), poisoned), "saga_outbox"
    elif name == "same_rows":
        seconds, outbox = with_same_rows(servers, dsn, saga_name, int(count)), "saga_outbox"
    else:
        seconds, outbox = by_hand(name, servers, dsn, saga_name, int(count)), "outbox"
    cpu = time.process_time() - loaded
    with psycopg.connect(dsn) as connection:
        [(done,)] = connection.execute("SELECT sum(events) FROM accounts").fetchall()
        counts = f"SELECT count(*), count(*) FILTER (WHERE published IS NULL) FROM {outbox}"
        [(kept, unpublished)] = connection.execute(counts).fetchall()
    good = int(count) - len(poisoned)
    assert (done, unpublished) == (good, 0), (done, unpublished)
    assert kept == good or (name == "acknowledged" and kept < good), f"{kept} rows are left of {good}"
    sys.stdout.write(orjson.dumps({"seconds": seconds, "cpu_seconds": cpu}).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
