"""`python -m benchmarks.rebuild [ORDERS]`: one history, handled live by one process, then rebuilt, on the same servers.

Each order makes three events (placed, accepted, finished), so that its workflow ends. What is rebuilt is what was handled live
and a longer history of the same kind behind it, a million events with the start of the processes. Takes three minutes and ends
with one line of JSON.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
from confluent_kafka import Producer
from rich.console import Console

from benchmarks.__main__ import database
from benchmarks.evolved import LABEL, bench, participant
from benchmarks.workload import (
    BATCH,
    CREATE_ACCOUNTS,
    FILL_ACCOUNTS,
    PARTITIONS,
    Headers,
    create,
    messages,
    placed,
    saga,
)  # fmt: skip
from saga.cli.running.run import tame_collector
from saga.contracts.avro import AvroCodec
from saga.contracts.message import Kind, Message, event_id, to_headers
from saga.contracts.topics import lane_of, saga_topics
from saga.engine.loop import Loop
from saga.protocol.facts import FactStatus
from saga.store.postgres import PostgresStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from servers.ladder import KAFKA, POSTGRES

ORDERS, HISTORY = 40_000, int(os.environ.get("BENCH_LONG", "300000"))
WAVE = 4_000
"""So many workflows are open at once, as on a busy day."""
ROOT = Path(__file__).parents[1]

WATCHED = """
import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what the command leaves behind is waited for here
done = subprocess.run(sys.argv[1:])
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime, flush=True)
sys.exit(done.returncode)
"""
"""Runs a command and tells the memory of the largest of its processes, and the CPU seconds of all of them."""

stderr = Console(stderr=True)


def main(orders: int = ORDERS) -> None:
    """Start the servers, measure both, print the line."""
    with ExitStack() as stack:
        servers = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        dsn = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        create(servers, saga_topics(LABEL))
        live, used = live_seconds(servers, accounts(dsn, "bench_live"), orders)
        stderr.print(f"live: {orders / live:,.0f} orders/s, {3 * orders / live:,.0f} events/s", highlight=False)
        publish(servers, finished_orders(orders, HISTORY))
        full = rebuilt(servers, accounts(dsn, "bench_again"), "--processes", "2")
        engine = rebuilt(servers, database(dsn, "bench_engine"), "--processes", "2", "--engine-tables-only")
        alone = rebuilt(servers, database(dsn, "bench_alone"), "--processes", "1", "--engine-tables-only")
        os.environ["BENCH_VECTORISED"] = "1"
        vectorised = rebuilt(servers, accounts(dsn, "bench_vectorised"), "--processes", "2")
    rate = 3 * orders / live
    line: dict[str, Any] = {"orders": orders, "live_events_per_s": round(rate), "live_cpu_us": round(used * 1e6 / (3 * orders))}
    kinds = {"": full, "_vectorised": vectorised, "_engine_tables": engine, "_engine_tables_one_process": alone}
    for kind, one in kinds.items():
        line[f"rebuild{kind}"] = {name: one[name] for name in ("records", "per_second", "cpu_us", "peak_mb")}
        line[f"ratio{kind}"] = round(one["per_second"] / rate, 1)
    sys.stdout.write(orjson.dumps(line).decode() + "\n")


def accounts(dsn: str, name: str) -> str:
    """A database with the service's own table."""
    url = database(dsn, name)
    with psycopg.connect(url) as connection:
        connection.execute(CREATE_ACCOUNTS)
        connection.execute(FILL_ACCOUNTS)
    return url


def live_seconds(servers: str, dsn: str, orders: int) -> tuple[float, float]:
    """How long the engine's loop handles orders and their ends, wave by wave, and what CPU time; without publishing them."""
    tame_collector()
    with closing(PostgresStore(dsn, migrate=True)) as store, joined(store, servers) as loop:
        parts = []
        for first in range(0, orders, WAVE):
            count = min(WAVE, orders - first)
            publish(servers, messages(bench, count, first))
            parts.append(turned(loop, 2 * first + count))
            publish(servers, ended(range(first, first + count)))
            parts.append(turned(loop, 2 * (first + count)))
    return sum(seconds for seconds, _ in parts), sum(used for _, used in parts)


