"""SQLite files that have the tables of this version already: to copy one takes a tenth of what it takes to migrate anew."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from saga.store.sqlite import SqliteStore
from saga.store.sqlite_tables import SqliteTables


def sqlite_store(path: Path, **settings: Any) -> SqliteStore:
    """A store on the file, with our tables even where there was none."""
    if not path.exists():
        path.write_bytes(_migrated())
    return SqliteStore(path, **settings)


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "migrated.db")
        SqliteTables(path).upgrade()
        return path.read_bytes()
