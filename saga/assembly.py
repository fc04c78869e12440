"""From settings to the parts of a participant's process; every refusal says what to set or to run.

The adapters are loaded where they are made, so that a process loads only those that it uses.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from saga.clock import Clock, SystemClock
from saga.contracts.registry_tls import client_settings
from saga.engine.worker import Worker
from saga.errors import DefinitionError, StoreError, StoreRefused
from saga.observe.tracing import Spans
from saga.observe.webhook import Webhook
from saga.participant.participant import Participant
from saga.settings import Settings
from saga.store.port import Store
from saga.store.tables import Tables
from saga.transport.port import Broker

if TYPE_CHECKING:
    from saga.contracts.registry import Registry
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore

log = logging.getLogger("saga.run")

DATABASE_PAUSE = 1.0

Answer = TypeVar("Answer")


def store(settings: Settings, *, idle_timeout: float = 4.0) -> SqliteStore | PostgresStore:
    """The opened store, which reads for people too; refuses a database that does not exist or has other tables.

    `idle_timeout` (seconds) is for how long a PostgreSQL transaction may do nothing.
    """
    if _on_postgres(settings):
        with _postgres_extra():
            from saga.store.postgres import PostgresStore
        return PostgresStore(_database(settings), idle_timeout=idle_timeout)
    from saga.store.sqlite import SqliteStore

    return SqliteStore(_existing(settings))


def patiently(ask: Callable[[], Answer], clock: Clock | None = None) -> Answer:
    """What `ask` answers, once the database does: one that is away at the start is waited for like one that goes away later.

    One that will not be opened with these settings is a DefinitionError. Later it is waited for: others may correct it.
    """
    told = ""
    while True:
        try:
            return ask()
        except StoreRefused as refused:
            raise DefinitionError(str(refused)) from refused
        except StoreError as error:
            if str(error) != told:
                log.warning("waiting for the database: %s", error)
            told = str(error)
        (clock or SystemClock()).sleep(DATABASE_PAUSE)


def tables(settings: Settings, *, create: bool = False) -> Tables:
    """The schema of the database, which must exist; with `create` the file of SQLite need not."""
    if _on_postgres(settings):
        with _postgres_extra():
            from saga.store.postgres_tables import PostgresTables
        return PostgresTables(_database(settings))
    from saga.store.sqlite_tables import SqliteTables

    return SqliteTables(_file(settings) if create else _existing(settings))


def broker(settings: Settings, *, timeout: float = 10.0) -> Broker:
    """The Kafka that the settings name; asks nobody yet. `timeout` (seconds) bounds each question to it.

    Raises DefinitionError for settings that its client does not take: who first needs it may be waiting for something else.
    """
    if settings.broker is None:
        raise DefinitionError("no broker is configured; set SAGA_BROKER=host:port (several separated by commas), or --broker")
    from saga.transport.kafka import KafkaBroker
    from saga.transport.kafka_settings import KafkaSettings

    found = KafkaBroker(
        KafkaSettings(
            settings.broker,
            group_protocol=settings.group_protocol,
            lanes=settings.lanes,
            embedded=settings.embedded,
            timeout=timeout,
            client={key: value.get_secret_value() for key, value in settings.kafka.items()},
        )
    )
    found.check()
    return found


def worker(participant: Participant, settings: Settings, store: Store) -> Worker:
    """A worker on this store with all else that the settings say, bounds included; opens nothing yet."""
    if settings.max_event_bytes is not None:
        participant.limit(settings.max_event_bytes)
    participant.max_backlog = settings.max_backlog or participant.max_backlog
    participant.max_parked = settings.max_parked or participant.max_parked
    if settings.webhook is not None:
        participant.escalation.add(Webhook(settings.webhook.get_secret_value()))
    return Worker(
        participant,
        store=store,
        broker=broker(settings),
        registry=registry(settings),
        threads=settings.threads,
        batch=settings.batch,
        overdue=settings.overdue,
        keep_letters=settings.keep_letters,
        keep_workflows=settings.keep_workflows,
        tracer=Spans(),
    )


def swap(live: Settings, rebuilt: Settings, kept: str) -> str | None:
    """Put one database in the place of another, at once; answers where the other one is kept, None if there was none.

    Raises DefinitionError where one cannot take the other's place, StoreBusy while somebody lives on either.
    """
    if _on_postgres(live) != _on_postgres(rebuilt):
        raise DefinitionError(
            f"{database_name(rebuilt)} cannot take the place of {database_name(live)}, which is of another kind; "
            f"point SAGA_DATABASE at the rebuilt one"
        )
    if _on_postgres(live):
        with _postgres_extra():
            from saga.store import postgres_swap
        return postgres_swap.swap(_database(live), _database(rebuilt), kept)
    from saga.store import sqlite_swap

    found = sqlite_swap.swap(_file(live), _existing(rebuilt), kept)
    return str(found) if found else None


def kept(live: Settings, kept: str) -> str | None:
    """Where a swap that was made with the same word has put what was there; None if there was nothing."""
    if _on_postgres(live):
        with _postgres_extra():
            from saga.store import postgres_swap
        return postgres_swap.backup(_database(live), kept)
    from saga.store import sqlite_swap

    found = sqlite_swap.backup(_file(live), kept)
    return str(found) if found.exists() else None


def second_names(settings: Settings) -> list[str]:
    """Other names of the very file that the database is, as a swap that was killed may leave; none on PostgreSQL."""
    if _on_postgres(settings):
        return []
    from saga.store import sqlite_swap

    return [str(name) for name in sqlite_swap.second_names(_file(settings))]


def database_name(settings: Settings) -> str:
    """The database URL as it may be shown to anybody."""
    url = _database(settings)
    if _on_postgres(settings):
        with _postgres_extra():
            from saga.store.postgres_tables import Address
        return str(Address(url))  # without user and query, where a password may stand too
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


def registry(settings: Settings) -> Registry | None:
    """The schema registry that the settings name, None where contracts come from the folder alone; opens nothing yet."""
    if settings.registry is None:
        _refuse_stray_credentials(settings)
        return None
    from saga.contracts.registry import Registry

    return Registry(settings.registry, cache=settings.cache, client=_credentials(settings))


def _refuse_stray_credentials(settings: Settings) -> None:
    """Whoever says how to get in means to ask a registry; events with computed ids nobody could read who does."""
    for name in ("registry_user", "registry_token", "registry_ca", "registry_certificate"):
        if getattr(settings, name) is not None:
            raise DefinitionError(
                f"found SAGA_{name.upper()} without SAGA_REGISTRY: ids of schemas would be computed, and no registry asked. "
                f"Set SAGA_REGISTRY=http://host:8080/apis/ccompat/v7, or unset SAGA_{name.upper()}."
            )


def _credentials(settings: Settings) -> dict[str, str]:
    """As the registry's client takes them."""
    found = {}
    if settings.registry_user:
        found["basic.auth.user.info"] = settings.registry_user.get_secret_value()
    if settings.registry_token:
        # The client asks for a cluster, which Confluent Cloud alone looks at.
        found |= {"bearer.auth.credentials.source": "STATIC_TOKEN", "bearer.auth.logical.cluster": ""}
        found["bearer.auth.token"] = settings.registry_token.get_secret_value()
    return found | client_settings(settings.registry_ca, settings.registry_certificate, settings.registry_key)


