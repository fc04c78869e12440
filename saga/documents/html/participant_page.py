"""The page of a participant: what it does in the saga, what it hears and says, and under which names it is found."""

from __future__ import annotations

from collections.abc import Iterable

from saga.contracts.saga import Saga
from saga.contracts.topics import group, saga_topics
from saga.documents.html.address import Address, tag
from saga.documents.html.markup import Markup, element, joined
from saga.documents.html.page import link, page, section, table, terms
from saga.documents.html.picture import is_wide
from saga.documents.html.saga_page import flow
from saga.documents.html.step_panel import panel
from saga.documents.html.words import MEANING
from saga.documents.statement import Statement, is_control, statements


def participant_page(saga: Saga, participant: str) -> str:
    """The whole page."""
    address = Address(saga, "../")
    told = statements(saga)
    return page(
        participant,
        element("h1", participant, " ", tag("initiator", "plain") if participant == saga.initiator else None),
        element("p", "Its part in saga ", link(saga.name, "../index.html"), ". ", saga.own.get("doc", ""), class_="lead"),
        terms(
            (
                ("Steps", joined((address.to_step(step.name) for step in saga.owned(participant)), ", ")),
                ("Consumer group", element("code", group(saga.name, participant))),
                ("Topics", joined((element("code", topic) for topic in saga_topics(saga.name)), ", ")),
                ("For machines", link("AsyncAPI 3", f"{participant}.asyncapi.json")),
            )
        ),
        element(
            "div",
            element("div", section("In the flow", flow(saga, address, participant)), class_="sticky"),
            section("What it does", *(panel(saga, step, address) for step in saga.owned(participant))),
            class_=None if is_wide(saga) else "two",
        ),
        section("What it says", _table(saga, (s for s in told if participant in s.by), address, "Heard by")),
        section("What it must handle", _table(saga, (s for s in told if participant in s.heard), address, "From")),
        trail=address.trail(),
        sections=address.sections(),
        here=participant,
    )


def _table(saga: Saga, told: Iterable[Statement], address: Address, last: str) -> Markup:
    """One row for each type, its statements taken together."""
    by_type: dict[str, list[Statement]] = {}
    for said in told:
        by_type.setdefault(said.type, []).append(said)
    rows = [
        [
            type_.removeprefix("saga.") if is_control(type_) else address.to_event(type_),
            tag(MEANING[said[0].status], MEANING[said[0].status] if not is_control(type_) else "plain"),
            joined((address.to_step(step) for step in _steps(said)), ", ") if _steps(said) else "the workflow",
            address.to_participants(frozenset().union(*(s.heard if last == "Heard by" else s.by for s in said))),
        ]
        for type_, said in sorted(by_type.items(), key=lambda entry: is_control(entry[0]))
    ]
    return table(["Event", "Kind", "About step", last], rows)


def _steps(told: Iterable[Statement]) -> list[str]:
    return [*dict.fromkeys(said.step.name for said in told if said.step)]
