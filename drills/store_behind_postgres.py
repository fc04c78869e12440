"""The same on PostgreSQL: copies are databases of the same server, and renames put them in place."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from demo.real import RealBooks
from drills.scene import Scene
from drills.store_behind import DRILL as ON_SQLITE
from drills.store_behind import cause, stop


class _Databases:
    """On PostgreSQL, where nobody may be connected to what is copied or renamed."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.url = scene, scene.fleet.ground.environment("stock")["SAGA_DATABASE"]
        self.parameters: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(self.url)
        self.name = str(self.parameters["dbname"])

    def take(self) -> None:
        _rest(self.scene)
        self._say("CREATE DATABASE {} TEMPLATE {}", f"{self.name}_backup", self.name)
        self.scene.start("stock")

    def put_back(self) -> None:
        _rest(self.scene)
        self._say("ALTER DATABASE {} RENAME TO {}", self.name, f"{self.name}_newer")
        self._say("ALTER DATABASE {} RENAME TO {}", f"{self.name}_backup", self.name)

    def empty(self) -> str:
        self._say("CREATE DATABASE {}", f"{self.name}_again")
        return self.url.replace(f"/{self.name}", f"/{self.name}_again")

    def _say(self, statement: str, *names: str) -> None:
        server = psycopg.conninfo.make_conninfo(**{**self.parameters, "dbname": "postgres"})
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _rest(scene: Scene) -> None:
    """Every process of stock is stopped, and nobody looks into its database."""
    if "stock" in scene.fleet.processes:
        stop(scene)
    books = scene.fleet.books
    assert isinstance(books, RealBooks)
    books.close()


DRILL = replace(
    ON_SQLITE,
    name="store-behind-postgres",
    text=f"{ON_SQLITE.text}, on PostgreSQL",
    cause=partial(cause, kind=_Databases),
    acts={**ON_SQLITE.acts, "stop": _rest},
    real=True,
    practises=ON_SQLITE.name,
)
