"""Faults of servers: killed and started again, and what they do to single connections."""

from __future__ import annotations

from datetime import datetime

import psycopg

from demo.books import SERVICES
from faults.fault import Fault
from faults.scene import Scene, now
from servers import LocalServer

AWAY = 6.0
TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 't\\_%' AND pid <> pg_backend_pid()"
TIMES = 6


def _away(scene: Scene, server: LocalServer, seconds: float) -> datetime:
    server.crash()
    scene.rest(seconds)
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


def _terminated(scene: Scene) -> datetime:
    """All backends of all services, again and again."""
    for _ in range(TIMES):
        with psycopg.connect(scene.servers.postgres.address, autocommit=True) as connection:
            connection.execute(TERMINATE)
        scene.rest(1)
    return now()


FAULTS = (
    Fault("F-9", "the broker is killed (SIGKILL) and started again at once", _broker, SERVICES),
    Fault("F-9a", f"the broker is killed and away for {AWAY:.0f} s", _broker_longer, SERVICES),
    Fault("F-18", f"PostgreSQL stops at once (immediate) and is away for {AWAY:.0f} s", _database, SERVICES),
    Fault("F-18a", f"all connections of all services are ended by the server, {TIMES} times", _terminated, SERVICES),
    Fault("F-23", f"the registry is killed and away for {AWAY:.0f} s", _registry, SERVICES),
)
