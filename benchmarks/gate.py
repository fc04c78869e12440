"""`make bench-gate`: fails when the engine has fallen behind the limit by more than `floor.json` allows.

Ratios of interleaved rounds only: absolute figures are of the machine. Never part of the tests, for the same reason.
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
    ratios = []
    with ExitStack() as stack:
        servers = stack.enter_context(KAFKA.serving(os.environ, stderr.print))
        dsn = stack.enter_context(POSTGRES.serving(os.environ, stderr.print))
        for number in range(ROUNDS):
            engine, limit = (run(name, servers, dsn, number, EVENTS).seconds for name in ("engine", "limit"))
            ratios.append(limit / engine)
            stderr.print(f"round {number + 1}: {ratios[-1]:.2f} of the limit", highlight=False)
    floor, found = orjson.loads(FLOOR.read_bytes())["ratio_to_limit"], median(ratios)
    sys.stdout.write(orjson.dumps({"ratio_to_limit": round(found, 2), "floor": floor}).decode() + "\n")
    if found < floor:
        sys.exit(
            f"the engine does {found:.2f} of what the loop by hand does, expected at least {floor}; find what slowed it down"
        )


if __name__ == "__main__":
    main()
