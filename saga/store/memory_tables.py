"""The rows of the memory store, and the overlay into which a transaction writes."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, fields, replace

from saga.store.dead_letter import DeadLetter, Place
from saga.store.port import Lane, OutboxRow, Workflow


@dataclass(slots=True)
class MemoryTables:
    """Rows by key. A row is replaced, never altered, so an overlay is all that a rollback has to forget."""

    partitions: MutableMapping[str, int] = field(default_factory=dict)
    authors: MutableMapping[str, str] = field(default_factory=dict)
    lanes: MutableMapping[tuple[str, int], Lane] = field(default_factory=dict)
    workflows: MutableMapping[tuple[str, str], Workflow] = field(default_factory=dict)
    outbox: MutableMapping[tuple[str, str], Mapping[str, OutboxRow]] = field(default_factory=dict)
    letters: MutableMapping[Place, DeadLetter | None] = field(default_factory=dict)

    def overlay(self) -> MemoryTables:
        """The same rows, with a place of its own for what is written."""
        return MemoryTables(*(ChainMap({}, getattr(self, table.name)) for table in fields(self)))

    def absorb(self, overlay: MemoryTables) -> None:
        for table in fields(self):
            getattr(self, table.name).update(getattr(overlay, table.name).maps[0])

    def rows(self, saga: str, workflow_id: str) -> list[OutboxRow]:
        return sorted(self.outbox.get((saga, workflow_id), {}).values(), key=lambda row: row.sequence)

    def workflow(self, saga: str, workflow_id: str) -> Workflow | None:
        """A copy that its reader may alter."""
        if (w := self.workflows.get((saga, workflow_id))) is None:
            return None
        return replace(
            w,
            fences={step: replace(fence) for step, fence in w.fences.items()},
            inbox={id_: replace(received) for id_, received in w.inbox.items()},
            unpublished={row.id for row in self.rows(saga, workflow_id) if row.offset is None},
        )
