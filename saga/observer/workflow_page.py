"""The page of one workflow: how it stands, what it waits for, and everything that was said about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from shlex import quote

import orjson

from saga.contracts.saga import Saga
from saga.documents.html.card import Mark
from saga.documents.html.markup import Content, Markup, element, joined
from saga.documents.html.page import bullets, code, page, section, table
from saga.observer import words
from saga.observer.lifelines import lifelines
from saga.observer.overview_page import flow
from saga.replay.timeline import Awaited, Moment, Timeline
from saga.span import rough
from saga.text import plain

_MOST_HOLES = 5


def workflow_page(saga: Saga, told: Timeline, now: datetime) -> str:
    """The whole page; `saga` is its version with the gates that are open in it."""
    state = told.state
    mark = words.status(state.status if state else None, exceptions=bool(state and state.exceptions and state.closed))
    return page(
        told.workflow,
        element("h1", told.workflow, " ", mark),
        element("p", _headline(told, now), class_="lead"),
        *(element("p", f"Not whole: {hole}.", class_="trouble") for hole in told.holes[:_MOST_HOLES]),
        element("p", f"And {more:,} more.") if (more := len(told.holes) - _MOST_HOLES) > 0 else None,
        *(element("p", notice, class_="plain") for notice in told.notices),
        section("Awaited", bullets(_awaited(saga, one, now) for one in told.awaited)) if told.awaited else None,
        section(
            "What was said",
            element("div", lifelines(saga, told), class_="flow", tabindex=0, role="region", aria_label="Lifelines"),
        ),
        section("Record by record", table(["When", "Who", "What", "Details"], [*_rows(saga, told)])),
        section("How far it is", flow(saga, _marks(told))),
        section("On the command line", code(_commands(told))),
        trail=[(told.saga, ".")],
        live=True,
    )


def _headline(told: Timeline, now: datetime) -> str:
    if (state := told.state) is None:
        return "Its records cannot be folded into a state."
    began = f"{told.saga} version {state.version}, began {state.opened:%Y-%m-%d %H:%M:%S} UTC"
    if state.closed is not None:
        return f"{began}, over after {rough(state.closed - state.opened)}."
    return f"{began}, open for {rough(now - state.opened)}."


def _awaited(saga: Saga, one: Awaited, now: datetime) -> Markup:
    until = f", until {one.until:%H:%M:%S} UTC" if one.until is not None else ""
    if one.until is not None and one.until < now:
        until = f", overdue since {rough(now - one.until)}"
    return joined((words.participant(saga, one.participant), f": {one.what}{until}"))


def _rows(saga: Saga, told: Timeline) -> Iterator[list[Content]]:
    for moment in told.moments:
        attempt = f", attempt {moment.attempt}" if moment.attempt > 1 else ""
        yield [
            f"{moment.time:%Y-%m-%d %H:%M:%S}.{moment.time.microsecond // 1000:03d}",
            words.participant(saga, moment.source or "unknown"),
            f"{moment.words}{attempt}",
            _details(moment),
        ]


def _details(moment: Moment) -> Markup:
    fields = orjson.dumps(moment.fields, default=plain, option=orjson.OPT_INDENT_2).decode() if moment.fields else "no fields"
    said = f"{moment.type} #{moment.sequence} at {moment.place}\nid {moment.id}\ncause {moment.cause or 'none'}\n{fields}"
    return element("details", element("summary", f"{moment.source} #{moment.sequence}"), code(said), id=f"record-{moment.id}")


def _marks(told: Timeline) -> dict[str, Mark]:
    steps = told.state.steps if told.state is not None else {}
    marks = {name: Mark(*words.STEP[stands]) for name, stands in steps.items() if stands in words.STEP}
    return {**{one.step: Mark("awaited", "open") for one in told.awaited if one.step not in marks}, **marks}


def _commands(told: Timeline) -> str:
    id = quote(told.workflow)
    return f"saga trace {id} --saga {told.saga}\nsaga show {id}     # in a service: what its own database knows"
