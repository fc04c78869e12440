"""The ground of real servers: Kafka, PostgreSQL with a database per service, and a schema registry.

Each is the user's own where an address is given, else one of this machine that ends with the run. Of the user's servers the
run takes away the databases and topics that it has made, and touches no others: topics of the saga that hold records are
refused. The schemas stay registered.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from confluent_kafka import KafkaException

from demo.books import ROOT, SAGA, SERVICES, Books, tables_of
from demo.fleet import COMMAND, FleetError, foreign_environment
from demo.stocking import DELIVER
from demo.topics import Topics
from saga.contracts.topics import saga_topics
from saga.store.postgres import PostgresStore
from saga.store.postgres_tables import PostgresTables
from servers import LADDERS, Ladder, fresh_database

VARIABLES: Mapping[str, str] = {"kafka": "SAGA_BROKER", "postgres": "SAGA_DATABASE", "registry": "SAGA_REGISTRY"}
"""Server to the setting that `make servers-up` prints for it."""

PARTITIONS = 4
CONTRACTS = "schemas/checkout"

Tell = Callable[[str], None]


class RealBooks(Books):
    """The services' databases by URL; the gateway, a foreign system, keeps its file in `home`."""

    def __init__(self, home: Path, urls: Mapping[str, str]) -> None:
        super().__init__(home)
        self.urls = urls
        self._connections: dict[str, psycopg.Connection[Any]] = {}

    def rows(self, owner: str, sql: str) -> list[tuple[Any, ...]]:
        if owner not in self.urls:
            return super().rows(owner, sql)
        try:
            return self._ask(owner, sql)
        except psycopg.OperationalError as error:
            raise FleetError(f"PostgreSQL at {_place(self.urls[owner])} cannot be asked: {error}") from error

    def _ask(self, owner: str, sql: str) -> list[tuple[Any, ...]]:
        """Over a new connection where the one that is at hand turns out to be lost: servers are killed under it."""
        connection = self._connection(owner)
        try:
            return connection.execute(sql.encode()).fetchall()
        except psycopg.OperationalError:
            if not connection.closed:
                raise
        del self._connections[owner]
        return self._connection(owner).execute(sql.encode()).fetchall()

    def store(self, service: str) -> PostgresStore:
        return PostgresStore(self.urls[service])

    def close(self) -> None:
        while self._connections:
            self._connections.popitem()[1].close()

    def _connection(self, owner: str) -> psycopg.Connection[Any]:
        if owner not in self._connections:
            self._connections[owner] = psycopg.connect(self.urls[owner], autocommit=True)
        return self._connections[owner]


class Real:
    """Needs no process of its own: the servers run already. A subclass is the ground of another saga and its services."""

    saga: str = SAGA
    contracts: str = CONTRACTS
    services: tuple[str, ...] = SERVICES
    kept: type[RealBooks] = RealBooks

    def __init__(self, addresses: Mapping[str, str], books: RealBooks) -> None:
        self.addresses, self.books = addresses, books
        self.processes: Mapping[str, list[str]] = {}

    def lay(self, opening: Mapping[str, int]) -> None:
        for service in self.services:
            PostgresTables(self.books.urls[service]).upgrade()
            with psycopg.connect(self.books.urls[service]) as connection, connection.cursor() as cursor:
                cursor.execute(tables_of(service).encode())
                if service == "stock":
                    cursor.executemany(DELIVER.replace("?", "%s").encode(), opening.items())

    def ready(self, name: str) -> bool:
        return True

    def environment(self, service: str) -> dict[str, str]:
        return {
            "SAGA_BROKER": self.addresses["kafka"],
            "SAGA_DATABASE": self.books.urls[service],
            "SAGA_REGISTRY": self.addresses["registry"],
            "SAGA_LANES": "group",
        }


