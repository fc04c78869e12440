"""Memory, start-up, and where the time of an event goes."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.__main__ import database
from benchmarks.four_steps import wait
from benchmarks.suite.fleet import ROOT, Fleet, Service
from benchmarks.suite.place import Place
from benchmarks.suite.processes import on_postgres
from benchmarks.suite.results import Table, number
from benchmarks.workload import PARTITIONS, load, saga

EVENTS, PROFILED, STARTS, TOP = 40_000, 60_000, 5, 14


def footprint(place: Place) -> Iterator[Table]:
    """Two tables."""
    yield _small(place)
    yield _profile(place)


def _small(place: Place) -> Table:
    table = Table(
        "Memory and start-up",
        f"Medians of {STARTS} starts; memory is the peak of the process of one participant.",
        ("what", "figure"),
        "start-up by Python's imports, the look at the database's migrations, and the join of the consumer group.",
    )
    bare = _seconds("pass")
    table.add("an empty Python", f"{bare * 1000:,.0f} ms")
    table.add("`import saga`, beyond that", f"{(_seconds('import saga') - bare) * 1000:,.0f} ms")
    label, count = place.label("print"), place.count(EVENTS)
    with Fleet(place, "ledger", label, [("ledger",)]) as fleet:
        table.add("memory when it owns its lanes", f"{fleet.ask('memory'):,.0f} MiB")
        on_postgres(fleet, count)
        table.add(f"memory after {number(count)} events", f"{fleet.ask('memory'):,.0f} MiB")
        stores = fleet.stores
    began = time.perf_counter()
    service = Service.start({"kind": "ledger", "saga": label, "kafka": place.kafka, "stores": stores})
    try:
        wait(lambda: service.ask("lanes") == PARTITIONS)
        table.add("a worker's process, from its start until it owns its lanes", f"{time.perf_counter() - began:,.1f} s")
    finally:
        service.end()
    return table


def _seconds(script: str) -> float:
    def once() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
        return time.perf_counter() - began

    return median(once() for _ in range(STARTS))


def _profile(place: Place) -> Table:
    count = place.count(PROFILED)
    table = Table(
        "Where the time of an event goes",
        f"py-spy, 200 samples a second while the engine handles {number(count)} events; each sample counts for the "
        "innermost Python function, so C code (psycopg, librdkafka, fastavro, pydantic) counts for whoever calls it.",
        ("module", "share"),
        "waiting for PostgreSQL counts for psycopg; the rest is the participant's own Python, the bound of most tables.",
    )
    label = place.label("profile")
    dsn = database(place.postgres, label.replace("-", "_"))
    load(place.kafka, saga(label), count)
    with tempfile.TemporaryDirectory() as home:
        stacks = Path(home) / "stacks"
        spy = [
            str(Path(sys.executable).with_name("py-spy")),
            "record",
            "--format",
            "raw",
            "--rate",
            "200",
            "--output",
            str(stacks),
        ]
        contender = [sys.executable, "-m", "benchmarks.contender", "engine", place.kafka, dsn, label, str(count)]
        done = subprocess.run([*spy, "--", *contender], cwd=ROOT, capture_output=True, timeout=300)
        if not stacks.exists():
            table.fail("py-spy", RuntimeError(done.stderr.decode(errors="replace").strip()[-200:] or "wrote nothing"))
            return table
        shares = _shares(stacks.read_text())
    whole = sum(shares.values())
    for module, samples in shares.most_common(TOP):
        table.add(module, f"{samples / whole:.1%}")
    return table


def _shares(stacks: str) -> Counter[str]:
    """Samples by module of the innermost function, of those in which the loop turns."""
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, samples = line.rpartition(" ")
        if "turn (" not in stack:
            continue
        [file] = re.findall(r"\(([^():]+)(?::\d+)?\)$", stack.split(";")[-1]) or ["Python"]
        parts = file.split("/")
        name = parts[parts.index("site-packages") + 1] if "site-packages" in parts else file
        found[name.removesuffix(".py")] += int(samples)
    return found
