"""`make bench [ONLY=peers,latency] [SMALL=1]`: everything that is measured, part by part, written to benchmarks/RESULTS.md.

A contender or a part that fails says so in its place, and the others go on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from benchmarks.suite import sandbox
from benchmarks.suite.costs import costs
from benchmarks.suite.footprint import footprint
from benchmarks.suite.latency import latency
from benchmarks.suite.peers import peers
from benchmarks.suite.place import Place
from benchmarks.suite.processes import processes
from benchmarks.suite.results import RESULTS, Results, Table, stderr
from benchmarks.suite.sizes import sizes
from servers.ladder import KAFKA, POSTGRES

PARTS: Mapping[str, Callable[[Place], Iterator[Table]]] = {
    "peers": peers,
    "processes": processes,
    "latency": latency,
    "costs": costs,
    "sizes": sizes,
    "footprint": footprint,
}


def main(wanted: str = "", small: str = "") -> None:
    """Run the wanted parts, all when none is named."""
    chosen = [part for part in wanted.split(",") if part] or [*PARTS]
    if unknown := sorted({*chosen} - {*PARTS}):
        sys.exit(f"unknown parts: {', '.join(unknown)}; expected some of {', '.join(PARTS)}")
    versions = dict(each.split("==") for group in sandbox.PYTHON.values() for each in group if "psycopg" not in each)
    results = Results({**versions, "restate-server": sandbox.NODE["@restatedev/restate-server"]}, bool(small))
    began = time.monotonic()
    with ExitStack() as stack:
        kafka = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        postgres = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        place = Place(kafka, postgres, bool(small))
        for part in chosen:
            stderr.print(f"[bold]{part}[/] after {time.monotonic() - began:,.0f} s", markup=True)
            measured(part, place, results)
    stderr.print(f"{RESULTS.name} is written; {time.monotonic() - began:,.0f} s in all")


def measured(part: str, place: Place, results: Results) -> None:
    """One part; each table is written as soon as it is there."""
    began, tables = time.monotonic(), results.parts.setdefault(part, [])
    try:
        for table in PARTS[part](place):
            tables.append(table.text(f"make bench ONLY={part}"))
            results.write([*PARTS])
    except Exception as error:
        stderr.print(f"  {part} failed: {error!r}")
        tables.append(f"## {part}\n\nGave no figure: {type(error).__name__}: {str(error)[-300:]}\n")
        results.write([*PARTS])
    stderr.print(f"  {part}: {time.monotonic() - began:,.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
