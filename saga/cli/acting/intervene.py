"""`saga abort`, `saga skip`, `saga resolve`: an operator's requests to the store of a step's owner, which may refuse them.

They write events, so each names the participant whose contracts say how; one workflow by id, or all open ones that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError

from saga import assembly
from saga.cli import arguments, output
from saga.cli.acting import bulk
from saga.cli.acting.asked import Asked
from saga.cli.acting.result import Result
from saga.cli.acting.selection import Chosen, Selection
from saga.cli.acting.template import template
from saga.cli.options import spelt_out
from saga.clock import SystemClock
from saga.contracts.event import Event
from saga.errors import DefinitionError
from saga.participant.participant import Participant
from saga.settings import Settings
from saga.store.port import Unit

WorkflowId = Annotated[str | None, typer.Argument(metavar="ID", help="A workflow's id; without it, all that fit.")]
StepName = Annotated[str | None, typer.Argument(metavar="STEP", help="A step of this participant; or --step.")]

Verb = Callable[[Participant, str, Unit], None]


@spelt_out
def abort(target: arguments.Target, reason: arguments.Reason, asked: Asked, workflow_id: WorkflowId = None) -> None:
    """Wish that a workflow unwinds; the owner of the pivot decides whether that came in time."""
    selection = asked.selection(_some(workflow_id))
    report = asked.report("abort", selection, reason)

    def verb(participant: Participant, workflow: str, tx: Unit) -> None:
        participant.abort(workflow, tx, reason=reason, by=report.by)

    _carry_out(target, selection, report, asked, verb, "is asked to unwind", "would be asked to unwind")


@spelt_out
def skip(
    target: arguments.Target,
    reason: arguments.Reason,
    asked: Asked,
    workflow_id: WorkflowId = None,
    step_name: StepName = None,
) -> None:
    """Give up a parked step before the pivot: it will not happen, and the workflow unwinds."""
    name = _named("skip", step_name, asked.step)
    selection = asked.selection(_some(workflow_id), step=name)
    report = asked.report("skip", selection, reason)

    def verb(participant: Participant, workflow: str, tx: Unit) -> None:
        participant.skip(workflow, name, tx, reason=reason, by=report.by)

    done, would = "is skipped, and the workflow unwinds", "would be skipped, and the workflow unwind"
    _carry_out(target, replace(selection, parked=not selection.ids), report, asked, verb, done, would)


@spelt_out
def resolve(
    target: arguments.Target,
    event: Annotated[
        str,
        typer.Option("--event", metavar="NAME|FILE.json", help="How it ended: one of the step's events, or both in a file."),
    ],
    reason: arguments.Reason,
    asked: Asked,
    workflow_id: WorkflowId = None,
    step_name: StepName = None,
    fields: Annotated[
        str | None, typer.Option("--fields", metavar="JSON", help="Its fields; {workflow} and {result.NAME} are filled in.")
    ] = None,
) -> None:
    """State what you found out of a step that waits: how its action ended, or that it was undone by hand.

    Runs the step's recording handler, if it has one, and no other.
    """
    name, given = _named("resolve", step_name, asked.step), template(event, fields)
    selection = asked.selection(_some(workflow_id), step=name)
    report = asked.report("resolve", selection, reason)

    def verb(participant: Participant, workflow: str, tx: Unit) -> None:
        known = participant.waiting(workflow, name, tx)
        saga = participant.saga_of(known.version)
        report.event = saga.event(given.event)
        view, result = _view(participant, saga.version, name, report.event), Result.of(participant, known, name)
        stated = _event(view, report.event, given.filled(workflow, result.fields if given.asks_for_results else {}))
        participant.resolve(workflow, name, stated, tx, reason=reason, by=report.by, record=True)
        report.differing += result.differing(workflow, report.event, stated)

    _carry_out(target, selection, report, asked, verb, "is resolved with {event}", "would be resolved with {event}")


def _some(workflow_id: str | None) -> tuple[str, ...]:
    return (workflow_id,) if workflow_id else ()


def _named(verb: str, positional: str | None, option: str | None) -> str:
    if (positional is None) == (option is None):
        raise DefinitionError(f"say which step, once: {verb} MODULE:PARTICIPANT ID STEP, or --step NAME for many workflows")
    return positional or option or ""


def _carry_out(target: str, selection: Selection, report: bulk.Report, asked: Asked, verb: Verb, done: str, would: str) -> None:
    settings = Settings.load(database=asked.database)
    participant = arguments.participant(target)
    if (registry := assembly.registry(settings)) is not None:
        participant.use(registry)
    report.database, saga = assembly.database_name(settings), participant.saga.name
    store = assembly.store(settings)

    def said(one: Chosen) -> str:
        what = (would if asked.dry_run else done).format(event=report.event)
        step = f"step {report.step} of " if report.step and report.verb != "abort" else ""
        return f"{step}{saga} {one.workflow} {what}; see: {output.command('show', one.workflow)}"

    try:
        by_id = [Chosen(saga, workflow) for workflow in selection.ids]
        chosen = by_id or replace(selection, saga=saga).find(store, SystemClock().now())
        bulk.carry_out(
            store, chosen, lambda one, unit: verb(participant, one.workflow, unit), report,
            said=said, yes=asked.yes, as_json=asked.as_json,
        )  # fmt: skip
    finally:
        store.close()


def _view(participant: Participant, version: int, step: str, name: str) -> type[Event]:
    """The service's own view of the event in this version, so that a value means what it means there."""
    handlers = (one for one in participant.handlers.values() if (one.version, one.step) == (version, step))
    ends = [(view, known) for handler in handlers for view, known in handler.results.items()]
    view = next((view for view, known in ends if known == name), None)
    if view is None:
        expected = " or ".join(known for _, known in ends) or "a step of this participant"
        raise DefinitionError(f"step {step!r} of {participant.name!r} cannot end with {name}; expected {expected}")
    return view


def _event(view: type[Event], name: str, fields: Mapping[str, Any]) -> Event:
    if fields.keys() - view.model_fields.keys():
        raise DefinitionError(f"found fields {', '.join(fields)}; expected an object of {', '.join(view.model_fields)}")
    try:
        return view.model_validate_json(orjson.dumps(fields, default=str))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
        raise DefinitionError(f"the fields do not make a {name}: {wrong}") from error
