"""`saga run`: one participant as a process of its own, logging to stderr, drained by SIGTERM."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer

from saga import assembly
from saga.cli import arguments
from saga.engine.worker import Worker
from saga.errors import SagaError
from saga.observe.health import Opening, served
from saga.settings import Settings
from saga.text import in_a_line, spelt_out

log = logging.getLogger("saga.run")

CHATTY = ("httpx", "httpx2")  # the client of the registry reports every request, and the registry is asked every 5 s

_M_ARENA_MAX = -8  # malloc.h


class LogFormat(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    JSON = "json"


def run(
    target: Annotated[str, typer.Argument(metavar="MODULE:PARTICIPANT", help="E.g. services.stock.app:stock")],
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Run `saga db upgrade` first.")] = False,
    health: Annotated[
        str | None, typer.Option("--health", metavar="HOST:PORT", help="Answer /livez and /readyz; instead of SAGA_HEALTH.")
    ] = None,
    log_format: Annotated[LogFormat, typer.Option("--log", help="Format of the log on stderr.")] = LogFormat.TEXT,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
) -> None:
    """Run a participant until SIGTERM or Ctrl-C, then drain: finish what is in hand, publish it, leave the group."""
    settings = Settings.load(database=database, broker=broker, health=health)
    _log_to_stderr(settings.log_level, log_format)
    participant = arguments.participant(target)
    assembly.broker(settings)
    with ExitStack() as beside:
        opening = Opening(participant)
        if settings.health is not None:
            log.info("health is answered on %s", beside.enter_context(served(opening, settings.health)))
        if upgrade:
            for name in assembly.patiently(lambda: assembly.tables(settings, create=True).upgrade()):
                log.info("applied migration %s", name)
        store = assembly.patiently(lambda: assembly.store(settings))
        beside.callback(store.close)
        opening.worker = worker = assembly.worker(participant, settings, store)
        tame_collector()
        tame_allocator()
        log.info(
            "%s of saga %s %s, on %s and broker %s",
            participant.name,
            participant.saga.name,
            ", ".join(f"v{each.version}" for each in participant.versions),
            assembly.database_name(settings),
            settings.broker,
        )
        _work(worker)
    log.info("drained")


def tame_collector() -> None:
    """Leave what is loaded out of garbage collection, and collect less often: batches make many objects and no cycles."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def tame_allocator() -> None:
    """Let the threads of the C libraries share two heaps: glibc's one for each of dozens costs some 50 MB."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _work(worker: Worker) -> None:
    # What ends a worker is no wrong use of the command, even where it is a DefinitionError: topics may come and go.
    try:
        worker.run()
    except SagaError as error:
        raise SagaError(str(error)) from error
    except Exception as error:
        log.critical("the worker failed", exc_info=error)
        raise SagaError(f"the worker failed: {type(error).__name__}: {error}") from error


def _log_to_stderr(level: str, form: LogFormat) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if form is LogFormat.JSON else _TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        for library in CHATTY:
            logging.getLogger(library).setLevel(logging.WARNING)


class _TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO saga.worker: text`, the traceback below it; no other line, whatever is in the text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return _time(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return in_a_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return "\n".join(map(in_a_line, super().formatException(ei).split("\n")))


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        line["message"] = spelt_out(record.getMessage())
        if record.exc_info:
            line["traceback"] = spelt_out(self.formatException(record.exc_info))
        return orjson.dumps(line).decode()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
