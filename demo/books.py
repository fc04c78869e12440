"""Read-only access to what the fleet's processes have written: each service's database, and the gateway's ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saga.replay.comparison import Database
from saga.store.sqlite import SqliteStore
from saga.store.workflow import Workflow

ROOT = Path(__file__).parents[1]
SAGA = "checkout"
SERVICES = ("orders", "stock", "payments", "shipping")
GATEWAY = "gateway"

BY_STATUS = "SELECT status, count(*) FROM orders GROUP BY status"
WORKFLOW_IDS = "SELECT workflow_id FROM orders"
OPEN = "SELECT count(*) FROM saga_workflow WHERE closed IS NULL"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the orders are; `open` maps services to workflows that are not closed in their store."""

    placed: int
    confirmed: int
    cancelled: int
    open: dict[str, int]

    @property
    def ended(self) -> int:
        return self.confirmed + self.cancelled

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be done in any service."""
        return not self.placed and not any(self.open.values())


def tables_of(service: str) -> str:
    """The SQL of a service's own tables, the same for every database."""
    return (ROOT / "services" / service / "tables.sql").read_text()


class Books:
    """The database files of a fleet, in the folder `home`; the processes may be running, stopped or dead."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def path(self, owner: str) -> Path:
        """The database file of a service, or of the gateway."""
        return self.home / f"{owner}.db"

    def rows(self, owner: str, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path(owner)}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(sql).fetchall()

    def store(self, service: str) -> Database:
        """A service's store, which the caller closes."""
        return SqliteStore(self.path(service))

    def ended(self) -> int:
        """How many orders are confirmed or cancelled."""
        return sum(count for status, count in self.rows("orders", BY_STATUS) if status != "placed")

    def workflows(self) -> Iterator[dict[str, Workflow]]:
        """Every order's workflow, as each service's store that knows it has it."""
        ids = [workflow_id for (workflow_id,) in self.rows("orders", WORKFLOW_IDS)]
        known = {}
        for service in SERVICES:
            with closing(self.store(service)) as store, store.unit() as unit:
                known[service] = unit.load(SAGA, ids)
        for workflow_id in ids:
            yield {service: found[workflow_id] for service, found in known.items() if workflow_id in found}

    def standing(self) -> Standing:
        status = dict(self.rows("orders", BY_STATUS))
        return Standing(
            placed=status.get("placed", 0),
            confirmed=status.get("confirmed", 0),
            cancelled=status.get("cancelled", 0),
            open={service: self.rows(service, OPEN)[0][0] for service in SERVICES},
        )