def registry_needed(settings: Settings) -> Registry:
    """The registry, where nothing can be done without one."""
    if (found := registry(settings)) is None:
        raise DefinitionError("no registry is configured; set SAGA_REGISTRY=http://host:8080/apis/ccompat/v7, or --registry")
    return found


def _database(settings: Settings) -> str:
    if settings.database is None:
        raise DefinitionError("no database is configured; set SAGA_DATABASE, e.g. sqlite:///orders.db, or --database")
    return settings.database.get_secret_value()


def _on_postgres(settings: Settings) -> bool:
    return _database(settings).startswith(("postgresql://", "postgres://"))


@contextmanager
def _postgres_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise DefinitionError(
            f"found a postgresql:// URL, but its driver cannot be loaded ({error}); "
            f"run: pip install 'saga-choreography[postgres]'"
        ) from error


def _file(settings: Settings) -> Path:
    url = urlsplit(_database(settings))
    if url.scheme != "sqlite":
        raise DefinitionError(
            f"found a database URL with {f'scheme {url.scheme!r}' if url.scheme else 'no scheme'}; "
            f"expected sqlite:///relative.db, sqlite:////absolute.db or postgresql://user@host:5432/database. "
            f"Correct SAGA_DATABASE."
        )
    path = url.path.removeprefix("/")
    if url.netloc or url.query or not path:
        raise DefinitionError(
            f"found {database_name(settings)!r}; expected three slashes and a file, sqlite:///relative.db, "
            f"or four and an absolute path, sqlite:////var/lib/orders.db. Correct SAGA_DATABASE."
        )
    file = Path(path)
    if not file.absolute().parent.is_dir():
        raise DefinitionError(f"the folder of database {file} does not exist; create {file.absolute().parent}")
    return file


def _existing(settings: Settings) -> Path:
    file = _file(settings)
    if not file.exists():
        raise DefinitionError(f"there is no database {file} in {os.getcwd()}; run: saga db upgrade, or correct SAGA_DATABASE")
    return file
