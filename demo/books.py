"""Read-only access to what the fleet's processes have written: each service's database, and the gateway's ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saga.store.port import Workflow
from saga.store.sqlite import SqliteStore

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


class Books:
    """The databases of a fleet whose files are in `home`; the processes may be running, stopped or dead."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def path(self, owner: str) -> Path:
        """The database file of a service, or of the gateway."""
        return self.home / f"{owner}.db"

    def rows(self, owner: str, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path(owner)}?mode=ro", uri=True, timeout=10)) as connection:
            return connection.execute(sql).fetchall()

    def ended(self) -> int:
        """How many orders are confirmed or cancelled."""
        return sum(count for status, count in self.rows("orders", BY_STATUS) if status != "placed")

    def workflows(self) -> Iterator[dict[str, Workflow]]:
        """Every order's workflow, as each service's store that knows it has it."""
        with ExitStack() as stack:
            stores = {service: stack.enter_context(closing(SqliteStore(self.path(service)))) for service in SERVICES}
            for (workflow_id,) in self.rows("orders", WORKFLOW_IDS):
                found = {service: store.find(workflow_id) for service, store in stores.items()}
                yield {service: sagas[0][1] for service, sagas in found.items() if sagas}

    def standing(self) -> Standing:
        status = dict(self.rows("orders", BY_STATUS))
        return Standing(
            placed=status.get("placed", 0),
            confirmed=status.get("confirmed", 0),
            cancelled=status.get("cancelled", 0),
            open={service: self.rows(service, OPEN)[0][0] for service in SERVICES},
        )
