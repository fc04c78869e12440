"""Faults of servers: killed and started again, and what they do to single connections."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import psycopg

from faults.disk import Trouble, lacking
from faults.fault import Fault, Whom
from faults.scene import FaultFailed, Scene, now
from servers import LocalServer

AWAY = 6.0
BETWEEN = 2.0
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 't\\_%' AND pid <> pg_backend_pid()"
TIMES = 6
TROUBLED = 8.0


def _away(scene: Scene, server: LocalServer, seconds: float) -> datetime:
    server.crash()
    scene.rest(seconds)
    server.start()
    return now()


def _troubled(scene: Scene, *, name: str, trouble: Trouble) -> datetime:
    """The disk is in trouble; then it is mended, and a server that has ended over it is started again."""
    assert scene.servers.disks is not None
    server: LocalServer = getattr(scene.servers, name)
    disk = scene.servers.disks[name]
    with disk.having(trouble):
        scene.rest(TROUBLED)
    if not disk.was_met():
        raise FaultFailed(f"{name} did not come upon its disk")
    if not server.answers(server.address):
        server.crash()
        server.start()
    return now()


def _broker(scene: Scene) -> datetime:
    return _away(scene, scene.servers.kafka, 0)


def _broker_longer(scene: Scene) -> datetime:
    return _away(scene, scene.servers.kafka, AWAY)


def _database(scene: Scene) -> datetime:
    return _away(scene, scene.servers.postgres, AWAY)


def _registry(scene: Scene) -> datetime:
    return _away(scene, scene.servers.registry, AWAY)


def _all(scene: Scene, *, order: Sequence[str]) -> datetime:
    """All at once, and back one after the other."""
    back: list[LocalServer] = [getattr(scene.servers, name) for name in order]
    for server in back:
        server.crash()
    scene.rest(AWAY)
    for server in back:
        server.start()
        scene.rest(BETWEEN)
    return now()


def _terminated(scene: Scene) -> datetime:
    """All backends of all services, again and again."""
    for _ in range(TIMES):
        with psycopg.connect(scene.servers.postgres.address, autocommit=True) as connection:
            connection.execute(TERMINATE)
        scene.rest(1)
    return now()


def _disk(id: str, name: str, trouble: Trouble, text: str) -> Fault:
    inject = partial(_troubled, name=name, trouble=trouble)
    return Fault(id, f"{text}, for {TROUBLED:.0f} s", inject, Whom.EVERYBODY, lacking=lacking)


def _together(id: str, first: str, *order: str) -> Fault:
    text = f"broker, database and registry are killed at once and away for {AWAY:.0f} s; {first} is back first"
    return Fault(id, text, partial(_all, order=order), Whom.EVERYBODY)


FAULTS = (
    Fault("F-9", "the broker is killed (SIGKILL) and started again at once", _broker, Whom.EVERYBODY),
    Fault("F-9a", f"the broker is killed and away for {AWAY:.0f} s", _broker_longer, Whom.EVERYBODY),
    Fault("F-18", f"PostgreSQL stops at once (immediate) and is away for {AWAY:.0f} s", _database, Whom.EVERYBODY),
    Fault("F-18a", f"all connections of all services are ended by the server, {TIMES} times", _terminated, Whom.EVERYBODY),
    Fault("F-23", f"the registry is killed and away for {AWAY:.0f} s", _registry, Whom.EVERYBODY),
    _together("F-49", "the registry", "registry", "kafka", "postgres"),
    _together("F-49a", "the database", "postgres", "kafka", "registry"),
    _disk("F-20", "postgres", Trouble.SLOW, "PostgreSQL's disk is slow: half a second for each fsync"),
    _disk("F-20a", "kafka", Trouble.SLOW, "the broker's disk is slow: a twentieth of a second for each write"),
    _disk("F-20b", "postgres", Trouble.BROKEN, "PostgreSQL's disk answers EIO to each fsync"),
    _disk("F-20c", "kafka", Trouble.BROKEN, "the broker's disk answers EIO to each write"),
    _disk("F-21", "postgres", Trouble.FULL, "PostgreSQL's disk is full"),
    _disk("F-21a", "kafka", Trouble.FULL, "the broker's disk is full"),
)
