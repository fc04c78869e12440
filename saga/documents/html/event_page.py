"""The page of an event: what it means, its fields, who states it and who must hear it, an example, and how it changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from saga.contracts.saga import Saga
from saga.contracts.schema import full_name, resolve
from saga.contracts.sensitive import MASK, is_sensitive
from saga.documents.example import example
from saga.documents.html.address import Address, tag
from saga.documents.html.editions import editions
from saga.documents.html.markup import Content, Markup, element, joined
from saga.documents.html.page import code, page, section, table, terms
from saga.documents.html.step_panel import begins, failures, field_of, limit, undoing
from saga.documents.html.words import MEANING, type_name
from saga.documents.past import Edition
from saga.documents.statement import Statement, statements
from saga.protocol.definition import Step
from saga.protocol.facts import FactStatus


def event_page(saga: Saga, event: str, told_before: Sequence[Edition]) -> str:
    """The whole page."""
    address = Address(saga, "../")
    told = [said for said in statements(saga) if said.type == event]
    name = address.stem(event)
    return page(
        name,
        element("h1", name, " ", *(tag(kind, kind) for kind in dict.fromkeys(MEANING[said.status] for said in told))),
        element("p", saga.types[event].get("doc", ""), class_="lead"),
        terms(_facts(saga, event, told, address)),
        section("Fields", *_fields(saga, event)),
        *(_context(saga, said.step, said.status, address) for said in told if said.step and said.status),
        section("Example", *_example(saga, event)),
        section("History", editions(told_before)),
        trail=address.trail(),
        sections=address.sections(),
        here=name,
    )


def _facts(saga: Saga, event: str, told: Iterable[Statement], address: Address) -> Iterator[tuple[str, Content]]:
    for said in told:
        if said.step:
            yield "Emitted by", joined((address.to_participant(said.step.by), ", step ", address.to_step(said.step.name)))
        yield "Consumed by", address.to_participants(said.heard)
    triggered = saga.triggered_by.get(event, ())
    yield "Begins", joined(map(address.to_step, triggered), ", ") if triggered else None
    yield "Topic", joined((element("code", topic) for topic in dict.fromkeys(said.topic for said in told)), ", ")
    yield "Registry subject", element("code", saga.subject(event))
    yield "Avro name", element("code", event)


def _fields(saga: Saga, event: str) -> Iterator[Markup]:
    """The record's own fields, then those of every record inside it."""
    nested: dict[str, Mapping[str, Any]] = {}
    yield _field_table(saga.contract(event), nested, saga)
    shown = {event}
    while waiting := [name for name in nested if name not in shown]:
        name = waiting[0]
        shown.add(name)
        yield element("h3", name.rpartition(".")[2], style="margin:1.5rem 0 .5rem")
        if doc := nested[name].get("doc"):
            yield element("p", doc)
        yield _field_table(nested[name], nested, saga)


def _field_table(record: Mapping[str, Any], nested: dict[str, Mapping[str, Any]], saga: Saga) -> Markup:
    namespace = full_name(record, "").rpartition(".")[0]
    for field in record["fields"]:
        _collect(field["type"], namespace, nested, saga)
    rows = [
        [
            joined((element("code", field["name"]), " ", tag("sensitive", "failure") if is_sensitive(field) else None)),
            type_name(field["type"]),
            _default(field),
            field.get("doc") or "—",
        ]
        for field in record["fields"]
    ]
    return table(["Field", "Type", "If absent", "Meaning"], rows) if rows else element("p", "None.")


def _default(field: Mapping[str, Any]) -> Content:
    return element("code", orjson.dumps(field["default"]).decode()) if "default" in field else "required"


def _collect(schema: Any, namespace: str, nested: dict[str, Mapping[str, Any]], saga: Saga) -> None:
    match schema:
        case str() if (found := resolve(schema, namespace, saga.types)) is not None:
            _collect(saga.types[found], "", nested, saga)
        case list():
            for branch in schema:
                _collect(branch, namespace, nested, saga)
        case {"type": "record"}:
            nested.setdefault(full_name(schema, namespace), schema)
        case dict():
            for key in ("items", "values", "type"):
                if isinstance(schema.get(key), dict | list | str):
                    _collect(schema[key], namespace, nested, saga)


def _context(saga: Saga, step: Step, status: FactStatus, address: Address) -> Markup:
    """The step that emits it, told for the reader of this event."""
    field = field_of(saga, step)
    before = {FactStatus.DONE: "success", FactStatus.FAILED: "failure", FactStatus.COMPENSATED: "undoing"}[status]
    said = terms(
        (
            ("Begins", begins(step, address)),
            ("Success criteria", field.get("doc")),
            ("Failure modes", joined(failures(saga, step, address))),
            ("Time limit", limit(step, field)),
            ("Undone by", undoing(saga, step, address)),
        )
    )
    return section(f"It tells the {before} of step {step.name}", element("div", said, class_="panel"))


def _example(saga: Saga, event: str) -> Iterator[Markup]:
    made = orjson.dumps(example(event, saga.types), option=orjson.OPT_INDENT_2).decode()
    masked = f" Sensitive values are masked ({MASK})." if MASK in made else ""
    yield element("p", f"Made of the schema alone.{masked}")
    yield code(made)
