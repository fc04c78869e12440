"""From what a caller has in hand, SQLAlchemy's objects included, to the driver's connection under it.

SQLAlchemy is known by the shape of its objects and never imported.
"""

from __future__ import annotations

from typing import Any

from saga.errors import DefinitionError


def unwrap(given: Any) -> Any:
    """The DB-API connection of a SQLAlchemy session or connection that is inside a transaction; anything else as it is.

    Raises DefinitionError for one that is in no transaction, and for asynchronous ones, whose `run_sync` leads to what can
    be joined.
    """
    if callable(getattr(given, "run_sync", None)):
        raise DefinitionError(
            f"join cannot wait for {kind(given)}; join inside its run_sync, which hands over the synchronous side: "
            f"await session.run_sync(lambda session: orders.start(event, store.join(session)))"
        )
    if not (callable(getattr(given, "in_transaction", None)) and callable(getattr(given, "begin_nested", None))):
        return given
    if not given.in_transaction():
        raise DefinitionError(
            f"join expects {kind(given)} inside a transaction, and this one is in none: open one with begin() around the "
            f"business statements and this call"
        )
    connection = given.connection() if callable(getattr(given, "get_bind", None)) else given
    return connection.connection.dbapi_connection


def is_sqlite(connection: Any) -> bool:
    """Whether a driver's connection is SQLite's, told without importing it."""
    return type(connection).__module__.startswith("sqlite3")


def kind(thing: Any) -> str:
    """What it is, for whoever handed it over."""
    return f"{type(thing).__module__.partition('.')[0]}.{type(thing).__qualname__}"
