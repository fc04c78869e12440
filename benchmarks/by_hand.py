"""The four steps by hand, a batched loop or a naive one for each: `python -m benchmarks.by_hand NAME SERVERS DSN SAGA COUNT`.

The first step of a hundred workflows is one transaction (limit), or that of one is (naive). Prints one line of JSON.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from itertools import pairwise

import orjson
import psycopg
from confluent_kafka import Producer

from benchmarks.four_steps import BURST, WARMING, prepared
from benchmarks.loops import TABLES, Loop, naive, turn
from benchmarks.workload import BUSINESS, PARTITIONS, Headers, create, messages, saga
from saga.cli.running.run import tame_collector
from saga.contracts.topics import lane_of

HOPS = ("placed", "reserved", "charged", "shipped")
FIRST = """INSERT INTO outbox (id, key, type, headers, payload, published)
SELECT *, now() FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[])"""

Order = tuple[str, bytes, Headers]


class Fleet:
    """The first step, and a loop for each of the three after it, every one with a database of its own."""

    def __init__(self, stack: ExitStack, servers: str, dsn: str, name: str) -> None:
        bench, self.topics = saga(name), [f"{name}.{hop}" for hop in HOPS]
        create(servers, self.topics)
        dsns = [prepared(dsn, f"{name}_{hop}") for hop in HOPS]
        for each in dsns:
            with psycopg.connect(each, autocommit=True) as connection:
                connection.execute(TABLES)
        self.shop = stack.enter_context(psycopg.connect(dsns[0], autocommit=True))
        self.producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True, "linger.ms": 5})
        hops = zip(dsns[1:], pairwise(self.topics), strict=True)
        self.loops = [stack.enter_context(closing(Loop(servers, each, bench, *hop))) for each, hop in hops]
        self.orders = messages(bench, 10**9)

    def start(self, count: int) -> None:
        """The first step of so many workflows in one transaction, published after it."""
        orders = [next(self.orders) for _ in range(count)]
        with self.shop.transaction(), self.shop.pipeline():
            self.shop.cursor().executemany(BUSINESS, [(number,) for number in range(count)])
            columns = zip(*((headers[1][1], key, "bench.Placed", "[]", value) for key, value, headers in orders), strict=True)
            self.shop.execute(FIRST, [list(column) for column in columns])
        for key, value, headers in orders:
            partition = lane_of(key, PARTITIONS)
            self.producer.produce(self.topics[0], value, key.encode(), partition=partition, headers=headers)  # type: ignore[arg-type]
        self.producer.poll(0)


def batched(fleet: Fleet, count: int) -> None:
    """All in one thread, the four steps in turn."""
    left, marked = count, 0
    while marked < count:
        if left:
            fleet.start(min(BURST, left))
            left -= min(BURST, left)
        marks = [turn(loop)[1] for loop in fleet.loops]
        marked += marks[-1]
    fleet.producer.flush()


def one_by_one(fleet: Fleet, count: int) -> None:
    """A thread for each step, one event and one commit of its offset after the other."""
    threads = [threading.Thread(target=naive, args=(loop, count)) for loop in fleet.loops]
    for thread in threads:
        thread.start()
    for _ in range(count):
        fleet.start(1)
        fleet.producer.flush()
    for thread in threads:
        thread.join()


CONTENDERS: dict[str, Callable[[Fleet, int], None]] = {"limit": batched, "naive": one_by_one}


def main(name: str, servers: str, dsn: str, saga_name: str, count: str) -> None:
    """Warm up, run, print the line."""
    tame_collector()
    with ExitStack() as stack:
        fleet = Fleet(stack, servers, dsn, saga_name)
        CONTENDERS[name](fleet, WARMING // 4)
        began, cpu = time.perf_counter(), time.process_time()
        CONTENDERS[name](fleet, int(count))
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
        done = [loop.connection.execute("SELECT sum(events) FROM accounts").fetchall() for loop in fleet.loops]
        assert done == [[(int(count) + WARMING // 4,)]] * 3, done
    sys.stdout.write(orjson.dumps({"seconds": seconds, "cpu_seconds": used}).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
