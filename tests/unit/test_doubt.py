"""A COMMIT whose answer was lost, while the store cannot say either what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from saga.engine.loop import TROUBLE_PAUSE
from saga.errors import CommitUnknown, StoreError
from saga.store.lane import Lane
from saga.store.memory import MemoryStore
from saga.store.memory_unit import MemoryUnit
from saga.testing.harness import Harness
from tests.travel import CREATE_EFFECTS, Script, TripBooked, effects, fleet


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


class Doubted(Harness):
    """A fleet whose stores can be in doubt."""

    def new_store(self) -> MemoryStore:
        return Doubtful()


def test_a_lane_that_could_not_ask_what_was_committed_takes_nothing_for_committed_that_was_not() -> None:
    with Doubted(*fleet(Script()), partitions=1) as running:
        for name in running.stores:
            with running.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)
        hotels = running.stores["hotels"]
        assert isinstance(hotels, Doubtful)
        running.start(TripBooked(trip="rome"), workflow_id="first")
        running.turn("agency")
        hotels.kept, hotels.silent = [True], 1
        running.turn("hotels")
        running.start(TripBooked(trip="oslo"), workflow_id="second")
        running.turn("agency")
        hotels.kept = [False]
        running.advance(TROUBLE_PAUSE)
        running.advance(TROUBLE_PAUSE)

        found = [step for _, step, _ in effects(running)]

    assert {step: found.count(step) for step in found} == {"hotel": 2, "flight": 2, "pay": 2, "confirm": 2}
