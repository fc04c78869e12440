"""`python -m benchmarks.beside [AT_MOST]`: what a rebuild costs the participant that lives on beside it, interleaved.

The live engine makes a history. In every other round `saga rebuild` reads it into a database of its own, on the same servers
and cores, while it handles new orders; with AT_MOST it reads no more records a second than that. Ends with
one line of JSON.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

import orjson

from benchmarks.rebuild import LABEL, ROOT, accounts, ended, participant, publish, stderr, turned, url
from benchmarks.rebuild import bench as saga
from benchmarks.workload import BATCH, PARTITIONS, create, messages
from saga.cli.running.run import tame_collector
from saga.contracts.topics import saga_topics
from saga.engine.loop import Loop
from saga.store.postgres import PostgresStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from servers.ladder import KAFKA, POSTGRES

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
HISTORY, ORDERS = int(os.environ.get("BENCH_LONG", "60000")), 8_000


def main(at_most: int = 0) -> None:
    """Start the servers, run the rounds, print the line."""
    tame_collector()
    with ExitStack() as stack:
        servers = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        dsn = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        create(servers, saga_topics(LABEL))
        store = stack.enter_context(closing(PostgresStore(accounts(dsn, "bench_beside"), migrate=True)))
        loop = joined(store, servers)
        seconds(loop, servers, range(HISTORY))
        rates: dict[bool, list[float]] = {False: [], True: []}
        for number in range(2 * ROUNDS):
            is_beside, first = number % 2 == 1, HISTORY + number * ORDERS
            with rebuilding(servers, accounts(dsn, f"bench_beside_{number}"), at_most) if is_beside else ExitStack():
                rates[is_beside].append(3 * ORDERS / seconds(loop, servers, range(first, first + ORDERS)))
            stderr.print(
                f"{'beside a rebuild' if is_beside else 'alone'}: {rates[is_beside][-1]:,.0f} events/s", highlight=False
            )
        loop.leave()
    alone, beside = median(rates[False]), median(rates[True])
    line = {"at_most": at_most, "alone_events_per_s": round(alone), "beside_events_per_s": round(beside)}
    sys.stdout.write(orjson.dumps({**line, "slower_percent": round(100 - 100 * beside / alone, 1)}).decode() + "\n")


def joined(store: PostgresStore, servers: str) -> Loop:
    loop = Loop(
        participant, store, KafkaBroker(KafkaSettings(servers)), PARTITIONS,
        batch=BATCH, stopping=threading.Event(), chance=random.random,
    )  # fmt: skip
    loop.join()
    return loop


def seconds(loop: Loop, servers: str, orders: range) -> float:
    """How long these orders, and then their ends, take the engine."""
    handled = loop.processor.intake.counts.handled
    publish(servers, messages(saga, len(orders), orders.start))
    begun, _ = turned(loop, handled + len(orders))
    publish(servers, ended(orders))
    finished, _ = turned(loop, handled + 2 * len(orders))
    return begun + finished


@contextmanager
def rebuilding(servers: str, dsn: str, at_most: int) -> Iterator[None]:
    """A rebuild under way: its first records are read, and it has not come to the end."""
    command = [os.fspath(Path(sys.executable).with_name("saga")), "rebuild", "benchmarks.rebuild:participant", "--to", url(dsn)]
    command += ["--follow", "--processes", "2", *(["--at-most", str(at_most)] if at_most else [])]
    environment = {**os.environ, "SAGA_BROKER": servers, "BENCH_REBUILD": LABEL}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"records" in line:
                break
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            reader.join()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
