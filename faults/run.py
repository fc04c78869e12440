"""One fault played once: load on, fault in, fault out, everything ended, everything judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from faults import network, outages, processes
from faults.bank.load import Bank
from faults.checkout import Checkout
from faults.fault import Fault
from faults.scene import FaultFailed, Outcome, Servers, staged
from faults.workload import Workload

BEFORE = 3.0

FAULTS: tuple[Fault, ...] = (*processes.FAULTS, *outages.FAULTS, *network.FAULTS)
WORKLOADS: Mapping[str, type[Workload]] = {kind.name: kind for kind in (Checkout, Bank)}


def play(
    fault: Fault, workload: type[Workload], servers: Servers, home: Path, tell: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Raises FaultFailed where the fleet does not come to rest, or a process has ended that nobody had killed."""
    touched = fault.touched.among(workload)
    armed = {name: {"SAGA_FAILPOINTS": fault.failpoint} for name in touched if fault.failpoint}
    with staged(workload, home, servers, fault.settings(workload), armed, tell) as scene:
        scene.rest(BEFORE)
        healed = fault.inject(scene)
        if healed is not None:
            scene.until(lambda: scene.has_recovered(touched, healed), "all lanes to go on", pause=0.5)
        scene.finish_load()
        outcome = scene.outcome(touched, healed)
        ended = [name for name, process in scene.fleet.processes.items() if process.poll() not in (None, 0, -9)]
    if ended:
        raise FaultFailed(f"{', '.join(ended)} ended by itself; logs are in {home}")
    return outcome
