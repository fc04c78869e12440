"""`saga health`: asks a running process how it is, or looks from outside at what a participant depends on."""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING, Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import orjson
import typer

from saga import assembly
from saga.cli import arguments, output
from saga.engine.health import Health, Part, State
from saga.engine.watch import Watch
from saga.errors import DefinitionError, SagaError, StoreError
from saga.observe.health import told
from saga.participant.participant import Participant
from saga.settings import Settings
from saga.store.lane import require_author

if TYPE_CHECKING:
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore

PATIENCE = 5.0
CODES = {State.READY: 0, State.DEGRADED: 1, State.DEAD: 2}


def health(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="URL|MODULE:PARTICIPANT",
            help="Ask the process at this address (without one: at SAGA_HEALTH); or look at what this participant needs.",
        ),
    ] = None,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Tell how a participant is; exits 0 if it is ready, 1 if it is degraded, 2 if it is dead or does not answer."""
    settings = Settings.load(database=database, broker=broker)
    if target is not None and "://" not in target:
        found = told(_looked(target, settings))
    elif (url := target or (settings.health and f"http://{settings.health}")) is not None:
        found = _asked(url)
    else:
        raise DefinitionError(
            "nobody was named; give the address of a process (http://host:port, or SAGA_HEALTH), or MODULE:PARTICIPANT"
        )
    if as_json:
        output.json(found)
    else:
        _tell(found)
    if code := CODES[State(found["state"])]:
        raise typer.Exit(code)


def _tell(found: dict[str, Any]) -> None:
    who = f"{found['participant']} of saga {found['saga']}: " if found["participant"] else ""
    output.line(f"{who}{found['state']}")
    if found["parts"]:
        output.table(["part", "state", ""], [[part["name"], part["state"], part["text"]] for part in found["parts"]])
    for reason in found["reasons"]:
        output.progress(reason)


def _asked(url: str) -> dict[str, Any]:
    """What the process at this address says of itself; who says nothing is taken for dead."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # a bracket that is not closed, a port that is none
        host = None
    if not url.lower().startswith(("http://", "https://")):
        raise DefinitionError(f"found {url!r}; expected an address that begins with http:// or https://")
    if not host:
        raise DefinitionError(f"found {url!r}; expected a host and its port behind it, as in http://127.0.0.1:8080")
    page = url if parts.path.strip("/") else f"{url.rstrip('/')}/health"
    try:
        found = orjson.loads(_read(page))
        if not isinstance(found, dict) or "parts" not in found:
            raise ValueError("the answer is not that of a worker")
        return found
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        text = f"no answer from {page}: {reason}; does the process run, with SAGA_HEALTH or --health?"
        return told(Health("", "", (Part("process", State.DEAD, text),)))


def _read(page: str) -> bytes:
    try:
        with urlopen(page, timeout=PATIENCE) as response:  # noqa: S310 - the scheme has been looked at
            return bytes(response.read())
    except HTTPError as refused:  # 503 has a body too
        with refused:
            return refused.read()


def _looked(target: str, settings: Settings) -> Health:
    """What a participant depends on, and what waits in its store, seen from here."""
    if target.rpartition(":")[2].isdecimal():
        raise DefinitionError(f"found {target!r}; expected the address of a process, http://{target}, or MODULE:PARTICIPANT")
    participant = arguments.participant(target)
    broker, registry = assembly.broker(settings, timeout=PATIENCE), assembly.registry(settings)
    try:
        store = _own(participant, settings)
    except StoreError as error:
        watch = Watch(participant, None, broker, registry)
        watch.look()
        away = Part("store", State.DEGRADED, f"away: {error}")
        return Health(participant.name, participant.saga.name, (away, *watch.parts()))
    try:
        watch = Watch(participant, store, broker, registry)
        watch.look()
        return Health(participant.name, participant.saga.name, tuple(watch.parts()))
    finally:
        store.close()


def _own(participant: Participant, settings: Settings) -> SqliteStore | PostgresStore:
    """The opened store, refused where it is another participant's: how that one is would be told in this one's name."""
    store = assembly.store(settings)
    try:
        with store.unit() as unit:
            require_author(unit.author(participant.saga.name), participant.name)
    except SagaError:
        store.close()
        raise
    return store
