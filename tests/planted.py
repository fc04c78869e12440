"""Bugs to be planted in the engine, so that tests can show what finds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from saga.contracts.message import Kind, Message
from saga.delivery.single_file import SingleFile
from saga.engine.flight import after
from saga.engine.processor import Processor
from saga.engine.units import Units
from saga.handling.external import Intent
from saga.handling.handling import Handling, Item
from saga.handling.intake import Concern, Incoming, Intake
from saga.handling.timers import Late
from saga.participant.ledger import Ledger
from saga.participant.participant import Participant
from saga.protocol.definition import Definition
from saga.store.lane import Lane
from saga.store.memory_tables import MemoryTables
from saga.store.memory_unit import MemoryUnit
from saga.store.outbox import OutboxRow
from saga.store.workflow import Workflow

Patch = pytest.MonkeyPatch


def inbox_before_handler(patch: Patch, between: Callable[[Sequence[Message]], None] = lambda taken: None) -> None:
    """What came in is committed first, and acted upon in a transaction of its own; `between` the two is told what it was."""
    commit = Processor._commit

    def take(self: Handling, ledger: Ledger, lane: Lane, message: Message) -> list[Intent]:
        self._is_news(ledger, ledger.meet(message, lane.number), message)
        return []

    def commit_twice(self: Processor, lane: Lane, items: Sequence[Item], **how: bool) -> list[Intent]:
        intents = commit(self, lane, items)  # before the second begins, the first must have ended
        taken = [item.message for item in items if isinstance(item, Incoming) and item.message]
        if taken:
            between(taken)
        ids = dict.fromkeys(message.workflow_id for message in taken)
        return intents + commit(self, lane, [Late(id, self.clock.now()) for id in ids], **how)

    patch.setattr(Handling, "_take", take)
    patch.setattr(Processor, "_commit", commit_twice)


def pivot_ignored(patch: Patch) -> None:
    """A workflow unwinds although its pivot is done."""
    patch.setattr(Definition, "pivots", property(lambda self: frozenset({self.sink.name})))


def sequence_outside_the_lock(patch: Patch) -> None:
    """The web process and the lane each remember which number they gave out last, and do not look at the row."""
    remembered: dict[tuple[int, bool, str], int] = {}
    load, write, of_web = Ledger.load, Ledger.write, Participant._ledger

    def load_remembering(self: Ledger, ids: Collection[str]) -> Mapping[str, Workflow]:
        found = load(self, ids)
        for id, workflow in found.items():
            workflow.sequence = remembered.get((*_who(self), id), workflow.sequence)
        return found

    def write_remembering(self: Ledger) -> None:
        remembered.update({(*_who(self), id): workflow.sequence for id, workflow in self.workflows.items()})
        write(self)

    def _who(ledger: Ledger) -> tuple[int, bool]:
        return id(ledger.versions), getattr(ledger, "is_of_web", False)

    def web(self: Participant, *arguments: Any) -> Ledger:
        ledger = of_web(self, *arguments)
        ledger.is_of_web = True  # type: ignore[attr-defined]
        return ledger

    patch.setattr(Ledger, "load", load_remembering)
    patch.setattr(Ledger, "write", write_remembering)
    patch.setattr(Participant, "_ledger", web)


def events_pass_a_failed_one(patch: Patch) -> None:
    """An event is handed to the producer while it is open whether the one before it arrives."""

    def begin(self: SingleFile, rows: Iterable[OutboxRow]) -> list[OutboxRow]:
        found = list(rows)
        self._rows.update((row.id, row) for row in found)
        return found

    def end(self: SingleFile, id: str) -> tuple[OutboxRow, None] | None:
        row = self._rows.pop(id, None)
        return None if row is None else (row, None)

    patch.setattr(SingleFile, "begin", begin)
    patch.setattr(SingleFile, "end", end)


def offsets_before_the_database(patch: Patch) -> None:
    """The lane's fence is moved, and then the work is done."""
    unit = Units._unit

    def ahead(self: Units, lane: Lane, items: Sequence[Item], **how: bool) -> list[Intent]:
        with self.store.unit() as early:
            offsets, gaps = after(lane, items)
            early.advance(replace(lane, offsets=offsets, gaps=gaps))
        return unit(self, lane, items, **how)

    patch.setattr(Units, "_unit", ahead)


def open_workflows_pruned(patch: Patch) -> None:
    """What began long ago is deleted, whether it has ended or not."""

    def prune(self: MemoryTables, lane: Lane, before: datetime, limit: int) -> tuple[int, datetime | None]:
        mine = [w for (saga, _), w in self.workflows.items() if saga == lane.saga and w.lane == lane.number]
        old = [w for w in mine if w.opened < before and not self.rows(lane.saga, w.id)][:limit]
        self.gone.update({(lane.saga, w.id): True for w in old})
        return len(old), max((w.closed for w in old if w.closed), default=None)

    patch.setattr(MemoryTables, "prune", prune)


def pruned_and_not_remembered(patch: Patch) -> None:
    """A lane does not know that workflows of its past are gone."""
    patch.setattr(Lane, "forget", lambda self, until: None)


def letters_never_recalled(patch: Patch) -> None:
    """What is of an unknown version is kept, and not taken in by the release that knows it."""
    patch.setattr(Processor, "take_back", lambda self, lane: None)


def due_of_the_latest_version_alone(patch: Patch) -> None:
    """Retries and timeouts of older versions are not looked up."""
    due, expired = MemoryUnit.due, MemoryUnit.expired

    def latest_due(self: MemoryUnit, saga: str, lanes: Any, versions: Sequence[int], *more: Any) -> Any:
        return due(self, saga, lanes, versions[-1:], *more)

    def latest_expired(self: MemoryUnit, saga: str, lanes: Any, versions: Sequence[int], *more: Any, **how: Any) -> Any:
        return expired(self, saga, lanes, versions[-1:], *more, **how)

    patch.setattr(MemoryUnit, "due", latest_due)
    patch.setattr(MemoryUnit, "expired", latest_expired)


def unknown_versions_passed_over(patch: Patch) -> None:
    """A record of a version that is not known is taken for one that concerns others."""
    concern_of = Intake._concern_of

    def concern(self: Intake, kind: Kind) -> Concern:
        found = concern_of(self, kind)
        return Concern.IGNORE if found is Concern.UNKNOWN else found

    patch.setattr(Intake, "_concern_of", concern)
