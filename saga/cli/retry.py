"""`saga retry`: have parked workflows tried again now. It works on the database alone, the worker does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.parked import MOST, causes
from saga.clock import SystemClock
from saga.errors import DefinitionError
from saga.participant import operator
from saga.settings import Settings
from saga.store.port import Listed, Search

if TYPE_CHECKING:
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore

AT_ONCE = 200
"""Workflows of one transaction: it locks them, and a worker that wants one of them waits."""

Wanted = Mapping[str, Sequence[str]]


def retry(
    workflow_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Workflows that are parked.")] = None,
    matching: Annotated[
        str | None,
        typer.Option("--all-matching", metavar="TEXT", help="All whose step and error, as `saga parked` has them, hold this."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be tried, change nothing.")] = False,
    by: arguments.By = None,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Have parked workflows tried again now, their attempts counted anew; exits 1 if one of them is not parked."""
    if bool(workflow_ids) == bool(matching):
        raise DefinitionError("say which: either ids of workflows, or --all-matching TEXT")
    settings = Settings.load(database=database)
    store = assembly.store(settings)
    try:
        wanted = _matching(store, matching) if matching else _named(store, workflow_ids or [])
        tried = wanted if dry_run else _tried(store, wanted, arguments.person(by))
    finally:
        store.close()
    missing = sorted({*(workflow_ids or [])}.difference(*tried.values()))
    if as_json:
        output.json({"database": assembly.database_name(settings), "dry_run": dry_run, "tried": tried, "not_parked": missing})
    else:
        _tell(tried, "would be tried again" if dry_run else "is tried again now")
    if missing or not tried:
        what = ", ".join(missing) or f"anything that matches {matching!r}"
        output.error(f"not parked in {assembly.database_name(settings)}: {what}. See: saga parked")
        raise typer.Exit(1)


def _tell(tried: Wanted, what: str) -> None:
    for saga, ids in tried.items():
        for workflow_id in ids:
            output.line(f"{saga} {workflow_id} {what}")


def _named(store: SqliteStore | PostgresStore, ids: Sequence[str]) -> Wanted:
    wanted: dict[str, list[str]] = {}
    for workflow_id in dict.fromkeys(ids):
        for saga, workflow, _ in store.find(workflow_id):
            if any(map(operator.is_parked, workflow.fences.values())):
                wanted.setdefault(saga, []).append(workflow_id)
    return wanted


def _matching(store: SqliteStore | PostgresStore, text: str) -> Wanted:
    wanted: dict[str, list[str]] = {}
    found = store.search(Search(parked=True), MOST, longest_waiting=True)
    for one in found:
        if _matches(one, text.casefold()):
            wanted.setdefault(one.saga, []).append(one.workflow.id)
    if len(found) == MOST:
        output.progress(f"looked at the {MOST} that wait longest; there are more, so repeat the command")
    return wanted


def _matches(one: Listed, text: str) -> bool:
    said = (line for fence, cause in causes(one) for line in (f"{cause.step}: {cause.error}", f"{fence.step}: {fence.error}"))
    return any(text in line.casefold() for line in said)


def _tried(store: SqliteStore | PostgresStore, wanted: Wanted, by: str) -> Wanted:
    """Those that were still parked once they were locked."""
    tried: dict[str, list[str]] = {}
    for saga, ids in wanted.items():
        for begin in range(0, len(ids), AT_ONCE):
            with store.unit() as unit:
                locked = unit.load(saga, ids[begin : begin + AT_ONCE]).values()
                done = operator.retry(unit, saga, locked, SystemClock().now(), by=by)
            tried.setdefault(saga, []).extend(done)
    return {saga: ids for saga, ids in tried.items() if ids}
