"""`saga drain`: whether the last workflow of an old version has ended, so that the code for it may go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from saga import assembly
from saga.cli import arguments, output
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
    as_json: output.AsJson = False,
) -> None:
    """Count what of a version of a saga has not ended in this database; exits 1 while there is something.

    The version may go once this is 0 for every participant, and nobody starts it any more. Reads only. A saga of which nothing
    was ever here is not found: a misspelt name, or a wrong database, would look drained.
    """
    settings = Settings.load(database=database)
    store = assembly.store(settings)
    try:
        left = store.left(saga, version)
        kept = store.letters(LetterSearch(saga=saga, reason=Reason.UNKNOWN_VERSION, state=LetterState.WAITING), MOST)
        known = _known(store, saga)
    finally:
        store.close()
    queued, place = sum(letter.version == version for letter in kept), assembly.database_name(settings)
    empty = not (left.open or left.unpublished or queued)
    if saga not in known:
        output.error(
            f"nothing of a saga {saga!r} was ever in {place}, which knows {', '.join(sorted(known)) or 'none'}. "
            f"Correct the name, or look in another database with --database URL"
        )
        raise typer.Exit(1)
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
            output.progress(f"{queued} records of v{version} wait for code that knows it: saga dead-letters list")
        output.progress(f"see: saga list --saga {saga} --version {version}")
    if not empty:
        raise typer.Exit(1)


def _known(store: SqliteStore | PostgresStore, saga: str) -> set[str]:
    """The sagas that have lanes here, and this one if anything else tells of it."""
    known = {lane.saga for lane in store.lanes()}
    if saga not in known and (store.search(Search(saga=saga), 1) or store.letters(LetterSearch(saga=saga), 1)):
        known.add(saga)
    return known
