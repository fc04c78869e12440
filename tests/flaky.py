"""Stores that come and go, and such as do not answer what became of a COMMIT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from saga.errors import CommitUnknown, StoreError
from saga.store.lane import Lane
from saga.store.memory import MemoryStore
from saga.store.memory_unit import MemoryUnit


class FlakyStore(MemoryStore):
    """Refuses every transaction while it is `away`."""

    away = False

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
        if self.away:
            raise StoreError("the database is away")
        with super().unit(eager=eager) as unit:
            yield unit


class Advancing(MemoryUnit):
    """A unit that tells whether it advanced a lane."""

    advanced = False

    def advance(self, lane: Lane) -> None:
        self.advanced = True
        super().advance(lane)


class Doubtful(MemoryStore):
    """Does not answer the COMMITs of those that advance a lane, of which `kept` says which are carried out all the same.

    So often as it is `silent`, it does not say afterwards either whether one was.
    """

    def __init__(self) -> None:
        super().__init__(kind=Advancing)
        self.kept: list[bool] = []
        self.silent = 0

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
        with super().unit(eager=eager) as unit:
            yield unit
            kept = self.kept.pop(0) if self.kept and isinstance(unit, Advancing) and unit.advanced else None
            if kept is False:
                raise CommitUnknown("the line was cut, and nothing was committed")
        if kept:
            raise CommitUnknown("the line was cut, and all was committed")

    def committed(self, lane: Lane) -> bool:
        if self.silent:
            self.silent -= 1
            raise StoreError("the database is away")
        return super().committed(lane)
