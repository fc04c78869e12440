"""Faults of processes: killed at every failpoint, stopped, ended, joined by others."""

from __future__ import annotations

import signal
from datetime import datetime
from functools import partial

from demo.books import SERVICES
from faults.fault import Fault, everybody
from faults.scene import VICTIM, Scene, now
from saga.failpoints import Failpoint

HITS = 15
"""So often a place is passed before a process dies there: under load, with something done before."""
SECOND = f"{VICTIM}-2"
STOPPED = 9.0
"""Seconds: longer than the group's session timeout of 6 s."""


def _dies(scene: Scene, *, name: str) -> datetime:
    scene.until(lambda: scene.died(name), f"{name} to die at its failpoint")
    moment = now()
    scene.fleet.start(name)
    return moment


def _kill_twice(scene: Scene) -> datetime:
    scene.kill(VICTIM)
    scene.rest(3)
    moment = now()
    scene.kill(VICTIM)
    return moment


def _rolling(scene: Scene) -> datetime:
    for name in SERVICES:
        scene.end(name)
        scene.fleet.wait_ready(name)
    return now()


def _come_and_go(scene: Scene) -> datetime:
    """A second member joins, is killed, joins again and leaves in order."""
    scene.fleet.start(SECOND)
    scene.rest(5)
    scene.signal(SECOND, signal.SIGKILL)
    scene.fleet.wait_dead(SECOND)
    scene.fleet.start(SECOND)
    scene.rest(8)
    moment = now()
    scene.signal(SECOND, signal.SIGTERM)
    scene.fleet.wait_dead(SECOND)
    return moment


def _zombie(scene: Scene) -> datetime:
    """One of two is stopped until the other has taken over, and goes on in the middle of what it did."""
    scene.fleet.start(SECOND)
    scene.rest(5)
    scene.signal(VICTIM, signal.SIGSTOP)
    scene.rest(STOPPED)
    scene.signal(VICTIM, signal.SIGCONT)
    return now()


def _paused(scene: Scene) -> datetime:
    scene.signal(VICTIM, signal.SIGSTOP)
    scene.rest(STOPPED)
    scene.signal(VICTIM, signal.SIGCONT)
    return now()


def _at(place: Failpoint, name: str) -> dict[str, dict[str, str]]:
    return {name: {"SAGA_FAILPOINTS": f"{place}:kill:{HITS}"}}


def _failpoint(id: str, place: Failpoint, text: str, name: str = VICTIM, *, quick: bool = False) -> Fault:
    return Fault(id, f"SIGKILL {text}", partial(_dies, name=name), (name,), _at(place, name), quick=quick)


FAULTS = (
    _failpoint("F-1", Failpoint.UNIT_COMMITTED, "after the commit, before anything is published", quick=True),
    _failpoint("F-2", Failpoint.RELAY_ACKNOWLEDGED, "after the broker's answer, before the outbox is marked"),
    _failpoint("F-3", Failpoint.OFFSETS_UNCOMMITTED, "after the commit, before Kafka hears of the offsets"),
    _failpoint("F-4", Failpoint.UNIT_INSIDE, "inside the transaction, all rows written"),
    _failpoint("F-4a", Failpoint.EXTERNAL_INTENDED, "after the intent, before the world is called", "payments"),
    _failpoint("F-4b", Failpoint.EXTERNAL_RETURNED, "after the world has acted, before its answer is committed", "payments"),
    Fault("F-4c", "SIGKILL anywhere, and again 3 s later", _kill_twice),
    Fault("F-5", "a second member joins, is killed, joins, leaves (classic group, range)", _come_and_go,
          env=everybody(SAGA_GROUP_PROTOCOL="classic")),
    Fault("F-7", "a second member joins, is killed, joins, leaves (KIP-848 group)", _come_and_go),
    Fault("F-8", "one of two owners is stopped for 9 s (session 6 s), then goes on as a zombie", _zombie),
    Fault("F-45", "the only owner stands still for 9 s", _paused),
    Fault("F-47", "rolling restart: SIGTERM to one service after the other under load", _rolling, SERVICES),
)  # fmt: skip
