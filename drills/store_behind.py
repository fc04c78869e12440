"""Stock's database is restored from an older backup, while Kafka has gone on; of what was newer nothing is left."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from drills.drill import Drill
from drills.scene import OPENING, Scene

ITEM = "INSERT INTO items (sku, on_hand) VALUES ('{sku}', {number});"


def cause(scene: Scene) -> None:
    database = scene.fleet.books.path("stock")
    _ordered(scene)
    backup = _copied(database, database.with_name("backup.db"))
    workflow = _ordered(scene)
    scene.stop("stock")
    _put(backup, database)
    scene.start("stock")
    opening = database.with_name("opening.sql")
    opening.write_text("\n".join(ITEM.format(sku=sku, number=number) for sku, number in OPENING.items()))
    scene.look_at("stock", WORKFLOW=workflow, LOG=str(scene.fleet.log("stock")), OPENING=str(opening))


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


def _copied(database: Path, target: Path) -> Path:
    """A copy, as a backup of a running database is made."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return target


def _put(copy: Path, database: Path) -> None:
    for leftover in ("-wal", "-shm"):
        database.with_name(database.name + leftover).unlink(missing_ok=True)
    os.replace(copy, database)


DRILL = Drill(
    name="store-behind",
    text="stock's database is restored from an older backup while Kafka has gone on",
    cause=cause,
    alarm=("stock", "saga.lanes.stopped"),
    acts={"stop": stop, "start": start},
)
