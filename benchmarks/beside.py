"""`python -m benchmarks.beside`: what a rebuild costs the participant that lives beside it, on the same cores.

`saga rebuild` reads a long history of the participant's own saga into a database of its own on the same servers, and is stopped
and let go on in turns. Meanwhile the participant works as fast as it can (saturation), and then under a constant load of orders
far below that, of which it is told how late each was handled. A second rebuild is asked for with `--at-most none`. Takes four
minutes and ends with one line of JSON.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

import orjson
from confluent_kafka import Producer

from benchmarks.evolved import LABEL
from benchmarks.evolved import bench as saga
from benchmarks.rebuild import ROOT, accounts, ended, finished_orders, joined, produce, publish, stderr, turned, url
from benchmarks.workload import PARTITIONS, create, messages
from saga.cli.running.run import tame_collector
from saga.contracts.topics import fact_topics, saga_topics
from saga.engine.loop import Loop
from saga.store.postgres import PostgresStore
from saga.transport.kafka import KafkaBroker
from saga.transport.kafka_settings import KafkaSettings
from saga.transport.port import Partition
from servers.ladder import KAFKA, POSTGRES

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
HISTORY, LEAD, ORDERS = int(os.environ.get("BENCH_LONG", "400000")), 4_000, 12_000
"""Orders of long ago, and of each round: those in which the rebuild learns what goes on, and those that are measured."""
OFFERED, SECONDS = 600, 6
"""Orders a second, which is well below what one process can do, and for how long in each round."""
NEW = 100_000_000
"""Old orders have higher numbers."""


class Rebuilding:
    """A rebuild under way, stopped until it is let go on; `per_second` are its rates while it was."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.read, self.left = process, 0, 0
        self.per_second: list[float] = []
        self.said: deque[str] = deque(maxlen=20)
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.decode())
            if found := re.match(rb"(\d+) of (\d+) records", line):
                self.read = int(found[1])
                self.left = int(found[2]) - self.read

    def begin(self) -> None:
        """Wait until it reads, then stop it."""
        limit = time.monotonic() + 120
        while not self.read:
            assert self.process.poll() is None, "".join(self.said)
            assert time.monotonic() < limit, "the rebuild does not begin"
            time.sleep(0.1)
        self._signal(signal.SIGSTOP)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._signal(signal.SIGCONT)
        before, began = self.read, time.monotonic()
        try:
            yield
        finally:
            self.per_second.append((self.read - before) / (time.monotonic() - began))
            self._signal(signal.SIGSTOP)

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        ended = "".join(["the rebuild came to its end; is the history too short (BENCH_LONG)?\n", *self.said])
        assert self.process.poll() is None, ended
        os.killpg(self.process.pid, number)


def main() -> None:
    """Start the servers, run the rounds, print the line."""
    tame_collector()
    with ExitStack() as stack:
        servers = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        dsn = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        create(servers, saga_topics(LABEL))
        publish(servers, finished_orders(NEW, HISTORY))
        store = stack.enter_context(closing(PostgresStore(accounts(dsn, "bench_beside"), migrate=True)))
        pass_over(store, servers)
        with joined(store, servers) as loop:
            polite = stack.enter_context(rebuilding(servers, accounts(dsn, "bench_beside_polite")))
            greedy = stack.enter_context(rebuilding(servers, accounts(dsn, "bench_beside_greedy"), "--at-most", "none"))
            others: dict[str, Rebuilding | None] = {"alone": None, "beside": polite, "beside_at_most_none": greedy}
            fast, late = saturated(loop, servers, others), loaded(loop, servers, others)
    line: dict[str, Any] = {"offered_orders_per_s": OFFERED}
    for name, one in others.items():
        line[name] = {**fast[name], **late[name], "rebuild_events_per_s": round(mean(one.per_second)) if one else 0}
    sys.stdout.write(orjson.dumps(line).decode() + "\n")


def pass_over(store: PostgresStore, servers: str) -> None:
    """Have the participant begin where the history ends, as if it had handled that long ago."""
    broker = KafkaBroker(KafkaSettings(servers))
    for number in range(PARTITIONS):
        lane = store.claim(LABEL, number, PARTITIONS)
        spans = broker.spans([Partition(topic, number) for topic in fact_topics(LABEL)])
        lane.offsets, lane.batch = {partition.topic: span.stop for partition, span in spans.items()}, lane.batch + 1
        with store.unit() as unit:
            unit.advance(lane)
        store.release(lane)


