"""One step in words: what begins it, when it succeeds, how it fails, how long it may take, how it is undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from saga.contracts.saga import Saga
from saga.documents.html.address import Address, tag
from saga.documents.html.markup import Content, Markup, element, joined
from saga.documents.html.page import terms
from saga.documents.html.words import duration, no_way_back
from saga.documents.lint import step_fields
from saga.protocol.definition import Step, Undo
from saga.protocol.gates import OPPOSITE


def panel(saga: Saga, step: Step, address: Address) -> Markup:
    """The step under its name; its `id` is where links to it lead."""
    field = field_of(saga, step)
    heading = element(
        "h3",
        step.name,
        tag("pivot", "pivot-tag") if step.name in saga.pivots else None,
        tag("external", "plain") if step.external else None,
        address.to_participant(step.by),
    )
    said = (
        ("Begins", begins(step, address)),
        ("Gate", behind(step)),
        ("Success", joined([element("p", field.get("doc", "")), _emitted(saga, step.emits, address)])),
        ("Failure", joined(failures(saga, step, address))),
        ("Time limit", limit(step, field)),
        ("Undone by", undoing(saga, step, address)),
    )
    return element("article", heading, terms(said), class_="panel", id=f"step-{step.name}")


def field_of(saga: Saga, step: Step) -> Mapping[str, Any]:
    """The step as its author wrote it."""
    return next(field for field in step_fields(saga) if field["name"] == step.name)


def begins(step: Step, address: Address) -> Content:
    """What triggers the step."""
    if not step.on:
        return f"when {step.by} starts a workflow"
    joins = (joined((address.to_event(event) for event in sorted(join)), " and ") for join in step.on)
    return joined(("on ", joined(joins, ", or ")))


def behind(step: Step) -> Content:
    """The feature gate of the step, if it is behind one."""
    if step.gate is None:
        return None
    name, position = step.gate.removeprefix(OPPOSITE), "shut" if step.gate.startswith(OPPOSITE) else "open"
    return f"there only in workflows that began while {name} was {position}; in others nobody waits for its events"


def failures(saga: Saga, step: Step, address: Address) -> Iterator[Markup]:
    """Every way in which the step may not succeed: the business's, then the technical ones."""
    if step.fails:
        yield element("p", _told(saga, step.fails, address))
    if not step.on:
        yield element("p", "It begins in the transaction of whoever starts it: what is rolled back never happened.")
    elif step.name in saga.after_pivot:
        yield element("p", "It may not fail: an error is tried again, then it is stuck until an operator resolves it.")
    elif step.on_error == "fail":
        yield element("p", "An error is tried again; when the tries are spent the step fails and the workflow unwinds.")
    else:
        yield element("p", "An error is tried again; when the tries are spent the workflow is parked until an operator acts.")


def limit(step: Step, field: Mapping[str, Any]) -> Content:
    """How long it may take, and what it means when it took longer."""
    if step.timeout is None:
        return None
    return joined((element("strong", duration(step.timeout)), ". ", field["step"].get("timeout_doc")))


def undoing(saga: Saga, step: Step, address: Address) -> Content:
    """How it is undone, or why it is not."""
    if said := no_way_back(saga, step):
        return said
    if step.compensated is Undo.NOTHING:
        return "Nothing: it leaves nothing to undo."
    return _told(saga, step.compensated, address) if step.compensated else "Nothing: it cannot be undone."


def _emitted(saga: Saga, emits: tuple[str, ...], address: Address) -> Markup:
    said = [element("p", _told(saga, event, address)) for event in emits]
    return joined(said if len(emits) == 1 else [element("p", "It ends with one of these:"), *said])


def _told(saga: Saga, event: str, address: Address) -> Markup:
    return joined((address.to_event(event), ": ", saga.types[event].get("doc", "")))
