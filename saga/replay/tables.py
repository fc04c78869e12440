"""States as a table for analysts, in SQLite or PostgreSQL: one row a workflow, for each step its status, event and JSON."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any
from uuid import uuid4

import orjson

from saga.contracts.saga import Saga
from saga.errors import DefinitionError, StoreError
from saga.replay.state import State

BATCH = 500

_BUILT = "saga_export"
_LENGTH = 63  # of a name in PostgreSQL, beyond which it is cut off
_NOTE = re.compile(r"workflows of saga ([\w.-]+)")
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def table_name(saga: Saga) -> str:
    """One table for each saga version, since their steps differ."""
    return f"{saga.name}_v{saga.version}".replace("-", "_").replace(".", "_")


def columns(saga: Saga) -> list[tuple[str, str]]:
    """Name and kind (`text`, `moment`, `integer`, `json`) of each column.

    A step whose column another one has already gets it with a number, such as `status_2`.
    """
    own = [("id", "text"), ("version", "integer"), ("status", "text"), ("exceptions", "integer"), ("opened", "moment")]
    steps = [
        (f"{step.name}{suffix}", kind)
        for step in saga.steps
        for suffix, kind in (("_status", "text"), ("_event", "text"), ("", "json"))
    ]
    own += [("closed", "moment"), ("holes", "json")]
    taken = {name for name, _ in own}
    return [*own, *((_apart(name, taken), kind) for name, kind in steps)]


def _apart(name: str, taken: set[str]) -> str:
    """The name, or one like it where it is taken: SQLite does not tell names apart by case, PostgreSQL not by their ends."""
    found, number = name[:_LENGTH], 1
    while found.lower() in taken:
        number += 1
        found = f"{name[: _LENGTH - len(str(number)) - 1]}_{number}"
    taken.add(found.lower())
    return found


def write(url: str, saga: Saga, states: Iterable[State], *, replace: bool = False) -> str:
    """Make the table, fill it, and let it take the place of an earlier one, which is there until then; answers its name.

    Raises DefinitionError where such a table is there already, unless it is to be replaced and an export of the same saga,
    and StoreError for what the database says.
    """
    rows = (_row(saga, one) for one in states)
    if url.startswith(("postgresql://", "postgres://")):
        _write_postgres(url, saga, columns(saga), rows, replace)
    elif url.startswith("sqlite:///"):
        _write_sqlite(url.removeprefix("sqlite:///"), saga, columns(saga), rows, replace)
    else:
        raise DefinitionError(f"found {url!r}; expected FILE.avro, sqlite:///FILE or postgresql://user@host:5432/database")
    return table_name(saga)


def _row(saga: Saga, one: State) -> list[Any]:
    row: list[Any] = [one.id, one.version, one.status.value, int(one.exceptions), one.opened, one.closed]
    row.append(_json([list(hole) for hole in one.holes]) if one.holes else None)
    for step in saga.steps:
        event, stands = one.events.get(step.name), one.steps.get(step.name)
        row += [stands.value if stands else None, event[0] if event else None, _json(event[1]) if event else None]
    return row


def _json(value: Any) -> str:
    return orjson.dumps(value, default=_plain).decode()


def _without_nul(text: str | None) -> str | None:
    """PostgreSQL takes no text with a NUL, not even as an escape in JSON."""
    return None if text is None else _NUL.sub(r"\1\\ufffd", text)


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _definition(columns: Sequence[tuple[str, str]], kinds: dict[str, str]) -> str:
    described = (f"{_quoted(name)} {kinds[kind]}" for name, kind in columns)
    return ", ".join([*described, 'PRIMARY KEY ("id")'])


def _note(saga: str) -> str:
    """What the table says of itself: others may have the name, those of a service or of a saga `a-b` beside `a_b`."""
    return f"workflows of saga {saga}"


def _require_replaceable(saga: Saga, note: str, replace: bool) -> None:
    name = table_name(saga)
    if (noted := _NOTE.search(note)) is None:
        raise DefinitionError(f"there is a table {name!r} that no export made; name another database for saga {saga.name!r}")
    if noted[1] != saga.name:
        raise DefinitionError(f"the table {name!r} holds saga {noted[1]!r}, not {saga.name!r}; name another database for it")
    if not replace:
        raise DefinitionError(f"there is a table {name!r} already; add --replace to drop it, or name another database")


def _write_sqlite(file: str, saga: Saga, columns: Sequence[tuple[str, str]], rows: Iterator[list[Any]], replace: bool) -> None:
    name = table_name(saga)
    kinds = {"text": "TEXT", "moment": "TEXT", "integer": "INTEGER", "json": "TEXT"}
    definition, marks = _definition(columns, kinds), ", ".join("?" for _ in columns)
    with _told(sqlite3.Error), closing(sqlite3.connect(file)) as connection:
        _require_room(connection, saga, replace)
        # what is temporary is in a file of its own, so that nobody waits while all is read
        connection.execute(f"CREATE TEMP TABLE {_BUILT} ({definition})")
        dated = (
            [str(value) if kinds_ == "moment" and value else value for (_, kinds_), value in zip(columns, row, strict=True)]
            for row in rows
        )
        connection.executemany(f"INSERT INTO {_BUILT} VALUES ({marks})", dated)  # noqa: S608 - names are quoted
        connection.commit()
        connection.execute("BEGIN IMMEDIATE")
        _require_room(connection, saga, replace)
        connection.execute(f"DROP TABLE IF EXISTS main.{_quoted(name)}")
        # SQLite has no comments of tables, but keeps the statement that made one as it was written
        connection.execute(f"CREATE TABLE {_quoted(name)} (/* {_note(saga.name)} */ {definition})")
        connection.execute(f"INSERT INTO {_quoted(name)} SELECT * FROM {_BUILT} ORDER BY rowid")  # noqa: S608 - names are quoted
        connection.commit()


def _require_room(connection: sqlite3.Connection, saga: Saga, replace: bool) -> None:
    found = "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?"
    if there := connection.execute(found, (table_name(saga),)).fetchone():
        _require_replaceable(saga, there[0], replace)


def _write_postgres(url: str, saga: Saga, columns: Sequence[tuple[str, str]], rows: Iterator[list[Any]], replace: bool) -> None:
    try:
        import psycopg

        from saga.store.postgres_tables import Address
    except ImportError as error:
        raise DefinitionError(
            f"found a postgresql:// URL, but its driver cannot be loaded ({error}); "
            f"run: pip install 'saga-choreography[postgres]'"
        ) from error
    name = table_name(saga)
    kinds = {"text": "text", "moment": "timestamptz", "integer": "integer", "json": "jsonb"}
    rows = (
        [_without_nul(value) if kind == "json" else value for (_, kind), value in zip(columns, row, strict=True)]
        for row in rows
    )
    address, built = Address(url, "--to"), f"{_BUILT}_{uuid4().hex}"
    with _told(psycopg.Error), address.connect() as connection, connection.cursor() as cursor:
        with connection.transaction(force_rollback=True):  # what cannot be dropped is told before all is read
            _make_room(cursor, saga, replace)
        with connection.transaction():
            cursor.execute(f"CREATE TABLE {built} ({_definition(columns, kinds)})")
            marks = ", ".join("%s" for _ in columns)
            while batch := list(islice(rows, BATCH)):
                cursor.executemany(f"INSERT INTO {built} VALUES ({marks})", batch)  # noqa: S608 - a name of ours
            _make_room(cursor, saga, replace)
            cursor.execute(f"ALTER TABLE {built} RENAME TO {_quoted(name)}")
            cursor.execute(f"COMMENT ON TABLE {_quoted(name)} IS '{_note(saga.name)}'")


def _make_room(cursor: Any, saga: Saga, replace: bool) -> None:
    name = _quoted(table_name(saga))
    there = cursor.execute("SELECT found, obj_description(found, 'pg_class') FROM to_regclass(%s) found", (name,))
    if (known := there.fetchone()) and known[0] is not None:
        _require_replaceable(saga, known[1] or "", replace)
        cursor.execute(f"DROP TABLE {name}")


@contextmanager
def _told(errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise StoreError(f"the table was not written: {error}") from error
