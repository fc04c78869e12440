"""How the observer's pages say moments and spans, statuses and whose a step is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from saga.documents.html.address import tag
from saga.documents.html.markup import Markup, element
from saga.documents.html.page import link
from saga.documents.html.picture import owners
from saga.observer.standing import Standing
from saga.protocol.definition import Definition
from saga.protocol.facts import StepStatus, WorkflowStatus

STATUS: Mapping[WorkflowStatus | None, tuple[str, str]] = {
    WorkflowStatus.IN_PROGRESS: ("in progress", "open"),
    WorkflowStatus.FAILED: ("unwinding", "failed"),
    WorkflowStatus.COMPLETED: ("completed", "done"),
    WorkflowStatus.COMPENSATED: ("compensated", "undone"),
    None: ("unknown", "failed"),
}
"""What a status is called for people, and its colour."""

STEP: Mapping[StepStatus, tuple[str, str]] = {
    StepStatus.DONE: ("done", "done"),
    StepStatus.FAILED: ("failed", "failed"),
    StepStatus.SKIPPED: ("skipped", "undone"),
    StepStatus.COMPENSATED: ("undone", "undone"),
    StepStatus.STUCK: ("stuck", "stuck"),
}
"""The same of a step, as far as it is told of on topics."""


def moment(when: datetime) -> Markup:
    """A moment in UTC."""
    return element("time", f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}", class_="when", datetime=when.isoformat())


def span(between: timedelta) -> str:
    """The two largest units: `3 d 4 h`, `2 min 5 s`."""
    seconds = max(0, int(between.total_seconds()))
    units = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    said = [f"{count} {unit}" for unit, count in units if count]
    return " ".join(said[:2]) or "0 s"


def ago(when: datetime, now: datetime) -> str:
    """How long it is past, or in how long it comes."""
    return f"{span(now - when)} ago" if when <= now else f"in {span(when - now)}"


def status(found: WorkflowStatus | None, *, exceptions: bool = False) -> Markup:
    """The status as a mark."""
    name, kind = STATUS[found]
    return tag(f"{name}, with exceptions" if exceptions else name, kind)


def to_workflow(id: str) -> Markup:
    """Its id, which leads to its page."""
    return link(id, f"workflow?id={quote(id, safe='')}")


def participant(saga: Definition, name: str) -> Markup:
    """Its name, with its colour."""
    number = owners(saga).get(name)
    dot = element("span", class_=f"dot owner-{number}", aria_hidden="true") if number is not None else None
    return element("span", dot, name, class_="owner-name")


def whom(stands: Standing) -> str:
    """From whom something must come next."""
    return ", ".join(sorted({one.participant for one in stands.awaited}))
