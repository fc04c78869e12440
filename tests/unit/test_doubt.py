"""A COMMIT whose answer was lost, while the store cannot say either what became of it."""

from __future__ import annotations

from saga.engine.loop import TROUBLE_PAUSE
from saga.store.memory import MemoryStore
from saga.testing.harness import Harness
from tests.flaky import Doubtful
from tests.travel import CREATE_EFFECTS, Script, TripBooked, effects, fleet


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