@contextmanager
def joined(store: PostgresStore, servers: str) -> Iterator[Loop]:
    """The engine's loop, owning all lanes."""
    loop = Loop(
        participant, store, KafkaBroker(KafkaSettings(servers)), PARTITIONS,
        batch=BATCH, stopping=threading.Event(), chance=random.random,
    )  # fmt: skip
    loop.join()
    yield loop
    loop.leave()


def turned(loop: Loop, handled: int) -> tuple[float, float]:
    """Turn the loop until so much is handled and published; seconds, and CPU seconds of this process."""
    counts, began, used = loop.processor.intake.counts, time.perf_counter(), time.process_time()
    while counts.handled < handled or not loop.relay.idle or loop.relay.waiting:
        loop.turn()
    return time.perf_counter() - began, time.process_time() - used


def rebuilt(servers: str, dsn: str, *options: str) -> dict[str, Any]:
    """What the command says of a rebuild, and how much memory its largest process had."""
    command = [os.fspath(Path(sys.executable).with_name("saga")), "rebuild", "benchmarks.evolved:participant"]
    command = [sys.executable, "-c", WATCHED, *command, "--to", url(dsn), "--json", *options]
    environment = {**os.environ, "SAGA_BROKER": servers, "BENCH_REBUILD": LABEL}
    answer = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=900)
    *said, used = answer.stdout.splitlines()
    peak, cpu = used.split()
    found: dict[str, Any] = orjson.loads(b"\n".join(said))
    found |= {"peak_mb": round(int(peak) / 1024), "cpu_us": round(float(cpu) * 1e6 / found["records"])}
    rate = f"{found['records']:,} events, {found['per_second']:,}/s, {found['cpu_us']} us each, {found['peak_mb']} MB"
    stderr.print(f"{' '.join(options)}: {rate}", highlight=False)
    return found


def url(dsn: str) -> str:
    """As `--to` takes it."""
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    place = "&".join(f"{name}={value}" for name, value in given.items() if name != "dbname")
    return f"postgresql:///{given['dbname']}?{place}"


def publish(servers: str, events: Iterator[tuple[str, bytes, Headers]], label: str = LABEL) -> None:
    producer = Producer(
        {"bootstrap.servers": servers, "acks": "all", "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
    )
    produce(producer, events, label)
    assert producer.flush(120) == 0


def produce(producer: Producer, events: Iterator[tuple[str, bytes, Headers]], label: str = LABEL) -> None:
    """Hand events over, each to the lane of its workflow."""
    topic = saga_topics(label)[0]
    for key, value, headers in events:
        producer.produce(topic, value, key.encode(), partition=lane_of(key, PARTITIONS), headers=headers)  # type: ignore[arg-type]
        producer.poll(0)


def ended(numbers: range, label: str = LABEL) -> Iterator[tuple[str, bytes, Headers]]:
    """The last event of each of these orders."""
    codec, kind = AvroCodec(bench), Kind("bench.Finished", "shop", label, 1, "finish", FactStatus.DONE)
    for number in numbers:
        key = f"01990000-0000-7000-8000-{number:012}"
        message = Message(kind, event_id(label, key, "finish", "done"), key, datetime.now(UTC), 2)
        yield key, codec.encode("bench.Finished", {"order": f"order-{number:010}"}), to_headers(message)


def finished_orders(first: int, count: int, label: str = LABEL) -> Iterator[tuple[str, bytes, Headers]]:
    """Whole histories of further orders, a thousand at a time as a busy day would have them."""
    made = bench if label == LABEL else saga(label)
    codec, kind = AvroCodec(made), Kind("bench.Accepted", "ledger", label, 1, "accept", FactStatus.DONE)
    for begin in range(first, first + count, 1000):
        some = range(begin, begin + 1000)
        yield from messages(made, len(some), begin)
        for number in some:
            key = f"01990000-0000-7000-8000-{number:012}"
            cause = event_id(label, key, "place", "done")
            message = Message(kind, event_id(label, key, "accept", "done"), key, datetime.now(UTC), 1, cause)
            yield key, codec.encode("bench.Accepted", placed(number)), to_headers(message)
        yield from ended(some, label)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
