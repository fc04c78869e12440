"""A store whose transactions can be made to end badly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from saga.errors import CommitUnknown, LaneFenced, SagaError, StatementFailed, StoreConflict, StoreError
from saga.store.memory import MemoryStore, MemoryUnit
from saga.testing.simulation.act import StoreFault

FENCED = "a former owner was fenced"

_UNDONE: dict[StoreFault, type[SagaError]] = {
    StoreFault.CONFLICT: StoreConflict,
    StoreFault.STATEMENT: StatementFailed,
    StoreFault.LOST: StoreError,
    StoreFault.UNKNOWN_UNDONE: CommitUnknown,
}


class FaultyStore:
    """A memory store as the processes of one participant see it; `next` says how their next transaction ends.

    `seen` counts what became of it all, by fault and as `fenced`.
    """

    def __init__(self, store: MemoryStore, seen: Counter[str]) -> None:
        self.store, self.seen = store, seen
        self.next: StoreFault | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
        fault, self.next = self.next, None
        try:
            with self.store.unit(eager=eager) as unit:
                yield unit
                if fault in _UNDONE:
                    self.seen[fault] += 1
                    raise _UNDONE[fault](f"simulated: {fault}")
        except LaneFenced:
            self.seen[FENCED] += 1
            raise
        if fault is not None:
            self.seen[fault] += 1
            raise CommitUnknown(f"simulated: {fault}")
