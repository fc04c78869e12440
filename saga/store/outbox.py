"""Rows of the outbox: an event to be published, how many wait, and where one was seen on its topic."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from saga.contracts.message import Headers


class OutboxRow(NamedTuple):
    """One event to be published: key `workflow_id`, explicit partition `lane` of `topic`, in order of `sequence`.

    `published` and `offset` say when it was seen on its topic, and where; they are not for `save`.
    """

    id: str
    saga: str
    lane: int
    topic: str
    workflow_id: str
    type: str
    sequence: int
    headers: Headers
    payload: bytes
    created: datetime
    published: datetime | None = None
    offset: int | None = None


class Waiting(NamedTuple):
    """Unpublished rows of one lane: how many, and when the oldest was written."""

    rows: int
    since: datetime


class Published(NamedTuple):
    """A delivery report: the outbox row of this workflow and sequence stands at `offset` of its topic and partition."""

    saga: str
    workflow_id: str
    sequence: int
    offset: int
