"""Reading for people: what commands ask of a participant's database. Never locks, never writes.

Every adapter passes `tests/contract/test_store.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from saga.protocol.facts import WorkflowStatus
from saga.store.dead_letter import DeadLetter, LetterSearch
from saga.store.lane import Lane
from saga.store.outbox import OutboxRow
from saga.store.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which workflows a person asks for; what is None does not matter.

    `parked`: only open ones whose handlers are suspended here, the stuck ones included. `idle_since`: only open ones in which
    nothing has gone on here since then (see `Listed.moved`). Of both, those that wait longest come first.
    """

    saga: str | None = None
    version: int | None = None
    status: WorkflowStatus | None = None
    parked: bool = False
    idle_since: datetime | None = None
    with_exceptions: bool = False

    @property
    def order(self) -> Literal["latest", "longest_open", "longest_parked"]:
        """Which of those that fit come first."""
        if self.parked:
            return "longest_parked"
        return "latest" if self.idle_since is None else "longest_open"


class Listed(NamedTuple):
    """A workflow as a list shows it: with its fences, without its inbox and what is unpublished.

    `moved` is when something last went on here: a fact came in, or a step moved other than by failing again.
    """

    saga: str
    workflow: Workflow
    moved: datetime

    def is_idle(self, since: datetime | None) -> bool:
        """Whether nothing has gone on since then; None is always."""
        return since is None or self.moved <= since


class Left(NamedTuple):
    """What of one version of a saga has not ended here: numbers of open workflows, of those of them that are parked, of those
    with a timer set, and of events that are not published yet.
    """

    open: int
    parked: int
    timers: int
    unpublished: int


class Archive(Protocol):
    """Reading for people: what `saga show` and `saga list` print. Never locks, never writes."""

    def find(self, workflow_id: str) -> Iterable[tuple[str, Workflow, list[OutboxRow]]]:
        """(saga, workflow, outbox rows) of every saga that has a workflow of this id."""
        ...

    def lanes(self) -> list[Lane]:
        """All lanes of this database by saga and number; `clean` is how they are now."""
        ...

    def left(self, saga: str, version: int) -> Left:
        """What of this version has not ended here."""
        ...

    def outstanding(self, before: datetime, limit: int) -> list[OutboxRow]:
        """Outbox rows written before then, the oldest first; without their payload."""
        ...

    def search(self, wanted: Search, limit: int) -> list[Listed]:
        """The workflows that fit, the latest opened first, or where `wanted` says so those that wait longest."""
        ...

    def page(self, saga: str, after: str, limit: int) -> list[Workflow]:
        """The workflows whose ids follow `after`, in their order byte by byte, with fences, inbox and what is unpublished."""
        ...

    def letters(self, wanted: LetterSearch, limit: int) -> list[DeadLetter]:
        """The dead letters that fit, the oldest first."""
        ...

    def author(self, saga: str) -> str | None:
        """The participant whose database this is, as its worker said at the last `claim`; None before that."""
        ...
