"""Random faults, one after the other and never the same pause between them, on one fleet under constant load."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from faults.fault import Fault, Whom
from faults.run import FAULTS
from faults.scene import Outcome, Scene, Servers, now, staged
from faults.workload import Workload

PAUSES = (1.0, 6.0)
"""Seconds between two faults, at least and at most."""


def play(
    workload: type[Workload], servers: Servers, home: Path, seconds: float, seed: int, tell: Callable[[str], None]
) -> Outcome:
    """The same seed has the same faults in the same order. Raises what `faults.run.play` raises."""
    dice, faults = random.Random(seed), [fault for fault in FAULTS if fault.anytime]  # noqa: S311 - a seed is the point
    with staged(workload, home, servers, {}, {}, lambda _: None) as scene:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            scene.rest(dice.uniform(*PAUSES))
            _inject(scene, dice.choice(faults), tell)
        healed, everybody = now(), Whom.EVERYBODY.among(workload)
        scene.until(lambda: scene.has_recovered(everybody, healed), "all lanes to go on", pause=0.5)
        scene.finish_load()
        return scene.outcome(everybody, healed)


def _inject(scene: Scene, fault: Fault, tell: Callable[[str], None]) -> None:
    tell(f"  {now():%H:%M:%S} {fault.id} {fault.text}")
    fault.inject(scene)
    for name, process in [*scene.fleet.processes.items()]:
        if process.poll() is not None and name in scene.services:
            tell(f"  {name} had ended with status {process.returncode} and was started again")
            scene.fleet.start(name)