def saturated(loop: Loop, servers: str, others: Mapping[str, Rebuilding | None]) -> dict[str, dict[str, float]]:
    """Events a second as fast as they go, in rounds alone and beside each rebuild."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in others}
    numbers = count(0, LEAD + ORDERS)
    for _ in range(ROUNDS):
        for name, one in others.items():
            first = next(numbers)
            with one.going_on() if one else ExitStack():
                work(loop, servers, first, LEAD)
                found[name].append(work(loop, servers, first + LEAD, ORDERS))
            seconds, used = (taken / (3 * ORDERS) for taken in found[name][-1])
            stderr.print(f"saturated, {name}: {1 / seconds:,.0f} events/s, {used * 1e6:.0f} us each", highlight=False)
    rates = {name: median(3 * ORDERS / seconds for seconds, _ in taken) for name, taken in found.items()}
    return {
        name: {
            "events_per_s": round(rate),
            "slower_percent": round(100 - 100 * rate / rates["alone"], 1),
            "cpu_us": round(median(used for _, used in found[name]) * 1e6 / (3 * ORDERS)),
        }
        for name, rate in rates.items()
    }


def work(loop: Loop, servers: str, first: int, orders: int) -> tuple[float, float]:
    """How long orders, and then their ends, take the engine, and what CPU time."""
    handled = loop.processor.intake.counts.handled
    publish(servers, messages(saga, orders, first))
    begun = turned(loop, handled + orders)
    publish(servers, ended(range(first, first + orders)))
    finished = turned(loop, handled + 2 * orders)
    return begun[0] + finished[0], begun[1] + finished[1]


def loaded(loop: Loop, servers: str, others: Mapping[str, Rebuilding | None]) -> dict[str, dict[str, float]]:
    """How late orders are handled that come at a constant rate, in milliseconds, in rounds alone and beside each rebuild."""
    found: dict[str, list[float]] = {name: [] for name in others}
    numbers = count(10_000_000, OFFERED * SECONDS)
    for _ in range(ROUNDS):
        for name, one in others.items():
            with one.going_on() if one else ExitStack():
                late = offered(loop, servers, next(numbers))
            found[name] += late
            stderr.print(f"{OFFERED} orders/s, {name}: {median(late):.1f} ms late, p99 {_p99(late):.1f}", highlight=False)
    return {name: {"p50_ms": round(median(late), 1), "p99_ms": round(_p99(late), 1)} for name, late in found.items()}


def offered(loop: Loop, servers: str, first: int) -> list[float]:
    """Offer orders at a constant rate, whatever becomes of them; how many milliseconds after it was due each was handled."""
    orders, before = OFFERED * SECONDS, loop.processor.intake.counts.handled
    began = time.monotonic() + 0.2
    late: list[float] = []

    def offer() -> None:
        producer = Producer({"bootstrap.servers": servers, "acks": "all"})
        for number in range(0, orders, OFFERED // 100):
            time.sleep(max(0.0, began + number / OFFERED - time.monotonic()))
            produce(producer, messages(saga, OFFERED // 100, first + number))
        producer.flush(60)

    thread = threading.Thread(target=offer)
    thread.start()
    while len(late) < orders:
        loop.turn()
        now, done = time.monotonic(), loop.processor.intake.counts.handled - before
        # those of one hundredth of a second are due together
        late += [1000 * (now - began - n // (OFFERED // 100) / 100) for n in range(len(late), min(done, orders))]
    thread.join()
    turned(loop, before + orders)
    return late


@contextmanager
def rebuilding(servers: str, dsn: str, *options: str) -> Iterator[Rebuilding]:
    """A rebuild of the long history that has begun and stands still."""
    command = [os.fspath(Path(sys.executable).with_name("saga")), "rebuild", "benchmarks.evolved:participant", "--to", url(dsn)]
    command += ["--processes", "2", *options]
    environment = {**os.environ, "SAGA_BROKER": servers}
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes) as process:
        past = Rebuilding(process)
        past.begin()
        try:
            yield past
        finally:
            past.end()


def _p99(found: list[float]) -> float:
    return quantiles(found, n=100)[98]


if __name__ == "__main__":
    main()
