"""`saga abort`, `saga skip`, `saga resolve`: an operator's requests to the store of a step's owner, which may refuse them.

They write events, so each names the participant whose contracts say how.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import orjson
import typer
from pydantic import ValidationError

from saga import assembly
from saga.cli import arguments, output
from saga.contracts.event import Event
from saga.errors import DefinitionError
from saga.participant.participant import Participant
from saga.settings import Settings
from saga.store.port import Transaction

WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="The workflow's id.")]
StepName = Annotated[str, typer.Argument(metavar="STEP", help="A step of this participant.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What an operator did."""

    database: str
    saga: str
    workflow: str
    step: str | None = None
    event: str | None = None
    reason: str
    by: str


def abort(
    target: arguments.Target,
    workflow_id: WorkflowId,
    reason: arguments.Reason,
    by: arguments.By = None,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Wish that a workflow unwinds; the owner of the pivot decides whether that came in time."""
    settings, person = Settings.load(database=database), arguments.person(by)
    with _at(target, settings) as (participant, tx):
        participant.abort(workflow_id, tx, reason=reason, by=person)
    place, saga = assembly.database_name(settings), participant.saga.name
    done = _Done(database=place, saga=saga, workflow=workflow_id, reason=reason, by=person)
    _tell(done, f"{saga} {workflow_id} is asked to unwind", as_json)


def skip(
    target: arguments.Target,
    workflow_id: WorkflowId,
    step: StepName,
    reason: arguments.Reason,
    by: arguments.By = None,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """Give up a parked step before the pivot: it will not happen, and the workflow unwinds."""
    settings, person = Settings.load(database=database), arguments.person(by)
    with _at(target, settings) as (participant, tx):
        participant.skip(workflow_id, step, tx, reason=reason, by=person)
    place, saga = assembly.database_name(settings), participant.saga.name
    done = _Done(database=place, saga=saga, workflow=workflow_id, step=step, reason=reason, by=person)
    _tell(done, f"step {step} of {saga} {workflow_id} is skipped, and the workflow unwinds", as_json)


def resolve(
    target: arguments.Target,
    workflow_id: WorkflowId,
    step: StepName,
    event: Annotated[str, typer.Option("--event", metavar="NAME", help="How it ended: one of the step's events.")],
    reason: arguments.Reason,
    fields: Annotated[str, typer.Option("--fields", metavar="JSON", help="The fields of the event.")] = "{}",
    by: arguments.By = None,
    database: arguments.DatabaseUrl = None,
    as_json: output.AsJson = False,
) -> None:
    """State what you found out of a step that waits: how its action ended, or that it was undone by hand. Runs no handler."""
    settings, person = Settings.load(database=database), arguments.person(by)
    with _at(target, settings) as (participant, tx):
        stated = _event(participant, step, event, fields)
        participant.resolve(workflow_id, step, stated, tx, reason=reason, by=person)
    place, saga, name = assembly.database_name(settings), participant.saga.name, participant.saga.event(event)
    done = _Done(database=place, saga=saga, workflow=workflow_id, step=step, event=name, reason=reason, by=person)
    _tell(done, f"step {step} of {saga} {workflow_id} is resolved with {name}", as_json)


@contextmanager
def _at(target: str, settings: Settings) -> Iterator[tuple[Participant, Transaction]]:
    """The participant, and a transaction of its store that commits at the end."""
    participant = arguments.participant(target)
    if (registry := assembly.registry(settings)) is not None:
        participant.use(registry)
    store = assembly.store(settings)
    try:
        with store.transaction() as tx:
            yield participant, tx
    finally:
        store.close()


def _tell(done: _Done, text: str, as_json: bool) -> None:
    if as_json:
        output.json(done)
    else:
        output.line(f"{text}; see: saga show {done.workflow}")


def _event(participant: Participant, step: str, name: str, fields: str) -> Event:
    """The event as the service's own view of it, so that a value means what it means there."""
    full = participant.saga.event(name)
    ends = [(view, known) for handler in participant.handlers.values() if handler.step == step
            for view, known in handler.results.items()]  # fmt: skip
    view = next((view for view, known in ends if known == full), None)
    if view is None:
        expected = " or ".join(known for _, known in ends) or "a step of this participant"
        raise DefinitionError(f"step {step!r} of {participant.name!r} cannot end with {full}; expected {expected}")
    return _valid(view, full, fields)


def _valid(view: type[Event], name: str, fields: str) -> Event:
    try:
        given = orjson.loads(fields)
    except orjson.JSONDecodeError as error:
        raise DefinitionError(f"--fields is no JSON: {error}; expected the fields of {name} as an object") from error
    if not isinstance(given, dict) or given.keys() - view.model_fields.keys():
        raise DefinitionError(f"found --fields {fields}; expected an object of {', '.join(view.model_fields)}")
    try:
        return view.model_validate_json(fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise DefinitionError(f"--fields do not make a {name}: {wrong}") from error
