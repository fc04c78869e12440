"""One PostgreSQL database put in the place of another: two renames in one transaction."""

from __future__ import annotations

import psycopg
from psycopg import sql

from saga.errors import DefinitionError, StoreBusy
from saga.store.postgres_tables import Address, engine_statements

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
    backup = f"{name.encode()[: _LONGEST - len(kept) - 1].decode(errors='ignore')}_{kept}"
    between = Address(live)
    between.parameters["dbname"] = through
    with engine_statements(between), between.connect() as connection, connection.transaction():
        was_there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None
        try:
            if was_there:
                connection.execute(_rename(name, backup))
            connection.execute(_rename(other, name))
        except psycopg.errors.ObjectInUse as error:
            raise StoreBusy(
                f"{old} or {new} is in use; end the worker, and whoever else is connected, then swap again. Nothing was renamed"
            ) from error
    return backup if was_there else None


def _rename(old: str, new: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
