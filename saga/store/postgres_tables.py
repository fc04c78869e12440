"""The PostgreSQL server itself: how it is connected to, how its errors read, and the migrations that give it our tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from saga.errors import DefinitionError, Overstayed, StoreConflict, StoreError, StoreRefused
from saga.store.statements import Migration, statements
from saga.store.tables import Tables

Connection = psycopg.Connection[TupleRow]

SQL = statements("postgres")

# a server that is gone without a word is noticed in seconds, not in the two hours of the kernel's defaults
_DEFAULTS: Mapping[str, Any] = {
    "fallback_application_name": "saga",
    "client_encoding": "utf8",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

OVERSTAYED = "25P03"
"""What the server says as it ends a transaction that has idled for longer than it may."""

# 26000: what the driver takes for prepared is not; it begins anew after the ROLLBACK
_CONFLICTS = {"40001", "40P01", "55P03", "26000"}
# classes of SQLSTATE that tell of the server or of the way to it, and single codes of other classes that do
_CLASSES_OF_THE_SERVER = {"08", "53", "58", "F0", "XX"}
_CODES_OF_THE_SERVER = {"25006", "25P04", "57P01", "57P02", "57P03", "57P05"}

# Of a connection that was refused the client tells no SQLSTATE. What a server says in another language is waited for.
_HOPELESS = re.compile(
    r"invalid \w+ value|invalid integer value|definition of service|no password supplied|SSL was required|root certificate file"
    r"|FATAL: +(password authentication failed|(database|role) .* does not exist|role .* is not permitted|permission denied"
    r"|no pg_hba\.conf entry|unrecognized configuration parameter|invalid value for parameter|no such (database|user))"
)

_PARAMETER = re.compile(r'invalid URI query parameter: "(\w+)"')

_MIGRATING = 0x5A6A  # the advisory lock that whoever migrates holds


class Address:
    """Where the database is: a connection string or URL of libpq, and how it may be shown to anybody; `setting` has it.

    Raises DefinitionError for what libpq cannot read, and for a port that is none, with which no server would ever answer.
    """

    def __init__(self, dsn: str, setting: str = "SAGA_DATABASE") -> None:
        self.setting = setting
        try:
            self.parameters = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError as error:
            raise DefinitionError(
                f"the address of the database is no connection string of PostgreSQL{_unknown(dsn, error)}; "
                f"expected postgresql://user:password@host:5432/database, or host=... dbname=.... Correct {setting}"
            ) from None
        if not all(map(_is_port, str(self.parameters.get("port", "")).split(","))):
            raise DefinitionError(  # what stands there may be the rest of a password
                f"the address of the database has a port that is no number from 1 to 65535; expected "
                f"postgresql://user:password@host:5432/database, in a password / as %2F, @ as %40. Correct {setting}"
            )

    def __str__(self) -> str:
        host, port = (self.parameters.get(name) for name in ("host", "port"))
        database = self.parameters.get("dbname") or self.parameters.get("user") or "the default database"
        return f"{host or 'the local server'}:{port or 5432}/{database}"

    def connect(self) -> Connection:
        """A new connection that begins nothing by itself.

        Raises StoreError that names the server, StoreRefused where it is not the way to it that is to blame.
        """
        try:
            return psycopg.connect(**{**_DEFAULTS, **self.parameters}, autocommit=True, prepare_threshold=None)
        except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
            if isinstance(error, psycopg.ProgrammingError) or _HOPELESS.search(str(error)):
                raise StoreRefused(
                    f"{self} cannot be opened: {_sentence(error)}. Correct {self.setting}, or make that database and let this "
                    f"user in"
                ) from error
            raise StoreError(
                f"{self} cannot be reached: {_sentence(error)}. Check that PostgreSQL runs there and lets this user in, or "
                f"correct {self.setting}"
            ) from error


def _unknown(dsn: str, error: Exception) -> str:
    """The parameter that the client does not know, unless it may be the rest of a password."""
    found = _PARAMETER.search(str(error))
    may_be_told = found and "@" not in dsn.partition("?")[2] and "password" not in dsn
    return f": it has no parameter {found[1]!r}" if found and may_be_told else ""


def _is_port(text: str) -> bool:
    """Or nothing, which means the usual one."""
    return not text or (text.isascii() and text.isdecimal() and 0 < int(text) < 2**16)


@contextmanager
def engine_statements(address: Address) -> Iterator[None]:
    """Turn the driver's errors inside the block into StoreError."""
    try:
        yield
    except psycopg.Error as error:
        raise store_error(str(address), error) from error


