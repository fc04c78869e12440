"""Random faults, one after the other and never the same pause between them, on one fleet under constant load."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from demo.books import SERVICES
from faults.fault import Fault
from faults.run import FAULTS
from faults.scene import Outcome, Scene, Servers, now, staged

PAUSES = (1.0, 6.0)
"""Seconds between two faults, at least and at most."""


def play(servers: Servers, home: Path, seconds: float, seed: int, tell: Callable[[str], None]) -> Outcome:
    """The same seed has the same faults in the same order. Raises what `faults.run.play` raises."""
    dice = random.Random(seed)  # noqa: S311 - a seed is the point
    with staged(home, servers, {}, lambda _: None, endless=True) as scene:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            scene.rest(dice.uniform(*PAUSES))
            _inject(scene, dice.choice(_anytime()), tell)
        healed = now()
        scene.until(lambda: scene.has_recovered(SERVICES, healed), "all lanes to go on", pause=0.5)
        scene.finish_load()
        return scene.outcome(SERVICES, healed)


def _anytime() -> list[Fault]:
    """The faults that need nothing to be armed at the start."""
    return [fault for fault in FAULTS if not fault.env]


def _inject(scene: Scene, fault: Fault, tell: Callable[[str], None]) -> None:
    tell(f"  {now():%H:%M:%S} {fault.id} {fault.text}")
    fault.inject(scene)
    for name, process in [*scene.fleet.processes.items()]:
        if process.poll() is not None and name in SERVICES:
            tell(f"  {name} had ended with status {process.returncode} and was started again")
            scene.fleet.start(name)
