"""From settings and names to the parts of a participant's process; every refusal says what to set or to run.

The adapters are loaded where they are made, so that a command loads only those that it uses.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from saga.errors import DefinitionError
from saga.participant.participant import Participant
from saga.settings import Settings
from saga.store.port import Tables
from saga.transport.port import Broker

if TYPE_CHECKING:
    from saga.store.sqlite import SqliteStore

DatabaseUrl = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="Instead of SAGA_DATABASE: sqlite:///relative.db")
]
BrokerServers = Annotated[str | None, typer.Option("--broker", metavar="HOST:PORT", help="Instead of SAGA_BROKER.")]


def participant(target: str) -> Participant:
    """The participant that `module:name` says, looked for in the working directory as well."""
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise DefinitionError(f"found {target!r}; expected module:participant, e.g. services.stock.app:stock")
    module = _module(name)
    found = getattr(module, attribute, None)
    if isinstance(found, Participant):
        return found
    what = f"{attribute!r} there is of type {type(found).__name__}" if found is not None else f"it has no {attribute!r}"
    others = ", ".join(f"{name}:{key}" for key, value in vars(module).items() if isinstance(value, Participant))
    raise DefinitionError(
        f"module {name!r} was loaded from {module.__file__}, but {what}; expected a saga.Participant. "
        f"{f'It has: {others}' if others else 'Create one there, or name another module.'}"
    )


def store(settings: Settings) -> SqliteStore:
    """The opened store, which reads for people too; refuses a database that does not exist or has other tables."""
    from saga.store.sqlite import SqliteStore

    return SqliteStore(_existing(settings))


def tables(settings: Settings, *, create: bool = False) -> Tables:
    """The schema of the database, which must exist unless `create`."""
    from saga.store.sqlite_tables import SqliteTables

    return SqliteTables(_file(settings) if create else _existing(settings))


def broker(settings: Settings, *, timeout: float = 10.0) -> Broker:
    """The Kafka that the settings name; opens nothing yet. `timeout` (seconds) bounds each question to it."""
    if settings.broker is None:
        raise DefinitionError("no broker is configured; set SAGA_BROKER=host:port (several separated by commas), or --broker")
    from saga.transport.kafka import KafkaBroker
    from saga.transport.kafka_settings import KafkaSettings

    return KafkaBroker(
        KafkaSettings(
            settings.broker,
            group_protocol=settings.group_protocol,
            lanes=settings.lanes,
            embedded=settings.embedded,
            timeout=timeout,
            client={key: value.get_secret_value() for key, value in settings.kafka.items()},
        )
    )


def database_name(settings: Settings) -> str:
    """The database URL as it may be shown to anybody."""
    url = _database(settings)
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


def _module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise DefinitionError(
                f"there is no module {error.name!r}, looked for in {os.getcwd()} and the installed packages; "
                f"change to the folder that holds it, or correct the name"
            ) from error
        raise _broken(name, error) from error
    except (DefinitionError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> DefinitionError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else f"{last.filename}:{last.lineno}"
    return DefinitionError(
        f"module {name!r} fails while it is imported: {type(error).__name__}: {error} ({place}). "
        f"Correct it; `saga --debug` shows the traceback."
    )


def _database(settings: Settings) -> str:
    if settings.database is None:
        raise DefinitionError("no database is configured; set SAGA_DATABASE, e.g. sqlite:///orders.db, or --database")
    return settings.database.get_secret_value()


def _file(settings: Settings) -> Path:
    url = urlsplit(_database(settings))
    if url.scheme != "sqlite":
        raise DefinitionError(
            f"found a database URL with {f'scheme {url.scheme!r}' if url.scheme else 'no scheme'}; "
            f"expected sqlite:///relative.db or sqlite:////absolute.db. Correct SAGA_DATABASE."
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
