"""Faults of processes: killed at every failpoint, stopped, ended, joined by others."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from faults import clocks
from faults.fault import Fault, Whom
from faults.scene import Scene, now
from faults.workload import Settings, Workload
from saga.failpoints import Failpoint

HITS = 15
"""So often a place is passed before a process dies there: under load, with something done before."""
STOPPED = 9.0
"""Seconds: longer than the group's session timeout of 6 s."""
SKEWED = 15.0
UNTIL_NEXT = 6.0


def _dies(scene: Scene, *, whom: Whom) -> datetime:
    [name] = whom.among(type(scene.workload))
    scene.until(lambda: scene.died(name), f"{name} to die at its failpoint")
    moment = now()
    scene.fleet.start(name)
    return moment


def _kill_twice(scene: Scene) -> datetime:
    scene.kill(scene.victim)
    scene.rest(3)
    moment = now()
    scene.kill(scene.victim)
    return moment


def _rolling(scene: Scene) -> datetime:
    for name in scene.services:
        scene.end(name)
        scene.fleet.wait_ready(name)
    return now()


def _come_and_go(scene: Scene) -> datetime:
    """A second member joins, is killed, joins again and leaves in order."""
    scene.share()
    scene.rest(2)
    scene.signal(scene.second, signal.SIGKILL)
    scene.fleet.wait_dead(scene.second)
    scene.share()
    moment = now()
    scene.signal(scene.second, signal.SIGTERM)
    scene.fleet.wait_dead(scene.second)
    return moment


def _zombie(scene: Scene) -> datetime:
    """One of two is stopped until the other has taken over, and goes on in the middle of what it did."""
    scene.share()
    scene.rest(2)
    scene.signal(scene.victim, signal.SIGSTOP)
    scene.rest(STOPPED)
    scene.signal(scene.victim, signal.SIGCONT)
    return now()


def _paused(scene: Scene) -> datetime:
    scene.signal(scene.victim, signal.SIGSTOP)
    scene.rest(STOPPED)
    scene.signal(scene.victim, signal.SIGCONT)
    return now()


def _skewed(scene: Scene) -> None:
    """The times of facts say nothing of recovery here."""
    scene.rest(SKEWED)


def _stepped(scene: Scene, *, steps: Sequence[signal.Signals]) -> None:
    """All clocks at once, as after a wrong answer of a time server and the right one."""
    for step in steps:
        for name in scene.services:
            scene.signal(name, step)
        scene.rest(UNTIL_NEXT)


def _classic(workload: type[Workload]) -> Settings:
    return {workload.victim: {"SAGA_GROUP_PROTOCOL": "classic"}}


def _failpoint(id: str, place: Failpoint, text: str, whom: Whom = Whom.VICTIM, *, quick: bool = False) -> Fault:
    return Fault(id, f"SIGKILL {text}", partial(_dies, whom=whom), whom, f"{place}:kill:{HITS}", quick=quick)


FAULTS = (
    _failpoint("F-1", Failpoint.UNIT_COMMITTED, "after the commit, before anything is published", quick=True),
    _failpoint("F-2", Failpoint.RELAY_ACKNOWLEDGED, "after the broker's answer, before the outbox is marked"),
    _failpoint("F-3", Failpoint.OFFSETS_UNCOMMITTED, "after the commit, before Kafka hears of the offsets"),
    _failpoint("F-4", Failpoint.UNIT_INSIDE, "inside the transaction, all rows written"),
    _failpoint("F-4a", Failpoint.EXTERNAL_INTENDED, "after the intent, before the world is called", Whom.EXTERNAL),
    _failpoint("F-4b", Failpoint.EXTERNAL_RETURNED, "after the world has acted, before its answer is committed", Whom.EXTERNAL),
    Fault("F-4c", "SIGKILL anywhere, and again 3 s later", _kill_twice),
    Fault("F-5", "a second member joins, is killed, joins, leaves (classic group, range)", _come_and_go, settings=_classic),
    Fault("F-7", "a second member joins, is killed, joins, leaves (KIP-848 group)", _come_and_go),
    Fault("F-8", "one of two owners is stopped for 9 s (session 6 s), then goes on as a zombie", _zombie),
    Fault("F-25", "one service's clock is an hour ahead, that of the initiator an hour behind", _skewed,
          settings=partial(clocks.apart, hours=1)),
    Fault("F-25a", "all clocks step three hours ahead, and right again after 6 s",
          partial(_stepped, steps=(clocks.AHEAD, clocks.BACK)), settings=clocks.right),
    Fault("F-25b", "all clocks step three hours back, and right again after 6 s",
          partial(_stepped, steps=(clocks.BACK, clocks.AHEAD)), settings=clocks.right),
    Fault("F-45", "the only owner stands still for 9 s", _paused),
    Fault("F-47", "rolling restart: SIGTERM to one service after the other under load", _rolling, Whom.EVERYBODY),
)  # fmt: skip
