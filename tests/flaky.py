"""A store that comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from saga.errors import StoreError
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
