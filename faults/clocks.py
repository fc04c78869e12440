"""Clocks that are wrong, of single services: `python -m faults.clocks HOURS COMMAND...` runs a Python program so far ahead.

What the library of that process takes for now is turned, and nothing else: spans that it measures are right, and so are the
clocks of the servers. SIGUSR1 steps it `STEP` further ahead in the midst of its work, SIGUSR2 as much back.
"""

from __future__ import annotations

import runpy
import signal
import sys
from datetime import datetime, timedelta

from faults.workload import HOURS, Settings, Workload
from saga.clock import SystemClock

STEP = timedelta(hours=3)
AHEAD, BACK = signal.SIGUSR1, signal.SIGUSR2


def right(workload: type[Workload]) -> Settings:
    """Everybody's clock is right, and may be stepped."""
    return {name: {HOURS: "0"} for name in workload.kind.services}


def apart(workload: type[Workload], *, hours: int) -> Settings:
    """The victim's clock is so much ahead, that of the initiator so much behind."""
    return {workload.victim: {HOURS: f"{hours}"}, workload.kind.services[0]: {HOURS: f"{-hours}"}}


def main(hours: str, *command: str) -> None:
    truly, ahead = SystemClock.now, timedelta(hours=float(hours))

    def turned(self: SystemClock) -> datetime:
        return truly(self) + ahead

    def step(number: int, _: object) -> None:
        nonlocal ahead
        ahead += STEP if number == AHEAD else -STEP

    SystemClock.now = turned  # type: ignore[method-assign]
    for number in (AHEAD, BACK):
        signal.signal(number, step)
    program = command[1:] if command[0] == sys.executable else command
    if program[0] == "-m":
        sys.argv = [*program[1:]]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [*program]
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
