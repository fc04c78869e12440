"""`python -m benchmarks.poisoned`: what one workflow in each lane, whose handler never succeeds, costs all the others.

The engine of `make bench-quick`, rounds with and without them interleaved on the same servers. Ends with one line of JSON.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from contextlib import ExitStack
from statistics import median

import orjson

from benchmarks.__main__ import run, show, stderr
from servers.ladder import KAFKA, POSTGRES

ROUNDS, EVENTS = 5, 60_000
CONTENDERS = ("engine", "poisoned")


def main() -> None:
    """Start the servers, run the rounds, print the table and the line."""
    rates: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        servers = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        dsn = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        for number in range(ROUNDS):
            for name in CONTENDERS:
                took = run(name, servers, dsn, number, EVENTS)
                rates[name].append(EVENTS / took.seconds)
                cpu[name].append(took.cpu_seconds)
                stderr.print(f"round {number + 1}: {name} {rates[name][-1]:,.0f} events/s", highlight=False)
    show(rates)
    (clean, poisoned), (clean_cpu, poisoned_cpu) = ([median(found[name]) for name in CONTENDERS] for found in (rates, cpu))
    line = {
        "events_per_s": round(clean),
        "poisoned_events_per_s": round(poisoned),
        "ratio": round(poisoned / clean, 2),
        "ratio_of_cpu": round(clean_cpu / poisoned_cpu, 2),
    }
    sys.stdout.write(orjson.dumps(line).decode() + "\n")


if __name__ == "__main__":
    main()
