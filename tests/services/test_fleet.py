"""How the demo's fleet ends: in time and completely, whoever does not listen."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from demo.fleet import Fleet
from saga.testing.clock import ManualClock


class Deaf:
    """A process that SIGKILL alone ends: whoever waits for it waits all the time that it has."""

    def __init__(self, pid: int, clock: ManualClock) -> None:
        self.pid, self.clock = pid, clock

    def poll(self) -> None:
        return None

    def terminate(self) -> None:
        """Nothing comes of it."""

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None:
            return -signal.SIGKILL
        self.clock.advance(timeout)
        raise subprocess.TimeoutExpired("deaf", timeout)


def test_processes_that_do_not_listen_are_all_killed_within_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, killed = ManualClock(), list[tuple[int, int]]()
    monkeypatch.setattr("demo.fleet.time.monotonic", clock.monotonic)
    monkeypatch.setattr("demo.fleet.os.killpg", lambda pid, number: killed.append((pid, number)))
    fleet = Fleet(tmp_path, opening={})
    fleet.processes = {name: Deaf(number, clock) for number, name in enumerate(fleet.names)}  # type: ignore[misc]
    began, every = clock.monotonic(), len(fleet.names)

    fleet.stop()

    assert sorted(killed) == [(number, signal.SIGKILL) for number in range(every)]
    assert clock.monotonic() - began <= 5
