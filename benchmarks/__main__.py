"""`make bench-quick`: one participant against the same work by hand, interleaved on the same servers, in under three minutes.

Ends with one line of JSON; the figures are medians of the rounds.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import NamedTuple

import orjson
import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.latency import latencies
from benchmarks.workload import load, saga
from servers.ladder import KAFKA, POSTGRES

ROUNDS = 5
EVENTS = {"engine": 20_000, "acknowledged": 20_000, "same_rows": 20_000, "limit": 20_000, "naive": 300, "naive_async": 300}
STEPS, STEPS_PER_SECOND = 300, 50
ROOT = Path(__file__).parents[1]

stderr = Console(stderr=True)


def main() -> None:
    """Start the servers, run the rounds, print the table and the line."""
    with ExitStack() as stack:
        servers = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        dsn = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        rates: dict[str, list[float]] = defaultdict(list)
        for number in range(ROUNDS):
            for name in EVENTS:
                rates[name].append(EVENTS[name] / run(name, servers, dsn, number, EVENTS[name]).seconds)
                stderr.print(f"round {number + 1}: {name} {rates[name][-1]:,.0f} events/s", highlight=False)
        steps = latencies(servers, database(dsn, "bench_latency"), "bench-latency", STEPS, STEPS_PER_SECOND)
    show(rates)
    middle = {name: median(found) for name, found in rates.items()}
    line = {
        "events_per_s": round(middle["engine"]),
        "acknowledged_events_per_s": round(middle["acknowledged"]),
        "same_rows_events_per_s": round(middle["same_rows"]),
        "limit_events_per_s": round(middle["limit"]),
        "naive_events_per_s": round(middle["naive"]),
        "naive_async_events_per_s": round(middle["naive_async"]),
        "ratio_to_limit": round(middle["engine"] / middle["limit"], 2),
        "ratio_to_same_rows": round(middle["engine"] / middle["same_rows"], 2),
        "ratio_to_naive": round(middle["engine"] / middle["naive"], 1),
        "step_p50_ms": round(steps[len(steps) // 2], 1),
        "step_p99_ms": round(steps[len(steps) * 99 // 100], 1),
    }
    sys.stdout.write(orjson.dumps(line).decode() + "\n")


class Run(NamedTuple):
    """What one contender took: by the clock, and of processors (its own process alone, servers apart)."""

    seconds: float
    cpu_seconds: float


def run(name: str, servers: str, dsn: str, number: int, count: int) -> Run:
    """One contender on so many events, on topics and a database of its own."""
    label = f"bench-{name.replace('_', '-')}-{number}"
    load(servers, saga(label), count)
    own = database(dsn, label.replace("-", "_"))
    command = [sys.executable, "-m", "benchmarks.contender", name, servers, own, label, str(count)]
    with shop(servers, label) if name == "acknowledged" else nullcontext():
        answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=120)
    return Run(**orjson.loads(answer.stdout))


@contextmanager
def shop(servers: str, name: str) -> Iterator[None]:
    """Somebody who acknowledges the answers meanwhile."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.shop", servers, name], cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def database(dsn: str, name: str) -> str:
    """A new database on the same server."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return psycopg.conninfo.make_conninfo(dsn, dbname=name)


def show(rates: dict[str, list[float]]) -> None:
    table = Table(title="events handled per second by one process", title_justify="left")
    for column in ("contender", "min", "median", "max"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for name, found in rates.items():
        table.add_row(name, *(f"{value:,.0f}" for value in (min(found), median(found), max(found))))
    stderr.print(table)


if __name__ == "__main__":
    main()
