"""Which workflows an operator's verb is about: some by id, or all open ones that fit what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from saga.cli import arguments, output
from saga.cli.looking.parked import MOST, causes
from saga.cli.seeking import first
from saga.errors import DefinitionError
from saga.participant.operator import is_parked, waits_for_the_world
from saga.protocol.facts import WorkflowStatus
from saga.store.archive import Listed, Search

if TYPE_CHECKING:
    from saga.store.postgres import PostgresStore
    from saga.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Chosen:
    """One workflow, and the saga whose it is."""

    saga: str
    workflow: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Either `ids`, or what narrows the open workflows down; all that is given must hold.

    `matching` is looked for in step and error, as `saga parked` prints them; `step` is parked there, or waits for the world.
    """

    ids: Sequence[str] = ()
    matching: str | None = None
    step: str | None = None
    saga: str | None = None
    version: int | None = None
    status: WorkflowStatus | None = None
    stuck_for: str | None = None
    parked: bool = False
    limit: int

    def check(self) -> None:
        """Refuse (DefinitionError) to guess; a step, saga or version may go with an id."""
        narrowing = (self.matching, self.parked, self.stuck_for, self.status)
        if self.ids and not any(narrowing):
            return
        if self.ids or not any((*narrowing, self.step, self.saga, self.version)):
            raise DefinitionError(
                "say which: either the id of a workflow, or what all of them have in common (--all-matching TEXT, --parked, "
                "--stuck-for SPAN, --status STATUS, --step NAME, --version N)"
            )

    def find(self, store: SqliteStore | PostgresStore, now: datetime) -> list[Chosen]:
        """The longest waiting first; says on stderr where there are more than the limit."""
        span = arguments.span(self.stuck_for, "--stuck-for") if self.stuck_for else None
        wanted = Search(
            saga=self.saga,
            version=self.version,
            status=self.status,
            parked=self.parked or self.matching is not None,
            idle_since=now - span if span is not None else now,
        )
        found = first(self.limit + 1, partial(store.search, wanted), self._fitting, at_first=MOST)
        if len(found) > self.limit:
            output.progress(f"the {self.limit} that wait longest; there are more: repeat the command for them")
        return found[: self.limit]

    def _fitting(self, known: Sequence[Listed]) -> list[Chosen]:
        return [Chosen(one.saga, one.workflow.id) for one in known if self._fits(one)]

    def _fits(self, one: Listed) -> bool:
        fences = one.workflow.fences.values()
        waiting = {fence.step for fence in fences if is_parked(fence) or waits_for_the_world(fence)}
        return (self.step is None or self.step in waiting) and (self.matching is None or _matches(one, self.matching))


def _matches(one: Listed, text: str) -> bool:
    said = (line for fence, cause in causes(one) for line in (f"{cause.step}: {cause.error}", f"{fence.step}: {fence.error}"))
    return any(text.casefold() in line.casefold() for line in said)
