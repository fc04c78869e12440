"""`saga unacknowledged`: which events of this service are overdue, and who is silent about each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.looking.levels import Level, Silence, Told
from saga.cli.seeking import first
from saga.clock import SystemClock
from saga.contracts.saga import Saga
from saga.contracts.topics import group
from saga.errors import BrokerError
from saga.settings import Settings
from saga.span import rough
from saga.store.outbox import OutboxRow
from saga.transport.port import Broker, Partition

AT_FIRST = 500

Silent = dict[str, Silence]


def unacknowledged(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="SPAN", help="Only events that were written as long ago: 1m, 12h.")
    ] = "1m",
    saga: Annotated[str | None, typer.Option("--saga", metavar="NAME", help="Only events of this saga.")] = None,
    limit: arguments.Most = 50,
    schemas: Annotated[
        Path | None, typer.Option("--schemas", metavar="DIR", help="Contract folder: says whom an event concerns.")
    ] = None,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """List events that are not handled, the oldest first, with who is behind, absent, parked or has lost them. Reads only.

    A broker that does not answer is told at the end, and it exits 1: the events are listed all the same.
    """
    span = arguments.span(older_than, "--older-than")
    settings = Settings.load(database=database, schemas=schemas, broker=broker)
    now, contracts = SystemClock().now(), Saga.load(settings.schemas) if settings.schemas else None
    store = assembly.store(settings)
    try:
        told = Told(store.lanes(), contracts)

        def fitting(rows: Sequence[OutboxRow]) -> list[OutboxRow]:
            return [row for row in rows if saga in {None, row.saga} and told.level(row) is not Level.HANDLED]

        overdue = first(limit + 1, partial(store.outstanding, now - span), fitting, at_first=AT_FIRST)
    finally:
        store.close()
    overdue, more = overdue[:limit], len(overdue) > limit
    unanswered: BrokerError | None = None
    try:
        silent = _silent(overdue, told, assembly.broker(settings) if settings.broker else None)
    except BrokerError as error:
        silent, unanswered = _silent(overdue, told, None), error
    if as_json:
        events = [_data(row, told, silent[row.id]) for row in overdue]
        output.json({"database": assembly.database_name(settings), "events": events, "more": more})
    elif overdue:
        headers = ["event", "workflow", "level", "written", "at", "not handled by"]
        output.table(headers, [_row(row, told, silent[row.id], now) for row in overdue])
        _hint(settings, overdue)
    else:
        output.progress(f"nothing in {assembly.database_name(settings)} is overdue")
    if more:
        output.more(limit)
    if unanswered is not None:
        raise unanswered


def _silent(rows: Sequence[OutboxRow], told: Told, broker: Broker | None) -> dict[str, Silent]:
    """By event, who has not acknowledged it and why, as far as the broker can be asked."""
    missing = {row.id: told.missing(row) or [] for row in rows if row.offset is not None}
    asked: dict[str, set[Partition]] = defaultdict(set)
    for row in rows:
        for name in missing.get(row.id, ()):
            asked[group(row.saga, name)].add(Partition(row.topic, row.lane))
    offsets = {name: broker.committed(name, [*of]) for name, of in asked.items()} if broker else {}
    found: dict[str, Silent] = {}
    for row in rows:
        found[row.id] = {
            name: Silence.PARKED if told.is_parked(row, name) else _why(row, offsets.get(group(row.saga, name)))
            for name in missing.get(row.id, ())
        }
    return found


def _why(row: OutboxRow, committed: dict[Partition, int] | None) -> Silence:
    if committed is None:
        return Silence.UNKNOWN
    if not committed:
        return Silence.ABSENT
    passed = committed.get(Partition(row.topic, row.lane), 0) > (row.offset or 0)
    return Silence.LOST if passed else Silence.BEHIND


def _hint(settings: Settings, rows: Sequence[OutboxRow]) -> None:
    if settings.schemas is None:
        output.progress("with --schemas DIR: who has still to acknowledge them")
    elif settings.broker is None:
        output.progress("with --broker HOST:PORT: who is behind, who is absent, and what is lost")
    if any(row.offset is None for row in rows):
        output.progress("recorded and not published: does a worker run? see: saga doctor")


def _data(row: OutboxRow, told: Told, silent: Silent) -> dict[str, Any]:
    return {
        "id": row.id,
        "saga": row.saga,
        "workflow": row.workflow_id,
        "type": row.type,
        "level": told.level(row),
        "created": row.created,
        "published": row.published,
        "topic": row.topic,
        "partition": row.lane,
        "offset": row.offset,
        "silent": silent,
    }


def _row(row: OutboxRow, told: Told, silent: Silent, now: datetime) -> list[str]:
    at = f"{row.topic}/{row.lane}" + (f"@{row.offset}" if row.offset is not None else "")
    said = ", ".join(f"{name}: {why}" for name, why in silent.items())
    return [row.type, row.workflow_id, told.level(row), f"{rough(now - row.created)} ago", at, said]
