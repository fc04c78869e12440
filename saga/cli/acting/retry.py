"""`saga retry`: have parked workflows tried again now. It works on the database alone, the worker does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.acting import bulk
from saga.cli.acting.asked import Asked
from saga.cli.acting.selection import Chosen
from saga.cli.options import spelt_out
from saga.clock import SystemClock
from saga.contracts.saga import ControlRecords
from saga.errors import Refused, RegistryUnavailable, SchemaNotFound
from saga.participant import operator
from saga.participant.note import RECORD, Notes
from saga.settings import Settings
from saga.store.lane import require_author
from saga.store.port import Unit

if TYPE_CHECKING:
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore


@spelt_out
def retry(
    asked: Asked,
    workflow_ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Workflows that are parked.")] = None,
    saga: arguments.OfSaga = None,
    participant: Annotated[
        str | None, typer.Option("--participant", metavar="NAME", help="Whose database it is, where it cannot tell by itself.")
    ] = None,
    reason: arguments.WhyNot = None,
) -> None:
    """Have parked workflows tried again now, their attempts counted anew: some by id, or all that fit."""
    selection = replace(asked.selection(workflow_ids or (), saga=saga), parked=True)
    settings, clock = Settings.load(database=asked.database), SystemClock()
    report = asked.report("retry", selection, reason)
    report.database = assembly.database_name(settings)
    store = assembly.store(settings)
    notes = cache(lambda saga: _notes(store, settings, saga, participant))

    def act(one: Chosen, unit: Unit) -> None:
        locked = unit.load(one.saga, [one.workflow]).values()
        if not operator.retry(unit, one.saga, locked, clock.now(), notes(one.saga), by=report.by, reason=reason):
            raise Refused(f"not parked in {report.database}: {one.workflow}. See: saga parked")

    def said(one: Chosen) -> str:
        return f"{one.saga} {one.workflow} {'would be tried again' if asked.dry_run else 'is tried again now'}"

    try:
        chosen = _named(store, selection.ids) if selection.ids else selection.find(store, clock.now())
        for known in {one.saga for one in chosen}:
            notes(known)  # asks in a transaction of its own
        bulk.carry_out(store, chosen, act, report, said=said, yes=asked.yes, as_json=asked.as_json)
    finally:
        store.close()


def _named(store: SqliteStore | PostgresStore, ids: Sequence[str]) -> list[Chosen]:
    """Each with the saga in which it is parked, if in any."""
    chosen = []
    for workflow_id in dict.fromkeys(ids):
        found = store.find(workflow_id)
        sagas = [saga for saga, workflow, _ in found if any(map(operator.is_parked, workflow.fences.values()))]
        chosen += [Chosen(saga, workflow_id) for saga in sagas or [""]]
    return chosen


def _is_registered(store: SqliteStore | PostgresStore, saga: str) -> bool:
    with store.unit() as unit:
        return unit.registered(saga)


def _notes(store: SqliteStore | PostgresStore, settings: Settings, saga: str, participant: str | None) -> Notes | None:
    """How to tell others of it, if that can be done from here; a retry at night must not depend on it."""
    author = store.author(saga) if saga else None
    if participant is not None:
        require_author(author, participant)
    name = author or participant
    if name is None:
        if saga:
            output.progress(
                "only this database will know of it: it cannot say whose it is before a worker has run on it; "
                "--participant NAME would let others know"
            )
        return None
    from saga.contracts.avro import AvroCodec

    codec = AvroCodec(ControlRecords(saga, assembly.registry(settings)))
    if codec.registry is None and _is_registered(store, saga):
        output.progress(
            f"only this database will know of it: the worker of {name} takes the ids of schemas from a registry, and none is "
            f"configured here; SAGA_REGISTRY=URL would let others know"
        )
        return None
    try:
        codec.schema_id(RECORD)
    except (RegistryUnavailable, SchemaNotFound) as error:
        output.progress(f"only this database will know of it: {error}")
        return None
    return Notes(saga, name, codec)
