"""`saga rebuild`: a participant's database, made anew from the topics, held against the one that is there, put in its place."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.past.rebuilding import Total, carry_out, make_ready
from saga.cli.past.share import Job
from saga.cli.past.swapping import Swapped, finished, mark, swapped
from saga.count import many
from saga.errors import DefinitionError, StoreError
from saga.replay.comparison import Comparison, compare
from saga.replay.courtesy import REST, Neighbour
from saga.replay.rebuild import Rebuild
from saga.settings import Settings
from saga.store.tables import Tables

SHOWN = 10
MOST_PROCESSES = 4


def rebuild(
    target: arguments.Target,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="An empty database, or one whose rebuild was cut short.")],
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Only what was stated by then: 2026-01-31T12:00:00Z.")
    ] = None,
    sql: Annotated[
        list[Path] | None, typer.Option("--sql", metavar="FILE", help="Makes the service's own tables, once; repeatable.")
    ] = None,
    sql_after: Annotated[
        list[Path] | None, typer.Option("--sql-after", metavar="FILE", help="Run once all is read: constraints, indexes.")
    ] = None,
    engine_tables_only: Annotated[
        bool, typer.Option("--engine-tables-only", help="Leave the service's own tables alone.")
    ] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Take workflows that are not whole, and mark them.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is published meanwhile, until Ctrl-C.")] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", metavar="N", min=1, help="How many share the lanes; 1 on SQLite.")
    ] = None,
    at_most: Annotated[
        str | None,
        typer.Option(
            "--at-most",
            metavar="N",
            help="Records a second; none: all it can. By default it is polite while the participant works.",
        ),
    ] = None,
    against: Annotated[
        bool, typer.Option("--compare", help="Hold it against the live database; exit code 1 if they differ.")
    ] = False,
    swap: Annotated[
        bool, typer.Option("--swap", help="Put it in the place of the live database; its worker must rest.")
    ] = False,
    database: arguments.DatabaseUrl = None,
    broker: arguments.BrokerServers = None,
    as_json: output.AsJson = False,
) -> None:
    """Make a participant's database from its saga's topics. Runs no handler of a step, calls nobody, publishes nothing.

    It may run while the participant lives, and be killed and started again.
    """
    live, shadow = Settings.load(database=database, broker=broker), Settings.load(database=to, broker=broker)
    moment, bound = None if until is None else _moment(until), None if at_most is None else _bound(at_most)
    _refuse_what_makes_no_sense(live, shadow, moment, needs_live=against or swap, swap=swap)
    if swap and (done := finished(target, live, shadow)) is not None:
        data = {"database": assembly.database_name(shadow), "participant": target, "complete": True}
        data |= _put_in_place(live, done, as_json)
        if as_json:
            output.json(data)
        return
    count = 1 if to.startswith("sqlite:") else processes or min(MOST_PROCESSES, os.cpu_count() or 1)
    if count > 1:
        make_ready()
    scripts, after = _scripts("--sql", sql), _scripts("--sql-after", sql_after)
    lanes = _prepare(target, shadow, scripts, evolve=not engine_tables_only, until=moment, partial=partial)
    job = Job(target, to, broker, not engine_tables_only, moment, partial, follow, bound)
    began = time.monotonic()
    total = carry_out(job, [lanes[n::count] for n in range(min(count, len(lanes)))], _neighbour(target, shadow, lanes))
    if total.is_complete:
        _complete(target, shadow, after)
    data = _told(target, shadow, total, time.monotonic() - began, as_json)
    found = _compare(target, live, shadow, as_json, data, tables=not engine_tables_only) if against else None
    if swap and total.is_complete and (found is None or found.is_equal):
        data |= _put_in_place(live, swapped(target, live, shadow), as_json)
    if as_json:
        output.json(data)
    if not total.is_complete or (found is not None and not found.is_equal):
        raise typer.Exit(1)


def _refuse_what_makes_no_sense(
    live: Settings, shadow: Settings, until: datetime | None, *, needs_live: bool, swap: bool
) -> None:
    if needs_live and live.database is None:
        raise DefinitionError("there is no live database to compare with or to replace; set SAGA_DATABASE, or --database")
    if live.database is not None and live.database == shadow.database:
        raise DefinitionError("--to names the live database; rebuild into an empty one beside it, then swap")
    if swap and until is not None:
        raise DefinitionError("what was so at an earlier time cannot take the place of the live database; leave --swap out")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DefinitionError(f"found --until {text!r}; expected a time like 2026-01-31T12:00:00Z") from error
    if moment.tzinfo is None:
        raise DefinitionError(f"found --until {text!r} without a time zone; write 2026-01-31T12:00:00Z for UTC")
    return moment


def _bound(text: str) -> float:
    """Records a second; infinite for none."""
    if text == "none":
        return math.inf
    if not text.isdecimal() or not int(text):
        raise DefinitionError(f"found --at-most {text!r}; expected records a second, like 5000, or none for all it can")
    return int(text)


def _neighbour(target: str, settings: Settings, lanes: Collection[int]) -> Neighbour:
    """The participant as it may live, on whatever database; it is said once that it does."""
    participant = arguments.participant(target)

    def met() -> None:
        rests = f"so this rests {REST:.0f} times as long as it works"
        output.progress(f"{participant.name} is at work, {rests}; --at-most none takes all it can")

    return Neighbour.of(assembly.broker(settings), participant.saga.name, participant.name, lanes, met)


def _scripts(option: str, files: Sequence[Path] | None) -> list[str]:
    return [_script(option, file) for file in files or ()]


def _script(option: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise DefinitionError(f"{option}: {file} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{option}: {file} cannot be read: it is not UTF-8 ({error}); save it as UTF-8") from error


def _prepare(
    target: str, shadow: Settings, scripts: Sequence[str], *, evolve: bool, until: datetime | None, partial: bool
) -> list[int]:
    """Make an empty database one that is being rebuilt; answers the lanes of its saga."""
    participant = arguments.participant(target)
    tables = assembly.tables(shadow, create=True)
    if not _is_lived_on(tables, shadow):
        tables.upgrade()  # of which it may have been killed in the middle
    store = assembly.store(shadow)
    try:
        one = Rebuild(participant, store, assembly.broker(shadow), evolve=evolve, until=until, partial=partial)
        if one.shadow.is_there():
            one.shadow.resume(one.how)
            one.shadow.require(scripts)
        elif not store.lanes():
            one.prepare(scripts)
        else:
            raise DefinitionError(
                f"{assembly.database_name(shadow)} is a database on which a worker has lived; --to names an empty one"
            )
        return one.numbers
    finally:
        store.close()


def _is_lived_on(tables: Tables, shadow: Settings) -> bool:
    try:
        return tables.lived_on()
    except StoreError as error:
        if "does not exist" not in str(error):
            raise
        name = assembly.database_name(shadow)
        raise DefinitionError(f"{name} is not there; make it first: CREATE DATABASE {name.rpartition('/')[2]}") from error


def _complete(target: str, shadow: Settings, scripts: Sequence[str]) -> None:
    with mark(target, shadow) as said:
        said.complete(scripts)


def _told(target: str, shadow: Settings, total: Total, seconds: float, as_json: bool) -> dict[str, Any]:
    rate = round(total.records / seconds) if seconds else 0
    if not as_json:
        state = "up to date" if total.is_complete else "cut short; run the same command to go on"
        read = f"{many(total.records, 'record')}, {rate}/s" if total.records else "nothing new"
        output.line(f"{assembly.database_name(shadow)}: {target}, {read}, {state}")
        _tell_marked(total.marked)
    return {
        "database": assembly.database_name(shadow), "participant": target, "records": total.records, "seconds": seconds,
        "per_second": rate, "complete": total.is_complete, "not_whole": dict(total.marked),
    }  # fmt: skip


def _tell_marked(marked: Mapping[str, Sequence[str]]) -> None:
    for workflow, texts in [*marked.items()][:SHOWN]:
        output.line(f"  {workflow} is not whole: {'; '.join(texts)}")
    if len(marked) > SHOWN:
        output.line(f"  and {len(marked) - SHOWN} more; each says so in `saga show`")


def _put_in_place(live: Settings, done: Swapped, as_json: bool) -> dict[str, Any]:
    if not as_json:
        kept = f"; what was there is kept as {done.kept}" if done.kept else ""
        output.line(f"{assembly.database_name(live)} is the rebuilt one now{kept}. Start the worker")
    return {"swapped": True, "kept": done.kept}


def _compare(target: str, live: Settings, shadow: Settings, as_json: bool, data: dict[str, Any], *, tables: bool) -> Comparison:
    saga = arguments.participant(target).saga.name
    ours, theirs = assembly.store(live), assembly.store(shadow)
    try:
        found = compare(saga, ours, theirs, tables=tables)
    finally:
        ours.close()
        theirs.close()
    data["compared"] = {
        "rows": dict(found.compared), "differing": dict(found.differing), "not_published": found.ahead,
        "not_yet_read": found.behind, "differences": [one._asdict() for one in found.differences],
    }  # fmt: skip
    if not as_json:
        _tell_comparison(found)
    return found


def _tell_comparison(found: Comparison) -> None:
    for table, count in sorted(found.compared.items()):
        output.line(f"  {table}: {many(count, 'row')}, {found.differing[table] or 'none'} differ")
    for one in found.differences:
        output.line(f"    {one.table} {one.workflow}: {one.text}")
    if found.ahead:
        output.line(f"  {many(found.ahead, 'workflow')} had something committed that was not published: it is done again")
    if found.behind:
        output.line(f"  {many(found.behind, 'workflow')} went on, of which the live database has not read yet")
    output.line("they are equal" if found.is_equal else many(sum(found.differing.values()), "difference"))
