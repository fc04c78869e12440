"""`saga show`: one workflow as this service's database knows it, for somebody who was woken up by it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from saga import assembly
from saga.cli import arguments, output
from saga.cli.looking.account import Account, account
from saga.cli.looking.levels import Told
from saga.clock import SystemClock
from saga.contracts.saga import Saga
from saga.protocol.facts import WorkflowStatus
from saga.settings import Settings
from saga.span import rough
from saga.store.dead_letter import DeadLetter, LetterSearch

if TYPE_CHECKING:
    from saga.contracts.avro import AvroCodec

MOST_NUMBERS = 20
_HEADLINE = {
    WorkflowStatus.COMPLETED: "bold green",
    WorkflowStatus.COMPENSATED: "bold cyan",
    WorkflowStatus.FAILED: "bold yellow",
}


def show(
    workflow_id: Annotated[str, typer.Argument(metavar="ID", help="The workflow's id, which is the Kafka key.")],
    schemas: Annotated[
        Path | None, typer.Option("--schemas", metavar="DIR", help="Contract folder: decodes results, says what is awaited.")
    ] = None,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Show what this service's database knows of a workflow. Reads only."""
    settings = Settings.load(database=database, schemas=schemas)
    contracts = Saga.load(settings.schemas) if settings.schemas else None
    now, place = SystemClock().now(), assembly.database_name(settings)
    found, letters = _accounts(settings, workflow_id, now, contracts), _letters(settings, workflow_id)
    if not found and not letters:
        output.error(
            f"no workflow {workflow_id!r} in {place}: a service knows only the workflows that reached it{_pruned(settings)}. "
            f"Look in another service's database with --database URL, or check the id."
        )
        raise typer.Exit(1)
    if as_json:
        output.json({"database": place, "workflows": found, "dead_letters": [str(letter.place) for letter in letters]})
        return
    for one in found:
        _tell(one, place, now, contracts)
    for letter in letters:
        output.line(f"dead letter {letter.place}, {letter.state} ({letter.reason}): {letter.error}", style="bold red")
        output.line(f"  > saga dead-letters show {letter.place}")


def _pruned(settings: Settings) -> str:
    """That it may have been there, where rows of workflows have been deleted."""
    store = assembly.store(settings)
    try:
        until = max((lane.pruned for lane in store.lanes() if lane.pruned), default=None)
    finally:
        store.close()
    if until is None:
        return ""
    gone = f"those that ended up to {output.moment(until)} were deleted here (SAGA_KEEP_WORKFLOWS)"
    return f", and {gone}, or had aged out when it was rebuilt"


def _letters(settings: Settings, workflow_id: str) -> list[DeadLetter]:
    """Records of this workflow that could not be taken in."""
    store = assembly.store(settings)
    try:
        return store.letters(LetterSearch(workflow_id=workflow_id), 100)
    finally:
        store.close()


def _accounts(settings: Settings, workflow_id: str, now: datetime, contracts: Saga | None) -> list[Account]:
    store = assembly.store(settings)
    try:
        rows, told = [*store.find(workflow_id)], Told(store.lanes(), contracts)
    finally:
        store.close()
    return [
        account(saga, workflow, outbox, now, *_fitting(saga, workflow.version, contracts, settings), told)
        for saga, workflow, outbox in rows
    ]


def _fitting(saga: str, version: int, contracts: Saga | None, settings: Settings) -> tuple[Saga | None, AvroCodec | None]:
    """The contracts if they are this saga's; results of another version may be written otherwise, so they stay bytes."""
    if contracts is None or (contracts.name, contracts.version) != (saga, version):
        return None, None
    from saga.contracts.avro import AvroCodec

    return contracts, AvroCodec(contracts, assembly.registry(settings))


