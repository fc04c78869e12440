"""The four-step saga by everybody: ours, by hand, and the peers; rounds interleaved on the same servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import orjson
import psycopg

from benchmarks.__main__ import database
from benchmarks.four_steps import BURST, PARTICIPANTS, measure
from benchmarks.suite import plot, sandbox
from benchmarks.suite.fleet import Fleet
from benchmarks.suite.place import Place
from benchmarks.suite.results import PLOTS, Table, number, stderr
from benchmarks.workload import CREATE_ACCOUNTS, FILL_ACCOUNTS, create, placed

PEERS = Path(__file__).parents[1] / "peers"
ROUNDS, PATIENCE = 3, 180
LONGEST = 300.0  # no further round begins after so many seconds


class Contender(NamedTuple):
    """What is run, with how many workflows (of the whole run), and what its reader must know."""

    run: Callable[[Place, str, int], float]
    workflows: int
    how: str


def peers(place: Place) -> Iterator[Table]:
    """One table: workflows per second of each contender."""
    table = Table(
        "Four-step saga: ours, by hand, peers",
        "place, reserve, charge, ship: each one business statement on PostgreSQL in a transaction with the record of its being "
        f"done. Median of at most {place.rounds(ROUNDS)} rounds, interleaved; time from the first start to the last end.",
        ("contender", "workflows/s", "min", "max", "of the limit", "how"),
        "batches (ours, the limit): the client's Python, then PostgreSQL. All others pay round trips and a flush for every "
        "step of every workflow; DBOS fills its own process's core, Restate's server and worker fill two, the naive loop waits "
        "for offset commits. What bounds FastStream was not looked into.",
        plot="peers.svg",
    )
    rates = _rounds(place, table)
    limit = median(rates["by hand, batched (limit)"]) if rates.get("by hand, batched (limit)") else None
    for name, found in sorted(rates.items(), key=lambda each: -median(each[1])):
        share = f"{median(found) / limit:.3f}" if limit else "none"
        row = (number(median(found)), number(min(found)), number(max(found)), share)
        table.add(name, *row, CONTENDERS[name].how)
    medians = {name: median(found) for name, found in sorted(rates.items(), key=lambda each: -median(each[1]))}
    ours = [name for name in medians if name.startswith("ours")]
    plot.bars(PLOTS / "peers.svg", "Four-step saga on the same machine", "workflows per second", medians, ours=ours, log=True)
    yield table


def _rounds(place: Place, table: Table) -> Mapping[str, list[float]]:
    rates: dict[str, list[float]] = defaultdict(list)
    out: dict[str, Exception] = {}
    began = time.monotonic()
    for turn in range(place.rounds(ROUNDS)):
        if turn and time.monotonic() - began > LONGEST:
            break
        for name, contender in CONTENDERS.items():
            if name in out:
                continue
            count = place.count(contender.workflows)
            try:
                rates[name].append(count / contender.run(place, place.label("peer"), count))
                stderr.print(f"  round {turn + 1}: {name} {rates[name][-1]:,.0f} workflows/s")
            except Exception as error:
                out[name] = error
                stderr.print(f"  {name} failed: {error}")
    for name, reason in out.items():
        if name not in rates:
            table.fail(name, reason)
    return rates


def in_one_process(place: Place, label: str, count: int, *, burst: int = BURST, vectorised: bool = False) -> float:
    """All participants and the starter in a process of their own."""
    call = f"measure({place.kafka!r}, {place.postgres!r}, {label!r}, {count}, burst={burst}, vectorised={vectorised})"
    script = f"from benchmarks.four_steps import {measure.__name__}; print({call}.seconds)"
    return float(_output([sys.executable, "-c", script]))


def in_four_processes(place: Place, label: str, count: int) -> float:
    """A process for each participant, and this one to start."""
    with Fleet(place, "four", label, [(name,) for name in PARTICIPANTS]) as fleet:
        return fleet.took(count)


def by_hand(place: Place, label: str, count: int, *, name: str) -> float:
    """The loops of `benchmarks.by_hand`."""
    command = [sys.executable, "-m", "benchmarks.by_hand", name, place.kafka, place.postgres, label, str(count)]
    return _seconds(_output(command))


def peer(place: Place, label: str, count: int, *, name: str, in_flight: int, more: Callable[[Place, str], list[str]]) -> float:
    """A peer's program in its own environment; its updates are counted afterwards."""
    dsn = database(place.postgres, label.replace("-", "_"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(CREATE_ACCOUNTS)
        connection.execute(FILL_ACCOUNTS)
    url = place.postgres.rsplit("/", 1)[0] + "/" + label.replace("-", "_")
    program = [os.fspath(sandbox.python(name)), os.fspath(PEERS / f"{name}_saga.py")]
    output = _output([*program, url, str(count), str(in_flight), *more(place, label)], orjson.dumps(placed(0)))
    with psycopg.connect(dsn) as connection:
        [(done,)] = connection.execute("SELECT sum(events) FROM accounts").fetchall()
    expected = orjson.loads(output.splitlines()[-1])["updates"]
    assert done == expected, f"{done} updates were made and not {expected}"
    return _seconds(output)


def _seconds(output: bytes) -> float:
    found: Any = orjson.loads(output.splitlines()[-1])["seconds"]
    return float(found)


def _output(command: list[str], given: bytes = b"") -> bytes:
    """What a program prints; one that takes too long is ended with all that it started."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process: subprocess.Popen[bytes] = subprocess.Popen(command, cwd=sandbox.ROOT, start_new_session=True, **pipes)
    try:
        output, complaint = process.communicate(given, timeout=PATIENCE)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        raise RuntimeError(complaint.decode(errors="replace").strip()[-600:] or f"ended with {process.returncode}")
    return output


def _faststream(place: Place, label: str) -> list[str]:
    create(place.kafka, [f"{label}.{hop}" for hop in ("placed", "reserved", "charged", "shipped")])
    return [place.kafka, label]


CONTENDERS: Mapping[str, Contender] = {
    "ours, one process": Contender(in_one_process, 5000, "100 first steps a transaction"),
    "ours, vectorised": Contender(partial(in_one_process, vectorised=True), 5000, "handlers take lists"),
    "ours, single starts": Contender(partial(in_one_process, burst=1), 3000, "a transaction for each first step"),
    "ours, four processes": Contender(in_four_processes, 5000, "a process for each participant"),
    "by hand, batched (limit)": Contender(partial(by_hand, name="limit"), 12_000, "one thread, 500 a transaction"),
    "by hand, naive": Contender(partial(by_hand, name="naive"), 150, "one transaction an event, four threads"),
    "FastStream + outbox": Contender(
        partial(peer, name="faststream", in_flight=200, more=_faststream),
        600,
        "batches of 500, 16 relay workers, 200 in flight",
    ),
    "DBOS": Contender(
        partial(peer, name="dbos", in_flight=32, more=lambda *_: []), 400, "datasource transactions, 32 in flight"
    ),
    "Restate": Contender(
        partial(peer, name="restate", in_flight=64, more=lambda *_: [os.fspath(sandbox.restate_server())]),
        800,
        "one worker, 64 in flight",
    ),
}
