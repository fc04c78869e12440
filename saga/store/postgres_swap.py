"""One PostgreSQL database put in the place of another: two renames in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from saga.errors import DefinitionError, StoreBusy
from saga.store.postgres_tables import Address, Connection, engine_statements

_LONGEST = 63  # of a name, in bytes: PostgreSQL cuts off what is longer, and with it what tells it from the live one


def swap(live: str, rebuilt: str, kept: str, *, through: str = "postgres") -> str | None:
    """Let the database of `rebuilt` bear the name of that of `live`, which is kept as `<name>_<kept>`; None if there was none.

    Of a long name that is the beginning. Both addresses are of one server. The renames are made while connected to its database
    `through`, by a user that owns both and may create databases. Raises StoreBusy while anybody is connected to either.
    """
    old, new = Address(live), Address(rebuilt)
    place = [{key: address.parameters.get(key) for key in ("host", "port")} for address in (old, new)]
    if place[0] != place[1] or not all(address.parameters.get("dbname") for address in (old, new)):
        raise DefinitionError(f"{old} and {new} are not two databases of one server; point SAGA_DATABASE at the rebuilt one")
    name, other = str(old.parameters["dbname"]), str(new.parameters["dbname"])
    away = _away(name, kept)
    with _connected(live, through) as connection, connection.transaction():
        was_there = _is_there(connection, name)
        try:
            if was_there:
                connection.execute(_rename(name, away))
            connection.execute(_rename(other, name))
        except psycopg.errors.ObjectInUse as error:
            raise StoreBusy(
                f"{old} or {new} is in use; end the worker, and whoever else is connected, then swap again. Nothing was renamed"
            ) from error
    return away if was_there else None


def backup(live: str, kept: str, *, through: str = "postgres") -> str | None:
    """The name under which a swap has kept the database of `live`; None if there is none."""
    away = _away(str(Address(live).parameters["dbname"]), kept)
    with _connected(live, through) as connection:
        return away if _is_there(connection, away) else None


def _away(name: str, kept: str) -> str:
    return f"{name.encode()[: _LONGEST - len(kept) - 1].decode(errors='ignore')}_{kept}"


@contextmanager
def _connected(live: str, through: str) -> Iterator[Connection]:
    between = Address(live)
    between.parameters["dbname"] = through
    with engine_statements(between), between.connect() as connection:
        yield connection


def _is_there(connection: Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def _rename(old: str, new: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
