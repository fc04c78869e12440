"""One fault played once: load on, fault in, fault out, everything ended, everything judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from faults import network, outages, processes
from faults.fault import Fault
from faults.scene import FaultFailed, Outcome, Servers, staged

BEFORE = 3.0

FAULTS: tuple[Fault, ...] = (*processes.FAULTS, *outages.FAULTS, *network.FAULTS)


def play(fault: Fault, servers: Servers, home: Path, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Raises FaultFailed where the fleet does not come to rest, or a process has ended that nobody had killed."""
    with staged(home, servers, fault.env, tell) as scene:
        scene.rest(BEFORE)
        healed = fault.inject(scene)
        scene.until(lambda: scene.has_recovered(fault.touched, healed), "all lanes to go on", pause=0.5)
        scene.finish_load()
        outcome = scene.outcome(fault.touched, healed)
        ended = [name for name, process in scene.fleet.processes.items() if process.poll() not in (None, 0, -9)]
    if ended:
        raise FaultFailed(f"{', '.join(ended)} ended by itself; logs are in {home}")
    return outcome
