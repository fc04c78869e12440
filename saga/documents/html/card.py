"""One step as a card of the picture: its name, who owns it, and the events with which it can end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from saga.documents.html.markup import Markup, element, joined
from saga.documents.html.words import duration
from saga.protocol.definition import Definition, Step
from saga.protocol.story import short

HEAD, ROW, PAD = 46.0, 22.0, 8.0
_LETTER, _SMALL, _LARGE = 8.2, 6.6, 9.4
_NARROWEST, _WIDEST = 150.0, 300.0

_ICONS = {
    "done": "M1 5h7M5 1.5 8.5 5 5 8.5",
    "failed": "M1.5 1.5l7 7M8.5 1.5l-7 7",
    "undone": "M4 1 1 4l3 3M1 4h5.5a2.5 2.5 0 0 1 0 5H4",
}
"""Strokes in a square of 10."""

Link = Callable[[str], str]
"""From a step or an event to the place where it is explained."""


class Mark(NamedTuple):
    """What is said of a step at the edge of its card; `kind` gives its colour."""

    text: str
    kind: str


def rows(step: Step) -> list[tuple[str, str]]:
    """How it can end, as (kind, event)."""
    found = [("done", event) for event in step.emits]
    found += [("failed", step.fails)] if step.fails else []
    return [*found, *([("undone", step.compensated)] if isinstance(step.compensated, str) else [])]


def height(step: Step) -> float:
    """By the number of its rows."""
    return HEAD + ROW * len(rows(step)) + PAD


def width(saga: Definition) -> float:
    """One width for all cards, so that the longest name fits if it is not out of all proportion."""
    widest = max(length for step in saga.steps for length in _lengths(saga, step))
    return min(max(widest, _NARROWEST), _WIDEST)


def card(
    saga: Definition,
    step: Step,
    x: float,
    y: float,
    size: float,
    owner: int,
    link: Link,
    *,
    dimmed: bool,
    mark: Mark | None = None,
) -> Markup:
    """The card with its upper left corner at (x, y)."""
    pivot = step.name in saga.pivots
    parts = [
        element("rect", class_="card", x=x, y=y, width=size, height=height(step), rx=9),
        element("path", class_=f"stripe owner-{owner}", d=f"M{x + 1.5:.1f} {y + 9:.1f}V{y + height(step) - 9:.1f}"),
        element(
            "a", element("text", _fit(step.name, size - 24, _LARGE), class_="name", x=x + 14, y=y + 21), href=link(step.name)
        ),
        element("text", _owner(step), class_="owner", x=x + 14, y=y + 38),
        *_badges(step, pivot, x + size - 10, y),
        *_rows(step, x, y + HEAD, size, link),
        *([_mark(mark, x + size / 2, y + height(step))] if mark is not None else []),
    ]
    classes = " ".join(name for name, holds in (("step", True), ("pivot", pivot), ("dimmed", dimmed)) if holds)
    return element("g", *parts, class_=classes)


def _mark(mark: Mark, middle: float, y: float) -> Markup:
    wide = len(mark.text) * _LETTER + 20
    box = element("rect", x=middle - wide / 2, y=y - 8, width=wide, height=22, rx=11)
    return element("g", box, element("text", mark.text, x=middle, y=y + 7.5), class_=f"mark {mark.kind}")


def _badges(step: Step, pivot: bool, right: float, y: float) -> Iterator[Markup]:
    if pivot:
        yield element("rect", class_="badge", x=right - 42, y=y + 9, width=42, height=16, rx=8)
        yield element("text", "pivot", class_="badge-text", x=right - 21, y=y + 20.5)
    if step.timeout:
        yield element("text", duration(step.timeout), class_="limit", x=right, y=y + 38)


def _rows(step: Step, x: float, y: float, size: float, link: Link) -> Iterator[Markup]:
    for number, (kind, event) in enumerate(rows(step)):
        line = y + ROW * number + 14
        icon = element("path", class_="icon", d=_ICONS[kind], transform=f"translate({x + 15:.1f} {line - 9:.1f})")
        text = element("text", _fit(short(event), size - 44, _LETTER), x=x + 32, y=line)
        yield element("g", icon, element("a", joined([text]), href=link(event)), class_=f"ends {kind}")


def _owner(step: Step) -> str:
    return f"{step.by}, external" if step.external else step.by


def _lengths(saga: Definition, step: Step) -> Sequence[float]:
    limit = len(duration(step.timeout)) * _SMALL + 14 if step.timeout else 0
    badge = 56 if step.name in saga.pivots else 14
    ends = (44 + len(short(event)) * _LETTER for _, event in rows(step))
    return [14 + len(step.name) * _LARGE + badge, 24 + len(_owner(step)) * _SMALL + limit, *ends]


def _fit(text: str, room: float, letter: float) -> str:
    most = int(room / letter)
    return text if len(text) <= most + 1 else f"{text[: most - 1]}…"
