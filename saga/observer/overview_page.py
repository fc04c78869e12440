"""The first page: how all workflows of the saga stand, who is awaited, and which of them need a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from saga.contracts.saga import Saga
from saga.count import many
from saga.documents.html.address import tag
from saga.documents.html.card import Mark
from saga.documents.html.markup import Content, Markup, element, joined
from saga.documents.html.page import page, section, table
from saga.documents.html.picture import picture
from saga.observer import words
from saga.observer.observer import LISTED
from saga.observer.overview import EXCEPTIONS, UNKNOWN, Overview
from saga.observer.standing import Standing
from saga.protocol.facts import WorkflowStatus
from saga.span import rough

_UNKNOWN_YET = "Not known before all is read."


def overview_page(
    saga: Saga,
    told: Overview,
    found: Sequence[Standing],
    wanted: WorkflowStatus | None,
    text: str,
    size: int | None,
    now: datetime,
) -> str:
    """The whole page; `found` are the workflows that were searched for, by the status `wanted` and a `text` in their id."""
    return page(
        saga.name,
        element("h1", saga.name, " ", tag(f"version {saga.version}", "plain")),
        element("p", saga.own.get("doc", ""), class_="lead"),
        *_reading(told, size, now),
        element("div", *_tiles(told), class_="tiles"),
        section("Needs a person", _alarms(saga, told, now)),
        section("Awaited", _waiting(saga, told, now)),
        section("Where open workflows wait", flow(saga, _marks(told))),
        section("Workflows", _search(wanted, text), _workflows(found, now, is_known=told.looked is not None), id="workflows"),
        trail=[],
        live=True,
    )


def flow(saga: Saga, marks: Mapping[str, Mark]) -> Markup:
    """The picture of the saga with these marks, in a frame that scrolls where it is too narrow."""
    drawn = picture(saga, lambda name: f"#{name}", marks=marks)
    return element("div", drawn, class_="flow", tabindex=0, role="region", aria_label="Flow of the saga")


def _reading(told: Overview, size: int | None, now: datetime) -> Iterator[Markup]:
    if told.trouble is not None:
        since = f" What is below is of {words.ago(told.looked, now)}." if told.looked else ""
        yield element("p", f"The topics cannot be read: {told.trouble}.{since}", class_="trouble")
    elif told.looked is None:
        share = f", {100 * told.records // size} %" if size else ""
        yield element(
            "p", f"The topics are being read: {many(told.records, 'record')}{share}. Numbers grow until that is done."
        )
    else:
        yield element(
            "p", f"{many(told.records, 'record')} read, the last look was {words.ago(told.looked, now)}. Times are UTC."
        )
    for where in told.aged:
        yield element("p", f"{where}: older records have aged out, so what began before is known in part.", class_="plain")


def _tiles(told: Overview) -> Iterator[Markup]:
    nothing = "0" if told.looked else "?"

    def tile(name: str, count: int, kind: str) -> Markup:
        said = f"{count:,}" if count else nothing
        return element("dl", element("dt", name), element("dd", said, class_=kind if count else "plain"), class_="panel")

    for status, (name, kind) in words.STATUS.items():
        if status is not None or told.counts.get(UNKNOWN):
            yield tile(name, told.counts.get(status.value if status else UNKNOWN, 0), kind)
    yield tile("with exceptions", told.counts.get(EXCEPTIONS, 0), "failed")
    yield tile("need a person", told.alarmed, "failed")


def _alarms(saga: Saga, told: Overview, now: datetime) -> Markup:
    if not told.alarms and told.looked is None:
        return element("p", _UNKNOWN_YET)
    if not told.alarms:
        return element(
            "p",
            "Nothing does, as far as the topics tell. What a service has parked is told by ",
            element("code", "saga parked"),
            ".",
        )
    rows: list[list[Content]] = [
        [
            words.to_workflow(one.workflow),
            tag(one.concern.value, "failed"),
            one.text,
            _names(saga, one.awaited),
            words.ago(one.since, now),
        ]
        for one in told.alarms
    ]
    more = told.alarmed - len(told.alarms)
    return joined(
        [
            table(["Workflow", "Why", "In words", "Awaited", "Since"], rows),
            element("p", f"And {many(more, 'more workflow')}.") if more else None,
        ]
    )


def _waiting(saga: Saga, told: Overview, now: datetime) -> Markup:
    if not told.waiting:
        return element("p", "Nobody: all workflows have ended." if told.looked else _UNKNOWN_YET)
    rows: list[list[Content]] = [
        [
            words.participant(saga, one.participant),
            one.what,
            f"{one.workflows:,}",
            element("strong", f"{one.overdue:,}", class_="failed") if one.overdue else "0",
            words.ago(one.since, now),
        ]
        for one in told.waiting
    ]
    return table(["From", "What", "Workflows", "Overdue", "The longest since"], rows)


def _marks(told: Overview) -> dict[str, Mark]:
    open_, overdue = Counter[str](), Counter[str]()
    for one in told.waiting:
        open_[one.step] += one.workflows
        overdue[one.step] += one.overdue
    return {
        step: Mark(
            f"{count:,} here, {overdue[step]:,} overdue" if overdue[step] else f"{count:,} here",
            "failed" if overdue[step] else "open",
        )
        for step, count in open_.items()
    }


def _names(saga: Saga, names: Sequence[str]) -> Markup:
    return joined((words.participant(saga, name) for name in names), ", ")


def _search(wanted: WorkflowStatus | None, text: str) -> Markup:
    options = [element("option", "any", value="", selected=wanted is None)]
    options += [
        element("option", name, value=status.value, selected=status is wanted)
        for status, (name, _) in words.STATUS.items()
        if status is not None
    ]
    return element(
        "form",
        element("label", "Id contains", element("input", name_="text", value=text, type="search")),
        element("label", "Status", element("select", *options, name_="status")),
        element("button", "Find", type="submit"),
        class_="search",
        action="#workflows",
    )


def _workflows(found: Sequence[Standing], now: datetime, *, is_known: bool) -> Markup:
    if not found:
        return element("p", "None is so." if is_known else _UNKNOWN_YET)
    rows: list[list[Content]] = [
        [
            words.to_workflow(one.id),
            words.status(one.status, exceptions=one.exceptions and one.closed is not None),
            words.moment(one.opened),
            rough((one.closed or now) - one.opened),
            words.ago(one.moved, now),
            words.whom(one),
        ]
        for one in found
    ]
    most = (
        element("p", f"These {LISTED} moved last; there may be more: find them by their id.") if len(found) >= LISTED else None
    )
    return joined([table(["Workflow", "Status", "Began", "Took, or is open for", "Last heard of", "Awaited"], rows), most])
