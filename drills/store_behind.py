"""Stock's database is restored from an older backup, while Kafka has gone on; of what was newer nothing is left."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from functools import partial
from typing import Protocol

from drills.drill import Drill
from drills.scene import OPENING, Scene

ITEM = "INSERT INTO items (sku, on_hand) VALUES ('{sku}', {number});"


class Backups(Protocol):
    """Copies of stock's database, and an empty one beside it."""

    def __init__(self, scene: Scene) -> None: ...

    def take(self) -> None:
        """Make a copy, as it is done on this kind of database."""
        ...

    def put_back(self) -> None:
        """Put the copy in the place of the database, on which nobody lives now."""
        ...

    def empty(self) -> str:
        """The URL of a database with nothing in it."""
        ...


def cause(scene: Scene, kind: type[Backups]) -> None:
    backups = kind(scene)
    _ordered(scene)
    backups.take()
    workflow = _ordered(scene)
    scene.stop("stock")
    backups.put_back()
    scene.start("stock")
    opening = scene.fleet.home / "opening.sql"
    opening.write_text("\n".join(ITEM.format(sku=sku, number=number) for sku, number in OPENING.items()))
    log = str(scene.fleet.log("stock"))
    scene.look_at("stock", WORKFLOW=workflow, LOG=log, OPENING=str(opening), AGAIN=backups.empty())


def stop(scene: Scene) -> None:
    """Every process of stock is stopped."""
    scene.stop("stock")


def start(scene: Scene) -> None:
    """Stock runs again, and more orders come."""
    scene.start("stock")
    scene.order(4)


def _ordered(scene: Scene) -> str:
    """The first of some orders, all of which have ended."""
    workflow, *_ = scene.order(8)
    scene.settle()
    return workflow


class _Files:
    """On SQLite."""

    def __init__(self, scene: Scene) -> None:
        self.database = scene.fleet.books.path("stock")
        self.copy = self.database.with_name("backup.db")

    def take(self) -> None:
        with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(self.copy)) as target:
            source.backup(target)

    def put_back(self) -> None:
        for leftover in ("-wal", "-shm"):
            self.database.with_name(self.database.name + leftover).unlink(missing_ok=True)
        os.replace(self.copy, self.database)

    def empty(self) -> str:
        return "sqlite:///again.db"


DRILL = Drill(
    name="store-behind",
    text="stock's database is restored from an older backup while Kafka has gone on",
    cause=partial(cause, kind=_Files),
    alarm=("stock", "saga.lanes.stopped"),
    acts={"stop": stop, "start": start},
)
