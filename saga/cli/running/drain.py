"""`saga drain`: whether the last workflow of an old version has ended, so that the code for it may go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.count import many
from saga.settings import Settings
from saga.store.archive import Search
from saga.store.dead_letter import LetterSearch, LetterState, Reason

if TYPE_CHECKING:
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore

MOST = 10_000
"""Of records that wait for an unknown version no more are looked at."""


def drain(
    saga: Annotated[str, typer.Argument(metavar="SAGA", help="Name of the saga.")],
    version: Annotated[int, typer.Option("--version", metavar="N", max=arguments.BIGGEST, help="The version that is to go.")],
    database: arguments.DatabaseUrl = None,
    never_seen: Annotated[bool, typer.Option("--never-seen", help="Pass a version of which nothing was ever here.")] = False,
    as_json: output.AsJson = False,
) -> None:
    """Count what of a version of a saga has not ended in this database; exits 1 while there is something.

    The version may go once this is 0 for every participant, and nobody starts it any more. Reads only. A saga or a version of
    which nothing was ever here is not found: a misspelt name, a wrong number or database would look drained.
    """
    settings = Settings.load(database=database)
    store = assembly.store(settings)
    try:
        left = store.left(saga, version)
        kept = store.letters(LetterSearch(saga=saga, reason=Reason.UNKNOWN_VERSION, state=LetterState.WAITING), MOST)
        queued, place = sum(letter.version == version for letter in kept), assembly.database_name(settings)
        if not queued and (unknown := _unknown(store, saga) or ("" if never_seen else _unseen(store, saga, version))):
            output.error(f"in {place} {unknown}")
            raise typer.Exit(1)
    finally:
        store.close()
    empty = not (left.open or left.unpublished or queued)
    if as_json:
        output.json({"database": place, "saga": saga, "version": version, "drained": empty, **left._asdict(), "queued": queued})
    elif empty:
        output.line(f"{saga} v{version} is drained in {place}", style="green")
    else:
        output.table(
            ["open", "parked", "with a timer", "unpublished", "queued"],
            [[*map(str, left), str(queued)]],
            title=f"{saga} v{version} in {place}",
        )
        if queued:
            waiting = many(queued, f"record of v{version} waits", f"records of v{version} wait")
            output.progress(f"{waiting} for code that knows it: saga dead-letters list")
        output.progress(f"see: saga list --saga {saga} --version {version}")
    if not empty:
        raise typer.Exit(1)


def _unknown(store: SqliteStore | PostgresStore, saga: str) -> str:
    """Why a saga is not known here; empty if it has lanes, or anything else tells of it."""
    known = {lane.saga for lane in store.lanes()}
    if saga in known or store.search(Search(saga=saga), 1) or store.letters(LetterSearch(saga=saga), 1):
        return ""
    return (
        f"nothing of a saga {saga!r} was ever seen; it knows {', '.join(sorted(known)) or 'none'}. "
        f"Correct the name, or look in another database with --database URL"
    )


def _unseen(store: SqliteStore | PostgresStore, saga: str, version: int) -> str:
    """Why a version is not known here; empty if there is a workflow of it, ended or not."""
    if store.search(Search(saga=saga, version=version), 1):
        return ""
    latest = store.search(Search(saga=saga), 1)
    there = f"the latest workflow is of v{latest[0].workflow.version}" if latest else "there is no workflow at all"
    return (
        f"no workflow of {saga} v{version} was ever seen, or all are deleted (SAGA_KEEP_WORKFLOWS); {there}. "
        f"Correct the number, or say --never-seen if this participant need not have seen one"
    )
