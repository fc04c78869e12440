"""The page of a saga: its purpose, its flow as a picture and in words, its events, and what travels on the wire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saga.contracts.saga import Saga
from saga.contracts.topics import acks_topic, compensations_topic, events_topic
from saga.documents.html.address import Address, events, tag
from saga.documents.html.editions import editions
from saga.documents.html.markup import Content, Markup, element, joined, trusted
from saga.documents.html.page import bullets, code, link, page, section, table, terms
from saga.documents.html.picture import is_wide, picture
from saga.documents.html.step_panel import panel
from saga.documents.html.words import MEANING, duration
from saga.documents.past import Edition
from saga.documents.statement import Statement, is_control, statements
from saga.protocol.diagram import mermaid


def saga_page(saga: Saga, told_before: Sequence[Edition]) -> str:
    """The whole page."""
    address = Address(saga, "")
    return page(
        saga.name,
        element("h1", saga.name, " ", tag(f"version {saga.version}", "plain")),
        element("p", saga.own.get("doc", ""), class_="lead"),
        terms(_facts(saga, address)),
        element(
            "div",
            element("div", section("The flow", flow(saga, address)), class_="sticky"),
            section("Step by step", *(panel(saga, step, address) for step in saga.steps)),
            class_=None if is_wide(saga) else "two",
        ),
        section("Events", _events(saga, address)),
        section("On the wire", *_wire(saga, address)),
        section("History", editions(told_before)),
        section("For machines and READMEs", *_machines(saga)),
        trail=address.trail()[:1],
        sections=address.sections(),
        here=saga.name,
    )


def flow(saga: Saga, address: Address, of: str | None = None) -> Markup:
    """The picture in a frame that scrolls where it is too narrow, with its legend."""
    return element(
        "figure",
        element(
            "div",
            picture(saga, address.anywhere, of=of),
            class_="flow",
            tabindex=0,
            role="region",
            aria_label="Flow of the saga; the steps are told in words below",
        ),
        element("figcaption", _legend()),
        style="margin:0",
    )


def _legend() -> Markup:
    def entry(drawn: str, text: str) -> Markup:
        return element("li", trusted(f'<svg viewBox="0 0 30 12" aria-hidden="true">{drawn}</svg>'), text)

    return element(
        "ul",
        entry('<path class="way forward" d="M1 6h28"/>', "goes forward"),
        entry('<path class="way back" d="M1 6h28"/>', "unwinds after a failure or an abort"),
        entry('<g class="failed"><path class="icon" d="M10 1.5l9 9M19 1.5l-9 9"/></g>', "fails with"),
        entry('<g class="undone"><path class="icon" d="M13 2l-3 3 3 3M10 5h6a2.5 2.5 0 0 1 0 5h-3"/></g>', "is undone by"),
        class_="legend",
    )


def _facts(saga: Saga, address: Address) -> Iterator[tuple[str, Content]]:
    yield "Owner", saga.owner
    yield "Participants", joined(map(address.to_participant, sorted(saga.participants)), ", ")
    if saga.deadline:
        yield "Deadline", joined((element("strong", duration(saga.deadline)), ". ", saga.own["saga"].get("deadline_doc")))
    yield "Begins with", joined((address.to_step(saga.root.name), " by ", address.to_participant(saga.initiator)))
    yield "Ends with", address.to_step(saga.sink.name)
    pivots = joined((address.to_step(step.name) for step in saga.steps if step.name in saga.pivots), ", ")
    yield "Pivot", joined((pivots, ": from here on the workflow only goes forward."))


def _events(saga: Saga, address: Address) -> Markup:
    told = [s for s in statements(saga) if not is_control(s.type)]
    by_type = {s.type: s for s in told}
    return table(
        ["Event", "Kind", "Meaning", "From", "To"],
        [
            [
                address.to_event(event),
                tag(MEANING[by_type[event].status], MEANING[by_type[event].status]),
                saga.types[event].get("doc", ""),
                address.to_participants(by_type[event].by),
                address.to_participants(by_type[event].heard),
            ]
            for event in events(saga)
            if event in by_type
        ],
    )


def _wire(saga: Saga, address: Address) -> Iterator[Markup]:
    yield terms(
        (
            ("What is done", element("code", events_topic(saga.name))),
            ("All else", element("code", compensations_topic(saga.name))),
            ("Acknowledgments", element("code", acks_topic(saga.name))),
            ("Key", "the workflow id, acknowledgments have none; all topics have one partition count, which never changes"),
            ("Headers", "CloudEvents 1.0 in binary mode; they tell all that is needed to route and to decide"),
            ("Value", "Avro in the Confluent wire format"),
        )
    )
    yield element("p", "Besides their events, participants tell each other these:", style="margin:1rem 0 .5rem")
    told = [said for said in statements(saga) if is_control(said.type)]
    yield table(
        ["Record", "Meaning", "From", "To"], (_control(saga, type_, told, address) for type_ in sorted({s.type for s in told}))
    )


def _control(saga: Saga, type_: str, told: Sequence[Statement], address: Address) -> list[Content]:
    own = [said for said in told if said.type == type_]
    return [
        type_.removeprefix("saga."),
        saga.types[type_].get("doc", ""),
        address.to_participants(frozenset().union(*(said.by for said in own))),
        address.to_participants(frozenset().union(*(said.heard for said in own))),
    ]


def _machines(saga: Saga) -> Iterator[Markup]:
    parts = (link(f"{name}.asyncapi.json", f"participants/{name}.asyncapi.json") for name in sorted(saga.participants))
    yield bullets([joined((link("asyncapi.json", "asyncapi.json"), ", AsyncAPI 3 of the whole saga")), *parts])
    yield element("details", element("summary", "The flow in Mermaid"), code(f"```mermaid\n{mermaid(saga)}\n```"))
