"""The real servers, for tests and for whoever has no Docker: Kafka, PostgreSQL and a schema registry."""

from servers.errors import ServerFailed, ServerMissing
from servers.ladder import KAFKA, LADDERS, POSTGRES, REGISTRY, Ladder
from servers.postgres import fresh_database
from servers.process import LocalServer

__all__ = [
    "KAFKA",
    "LADDERS",
    "POSTGRES",
    "REGISTRY",
    "Ladder",
    "LocalServer",
    "ServerFailed",
    "ServerMissing",
    "fresh_database",
]