def _tell(one: Account, place: str, now: datetime, contracts: Saga | None) -> None:
    output.line(_headline(one, now), style=_HEADLINE.get(one.status, "bold"))
    for trouble in one.trouble:
        output.line(f"  ! {trouble}", style="bold red")
    for remedy in one.remedies:
        output.line(f"  > {remedy}")
    for awaited in one.awaits:
        output.line(f"  awaits {awaited}")
    output.line(f"  {_times(one)}")
    if one.gates:
        output.line(f"  gates: {', '.join(f'{name} {position}' for name, position in one.gates.items())}")
    output.line(f"  {one.participant or 'unknown participant'}, lane {one.lane}, {place}")
    if (hint := _hint(one, contracts)) is not None:
        output.line(f"  {hint}")
    _tell_interventions(one)
    _tell_steps(one)
    _tell_facts(one)


def _headline(one: Account, now: datetime) -> str:
    status = {WorkflowStatus.FAILED: "FAILED, unwinding"}.get(one.status, one.status.value.upper())
    if one.exceptions:
        status += f" WITH EXCEPTIONS ({', '.join(one.exceptions)})"
    if one.parked:
        status += ", PARKED"
    if one.closed:
        return f"{one.saga} v{one.version} {one.id}: {status} after {rough(one.closed - one.opened)}"
    return f"{one.saga} v{one.version} {one.id}: {status}, open for {rough(now - one.opened)}"


def _times(one: Account) -> str:
    times = (("opened", one.opened), ("closed", one.closed), ("deadline", one.deadline), ("unwound by", one.unwind_by))
    return ", ".join(f"{word} {output.moment(when)}" for word, when in times if when)


def _hint(one: Account, contracts: Saga | None) -> str | None:
    if contracts is None:
        return None if one.closed else "with --schemas DIR: what it awaits from others, and the results decoded"
    if (contracts.name, contracts.version) != (one.saga, one.version):
        return f"the contracts given are of {contracts.name} v{contracts.version}: nothing was decoded with them"
    return None


def _tell_interventions(one: Account) -> None:
    rows = [
        [_when(act.at, one.opened), act.by, act.verb, act.step, _short(act.event), act.reason or ""]
        for act in one.interventions
    ]
    _section("what operators did", ["at", "who", "did", "step", "event", "why"], rows)


def _tell_steps(one: Account) -> None:
    rows = [
        [
            step.step,
            step.status.value,
            str(step.attempt or ""),
            _short(step.event),
            _when(step.changed, one.opened),
            _said(step.result),
        ]
        for step in one.steps
    ]
    _section("own steps", ["step", "status", "attempt", "event", "changed", "result"], rows)


def _tell_facts(one: Account) -> None:
    taken = [
        [_when(f.received, one.opened), f.step, f.status.value, _short(f.event), f.state, f"{f.topic}/{f.partition}@{f.offset}"]
        for f in one.taken
    ]
    stated = [
        [
            str(f.sequence),
            _when(f.stated, one.opened),
            f.step,
            f.status.value,
            _short(f.event),
            f.level.value,
            ", ".join(f.missing or ()),
        ]
        for f in one.stated
    ]
    _section("facts taken in", ["received", "step", "status", "event", "state", "from"], taken)
    _section("facts stated", ["sequence", "stated", "step", "status", "event", "level", "not handled by"], stated)
    if one.handled:
        output.line("")
        output.line(f"facts stated and handled by all that they concern: {_numbers(one.handled)}")


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) <= MOST_NUMBERS else f"{len(numbers)} of them"


def _section(title: str, headers: list[str], rows: list[list[str]]) -> None:
    if rows:
        output.line("")
        output.table(headers, rows, title=title)


def _when(when: datetime | None, opened: datetime) -> str:
    """The time of day, with the date where it is not the day on which the workflow began."""
    said = output.moment(when)
    return said.removeprefix(f"{output.moment(opened)[:10]} ")


def _said(result: Any) -> str:
    match result:
        case None:
            return ""
        case int():
            return f"{result} bytes"
    return orjson.dumps(result, default=str).decode()


def _short(event: str | None) -> str:
    return (event or "").rpartition(".")[2]
