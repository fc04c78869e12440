"""How the observer's pages say moments, statuses and whose a step is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from saga.documents.html.address import tag
from saga.documents.html.markup import Markup, element
from saga.documents.html.page import link
from saga.documents.html.picture import owners
from saga.observer.standing import Standing
from saga.protocol.definition import Definition
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.span import rough

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


def ago(when: datetime, now: datetime) -> str:
    """How long it is past, or in how long it comes."""
    return f"{rough(now - when)} ago" if when <= now else f"in {rough(when - now)}"


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