def technical(address: str, error: Exception) -> StoreError | None:
    """What an error says of the server or of other transactions; None where the statement is to blame."""
    if not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate
    if code in _CONFLICTS:
        return StoreConflict(f"{address}: another transaction was in the way ({_sentence(error)}); try again")
    if code == OVERSTAYED:
        return Overstayed(f"{address}: {_sentence(error)} ({code})")
    lost = code is None and isinstance(error, psycopg.OperationalError)
    if lost or (code is not None and (code[:2] in _CLASSES_OF_THE_SERVER or code in _CODES_OF_THE_SERVER)):
        return StoreError(f"{address}: {_sentence(error)}{f' ({code})' if code else ''}")
    return None


def overtaken(address: str, error: Exception) -> StoreConflict | None:
    """What it means, in any language, that a table has other columns now than when the statement was prepared.

    It is prepared anew after the ROLLBACK.
    """
    if not isinstance(error, psycopg.Error) or error.diag.source_function != "RevalidateCachedQuery":
        return None
    return StoreConflict(f"{address}: a table was changed meanwhile ({_sentence(error)}); try again")


def store_error(address: str, error: Exception) -> StoreError:
    """An error in the words of the port, for statements that are the engine's own."""
    code = getattr(error, "sqlstate", None) or type(error).__name__
    return technical(address, error) or StoreError(f"{address}: {_sentence(error)} ({code})")


class PostgresTables(Tables):
    """The schema of one database; opens and closes a connection per call.

    Of several that migrate at once, all but one wait, up to `lock_timeout` seconds; so does a migration for whoever uses a
    table that it changes.
    """

    database, begin = "postgres", "BEGIN"
    record = "INSERT INTO saga_migration (number, name) VALUES ({number}, '{name}');"

    def __init__(self, dsn: str, *, lock_timeout: float = 30.0) -> None:
        self.address, self._lock_timeout = Address(dsn), lock_timeout
        super().__init__(str(self.address))

    def version(self) -> int:
        with self._connection() as connection:
            return _version(connection)

    def lived_on(self) -> bool:
        with self._connection() as connection:
            return _version(connection) > 0 and connection.execute(self.claimed).fetchone() == (True,)

    def upgrade(self) -> list[str]:
        if not (missing := self._missing()):
            return []  # and no lock is waited for
        with self._connection() as connection:
            return [m.name for m in missing if _apply(connection, m, self._recorded(m))]

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self.address.connect() as connection, engine_statements(self.address):
            connection.execute(SQL["wait_up_to"], {"milliseconds": milliseconds(self._lock_timeout), "locally": False})
            yield connection


def milliseconds(seconds: float) -> str:
    """A duration as settings of the server take it."""
    return str(round(seconds * 1000))


def _version(connection: Connection) -> int:
    known = connection.execute("SELECT to_regclass('saga_migration') IS NOT NULL").fetchone()
    if known != (True,):
        return 0
    row = connection.execute("SELECT coalesce(max(number), 0) FROM saga_migration").fetchone()
    assert row is not None
    return int(row[0])


def _apply(connection: Connection, migration: Migration, script: str) -> bool:
    """Whether the migration was missing; if so it is there now, or not at all."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MIGRATING])
        if missing := _version(connection) < migration.number:
            connection.execute(script.encode())
        return missing


def _sentence(error: Exception) -> str:
    """The first line of what the driver says; the rest is in the cause."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
