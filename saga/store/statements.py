"""The SQL of a database, read from `sql/<database>/`: hot statements by name, and numbered migrations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step in the history of the tables; numbers start at 1 and leave no gap."""

    number: int
    name: str
    sql: str


def statements(database: str) -> Mapping[str, str]:
    """Every statement of the folder's SQL files by the name in its `-- name:` line."""
    found: dict[str, str] = {}
    for file in _sql_files(_folder(database)):
        _, *parts = _NAME.split(file.read_text())
        found |= {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}
    return found


@cache
def migrations(database: str) -> tuple[Migration, ...]:
    """All migrations of a database, oldest first."""
    found = _sql_files(_folder(database).joinpath("migrations"))
    return tuple(Migration(int(file.name[:3]), file.name.removesuffix(".sql"), file.read_text()) for file in found)


def _folder(database: str) -> Traversable:
    return files("saga.store").joinpath("sql", database)


def _sql_files(folder: Traversable) -> list[Traversable]:
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
