"""Faults of the network between one service and its servers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from faults.fault import Fault
from faults.proxy import Mode, Proxy
from faults.scene import FaultFailed, Scene, now

LONG, SHORT = 10.0, 6.0
RESETS = 8
CUTS = 3

Way = Callable[[Scene], Proxy]


def _kafka(scene: Scene) -> Proxy:
    return scene.servers.to_kafka


def _database(scene: Scene) -> Proxy:
    return scene.servers.to_postgres


def _for(scene: Scene, *, way: Way, mode: Mode, seconds: float) -> datetime:
    with way(scene).doing(mode):
        scene.rest(seconds)
    return now()


def _resets(scene: Scene, *, way: Way) -> datetime:
    for _ in range(RESETS):
        way(scene).reset()
        scene.rest(0.6)
    return now()


def _lost_answers(scene: Scene) -> datetime:
    """Answers to COMMIT are lost until several have been."""
    proxy = _database(scene)
    before = proxy.cuts
    with proxy.doing(Mode.CUT_COMMIT):
        scene.until(lambda: proxy.cuts >= before + CUTS, "answers to COMMIT to be lost")
    if proxy.cuts < before + CUTS:
        raise FaultFailed("no answer to a COMMIT passed the proxy")
    return now()


FAULTS = (
    Fault("F-12", f"nothing passes between service and broker for {LONG:.0f} s, nothing is refused",
          partial(_for, way=_kafka, mode=Mode.HOLE, seconds=LONG)),
    Fault("F-13", f"the broker's answers do not arrive for {SHORT:.0f} s, questions do",
          partial(_for, way=_kafka, mode=Mode.DEAF, seconds=SHORT)),
    Fault("F-14", f"connections to the broker are reset, {RESETS} times", partial(_resets, way=_kafka)),
    Fault("F-14a", f"4 KiB/s to and from the broker for {LONG:.0f} s",
          partial(_for, way=_kafka, mode=Mode.SLOW, seconds=LONG)),
    Fault("F-15", f"nothing passes between service and database for {LONG:.0f} s, nothing is refused",
          partial(_for, way=_database, mode=Mode.HOLE, seconds=LONG)),
    Fault("F-15a", f"connections to the database are reset, {RESETS} times", partial(_resets, way=_database)),
    Fault("F-16", f"the answer to a COMMIT is lost after it was carried out, {CUTS} times", _lost_answers, quick=True),
)  # fmt: skip
