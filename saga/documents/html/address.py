"""Where the pages of a saga are, seen from one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from saga.contracts.saga import Saga
from saga.documents.html.markup import Markup, element, joined
from saga.documents.html.page import Links, link
from saga.documents.html.picture import owners


@dataclass(frozen=True, slots=True)
class Address:
    """`up` leads from the page to the saga's folder: empty in it, `../` below it."""

    saga: Saga
    up: str

    def step(self, name: str) -> str:
        return f"{self.up}index.html#step-{name}"

    def event(self, name: str) -> str:
        return f"{self.up}events/{self.stem(name)}.html"

    def participant(self, name: str) -> str:
        return f"{self.up}participants/{name}.html"

    def anywhere(self, name: str) -> str:
        """The place of a step or an event."""
        return self.step(name) if name in self.saga else self.event(name)

    def stem(self, event: str) -> str:
        """An event's name inside the saga."""
        return event.removeprefix(f"{self.saga.namespace}.")

    def trail(self) -> Links:
        """The way from the beginning to the saga."""
        return [("Contracts", f"{self.up}../index.html"), (self.saga.name, f"{self.up}index.html")]

    def sections(self) -> Mapping[str, Links]:
        """All pages of the saga."""
        return {
            "Saga": [(self.saga.name, f"{self.up}index.html")],
            "Participants": [(name, self.participant(name)) for name in sorted(self.saga.participants)],
            "Events": [(self.stem(name), self.event(name)) for name in events(self.saga)],
        }

    def to_event(self, name: str) -> Markup:
        return link(self.stem(name), self.event(name))

    def to_step(self, name: str) -> Markup:
        return link(name, self.step(name))

    def to_participant(self, name: str) -> Markup:
        """Its name, with its colour."""
        dot = element("span", class_=f"dot owner-{owners(self.saga)[name]}", aria_hidden="true")
        return element("span", dot, link(name, self.participant(name)), class_="owner-name")

    def to_participants(self, names: frozenset[str]) -> Markup:
        """Their names; `everyone` where it is all of several."""
        if names == self.saga.participants and len(names) > 1:
            return element("span", "everyone", class_="plain")
        return joined(map(self.to_participant, sorted(names)), ", ")


def events(saga: Saga) -> list[str]:
    """The saga's own events, by step and then as its schema names them."""
    found = [e for step in saga.steps for e in (*step.outcomes, step.compensated) if isinstance(e, str)]
    return [*dict.fromkeys(found)]


def tag(text: str, kind: str) -> Markup:
    """A small mark; `kind` gives its colour."""
    return element("span", text, class_=f"tag {kind}")
