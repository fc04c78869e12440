"""A store whose transactions can be made to end badly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from saga.errors import CommitUnknown, LaneFenced, StatementFailed, StoreConflict, StoreError
from saga.store.memory import MemoryStore
from saga.store.memory_unit import MemoryUnit
from saga.testing.simulation.act import StoreFault

FENCED = "a former owner was fenced"
DEPARTED = "a COMMIT was under way while the next lane began"

_UNDONE: dict[StoreFault, type[StoreError]] = {
    StoreFault.CONFLICT: StoreConflict,
    StoreFault.STATEMENT: StatementFailed,
    StoreFault.LOST: StoreError,
    StoreFault.UNKNOWN_UNDONE: CommitUnknown,
}


class DepartingUnit(MemoryUnit):
    """A unit that may leave before its COMMIT is answered, as on PostgreSQL; the answer is told when it is asked for."""

    departs = False
    trouble: StoreError | None = None
    _under_way = False

    @property
    def under_way(self) -> bool:
        return self._under_way

    def depart(self) -> None:
        self.departs = True

    def leave(self, trouble: StoreError | None) -> None:
        """The block has ended; what became of it will be told later."""
        self._under_way, self.trouble = True, trouble

    def arrive(self) -> None:
        if self._under_way:
            self._under_way = False
            if self.trouble is not None:
                raise self.trouble


class FaultyStore:
    """A memory store as the processes of one participant see it; `next` says how their next transaction ends.

    `seen` counts what became of it all, by fault and as `FENCED`.
    """

    def __init__(self, store: MemoryStore, seen: Counter[str]) -> None:
        self.store, self.seen = store, seen
        self.next: StoreFault | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
        fault, self.next = self.next, None
        unit: MemoryUnit | None = None
        trouble: StoreError | None = None
        try:
            with self.store.unit(eager=eager) as unit:
                yield unit
                if fault is not None and (undoing := _UNDONE.get(fault)) is not None:
                    trouble = undoing(f"simulated: {fault}")
                    raise trouble
        except LaneFenced:
            self.seen[FENCED] += 1
            raise
        except StoreError as error:
            if error is not trouble:
                raise
        if fault is StoreFault.UNKNOWN_COMMITTED:
            trouble = CommitUnknown(f"simulated: {fault}")
        if trouble is not None:
            self.seen[str(fault)] += 1
        if isinstance(unit, DepartingUnit) and unit.departs:
            self.seen[DEPARTED] += 1
            unit.leave(trouble)
        elif trouble is not None:
            raise trouble