def given(**flags: str | None) -> dict[str, str]:
    """Server to the address of the user's own: the flag, else the setting in the environment, else not there.

    Raises FleetError where that of PostgreSQL is no URL of one.
    """
    found = {name: flag or os.environ.get(VARIABLES[name]) or "" for name, flag in flags.items()}
    scheme, _, _ = (found.get("postgres") or "postgresql").partition(":")
    if scheme not in ("postgresql", "postgres"):
        raise FleetError(
            f"--postgres or SAGA_DATABASE has the scheme {scheme!r}; expected postgresql://user@host:5432/postgres, "
            f"or neither of them for a server of the demo's own"
        )
    return {name: address for name, address in found.items() if address}


@contextmanager
def real(home: Path, own: Mapping[str, str], tell: Tell, kind: type[Real] = Real) -> Iterator[Real]:
    """The ground of this `kind` while the block lasts; `own` maps servers to the user's addresses.

    Raises ServerMissing or ServerFailed for a server that is not there, FleetError for one that cannot be used.
    """
    with ExitStack() as stack:
        addresses = {}
        for name, ladder in LADDERS.items():
            tell(f"{name}: {'looking at yours' if name in own else 'starting one'}")
            addresses[name] = _own(ladder, own[name]) if name in own else stack.enter_context(ladder.serving({}, tell))
        environment = {"SAGA_BROKER": addresses["kafka"], "SAGA_REGISTRY": addresses["registry"]}
        stack.enter_context(_topics(kind, addresses["kafka"], environment, tell))
        _order(["schemas", "register", kind.contracts], environment, tell)
        urls = {service: stack.enter_context(_database(addresses["postgres"], tell)) for service in kind.services}
        yield kind(addresses, stack.enter_context(closing(kind.kept(home, urls))))


def _own(ladder: Ladder, address: str) -> str:
    if not ladder.answers(address):
        place = _place(address) if "@" in address else address
        setting = f"--{ladder.name} or {VARIABLES[ladder.name]}"
        raise FleetError(f"no {ladder.name} answers at {place}; start it, or correct {setting}")
    return address


@contextmanager
def _topics(kind: type[Real], servers: str, environment: Mapping[str, str], tell: Tell) -> Iterator[None]:
    """The saga's topics; those that were not there before are deleted at the end."""
    topics = Topics(servers, saga_topics(kind.saga))
    before = _asked(topics.records, servers)
    if held := [f"{name} ({count} records)" for name, count in before.items() if count]:
        raise FleetError(
            f"Kafka at {servers} has {', '.join(held)}: somebody's workflows, with which the demo would mix its orders. "
            f"It deletes nothing that it has not made. Take another cluster with --kafka, or none for one of the demo's own"
        )
    try:
        _order(["topics", "apply", kind.contracts, "--partitions", str(PARTITIONS)], environment, tell)
        yield
    finally:
        made = [name for name in topics.names if name not in before]
        try:
            topics.delete(made)
        except KafkaException as error:
            tell(f"Kafka at {servers}: {' and '.join(made)} may be left: {error.args[0].str()}")


@contextmanager
def _database(server: str, tell: Tell) -> Iterator[str]:
    """The URL of a new database, which is dropped at the end."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(fresh_database(server))
        except psycopg.Error as error:
            raise FleetError(
                f"PostgreSQL at {_place(server)} makes no database: {str(error).strip()}. "
                f"Let the user of --postgres create databases (CREATEDB), or leave it out for a server of the demo's own"
            ) from error
        try:
            yield url
        finally:
            try:
                stack.close()
            except psycopg.OperationalError as error:
                tell(f"PostgreSQL at {_place(url)}: the database is left: {str(error).strip()}")


def _place(url: str) -> str:
    """The URL without its user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"


def _asked(question: Callable[[], Any], servers: str) -> Any:
    try:
        return question()
    except KafkaException as error:
        raise FleetError(f"Kafka at {servers}: {error.args[0].str()}. See that it runs there, or correct --kafka") from error


def _order(arguments: list[str], environment: Mapping[str, str], tell: Tell) -> None:
    """Run a `saga` command as a person would."""
    tell(f"saga {' '.join(arguments)}")
    command, settings = [COMMAND, *arguments], {**foreign_environment(), **environment}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".rstrip()
        raise FleetError(f"saga {' '.join(arguments)} ended with status {done.returncode}:\n{said}")
