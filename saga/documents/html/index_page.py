"""The first page: all sagas."""

from __future__ import annotations

from collections.abc import Sequence

from saga.contracts.saga import Saga
from saga.documents.html.address import Address, events, tag
from saga.documents.html.markup import Markup, element, joined
from saga.documents.html.page import link, page, section, table, terms
from saga.documents.html.words import duration


def index_page(sagas: Sequence[Saga]) -> str:
    """The whole page."""
    return page(
        "Contracts",
        element("h1", "Contracts"),
        element(
            "p",
            "What services tell each other, saga by saga: who does what after which event, and how it is undone.",
            class_="lead",
        ),
        element("ul", *map(_card, sagas), class_="cards"),
        section("All events", _events(sagas)),
        trail=[],
    )


def _card(saga: Saga) -> Markup:
    address = Address(saga, f"{saga.name}/")
    said = terms(
        (
            ("Owner", saga.owner),
            ("Deadline", duration(saga.deadline) if saga.deadline else None),
            ("Participants", joined(map(address.to_participant, sorted(saga.participants)), ", ")),
            ("Steps", joined((address.to_step(step.name) for step in saga.steps), ", ")),
        )
    )
    heading = element(
        "h2", link(saga.name, f"{saga.name}/index.html"), " ", tag(f"version {saga.version}", "plain"), style="margin:0"
    )
    return element("li", heading, element("p", saga.own.get("doc", "")), said, class_="panel")


def _events(sagas: Sequence[Saga]) -> Markup:
    """Every event by its name, whatever its saga."""
    rows = [(Address(saga, f"{saga.name}/"), event) for saga in sagas for event in events(saga)]
    rows.sort(key=lambda row: (row[0].stem(row[1]), row[0].saga.name))
    return table(
        ["Event", "Saga", "Meaning"],
        [
            [at.to_event(event), link(at.saga.name, f"{at.saga.name}/index.html"), at.saga.types[event].get("doc", "")]
            for at, event in rows
        ],
    )
