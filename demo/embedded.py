"""The ground that needs no server: SQLite files, and Kafka's mock cluster in a process of its own."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from demo.books import SERVICES, Books, tables_of
from demo.stocking import DELIVER
from saga.store.sqlite_tables import SqliteTables

BROKER = "broker"


class Embedded:
    """All of its files are in the folder `home`."""

    def __init__(self, home: Path) -> None:
        self.books = Books(home)
        self._broker_file = home.absolute() / "broker.address"
        self.processes = {BROKER: [sys.executable, "-m", "demo.broker", os.fspath(self._broker_file)]}

    def lay(self, opening: Mapping[str, int]) -> None:
        for service in SERVICES:
            SqliteTables(os.fspath(self.books.path(service))).upgrade()
            with closing(sqlite3.connect(self.books.path(service))) as connection:
                connection.executescript(tables_of(service))
                if service == "stock":
                    with connection:
                        connection.executemany(DELIVER, opening.items())

    def ready(self, name: str) -> bool:
        return self._broker_file.exists()

    def environment(self, service: str) -> dict[str, str]:
        return {
            "SAGA_BROKER": self._broker_file.read_text(),
            "SAGA_EMBEDDED": "true",
            "SAGA_LANES": "all",
            "SAGA_DATABASE": f"sqlite:///{self.books.path(service).absolute()}",
        }
