"""`make bench-gate`: fails when the engine has fallen behind the limit by more than `floor.json` allows.

Ratios of interleaved rounds only, and of processor time: absolute figures are of the machine, and where others work beside them
the clock favours whoever waits less. Never part of the tests, for the same reason.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import orjson

from benchmarks.__main__ import run, stderr
from servers.ladder import KAFKA, POSTGRES

FLOOR = Path(__file__).with_name("floor.json")
ROUNDS, EVENTS = 3, 10_000


def main() -> None:
    """Run both in turns, and compare the median of the rounds' ratios."""
    by_clock, by_cpu = [], []
    with ExitStack() as stack:
        servers = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        dsn = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        for number in range(ROUNDS):
            engine, limit = (run(name, servers, dsn, number, EVENTS) for name in ("engine", "limit"))
            by_clock.append(limit.seconds / engine.seconds)
            by_cpu.append(limit.cpu_seconds / engine.cpu_seconds)
            stderr.print(f"round {number + 1}: {by_cpu[-1]:.2f} by CPU, {by_clock[-1]:.2f} by the clock", highlight=False)
    floor, found = orjson.loads(FLOOR.read_bytes())["ratio_of_cpu"], median(by_cpu)
    line = {"ratio_of_cpu": round(found, 2), "ratio_to_limit": round(median(by_clock), 2), "floor_of_cpu": floor}
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    if found < floor:
        sys.exit(
            f"by CPU the engine does {found:.2f} of what the loop by hand does, expected at least {floor}: what slowed it down?"
        )


if __name__ == "__main__":
    main()
