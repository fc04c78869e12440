"""Stores that fall back to what they were a moment ago, under running workers and seeded chaos: nothing is passed over.

A failing seed reproduces: `pytest -k 'seed-17'`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from saga.engine.lanes import FENCED_PAUSE
from saga.protocol.facts import StepStatus
from saga.store.memory import MemoryStore
from saga.store.memory_tables import MemoryTables
from saga.testing.harness import Harness
from tests.rebuilding import put_in_place, rebuilt
from tests.seeds import seeds
from tests.simulation.test_fleet import TURNS, _Chaos, _everything_ended_whole, _failures, _mishaps
from tests.simulation.test_rebuild import EXTERNAL, _is_known
from tests.travel import Script, TripBooked, harness

FALLS = 4
LOST = 15
"""Of so many turns at most everything is lost that a store has committed in them."""


@dataclass(frozen=True)
class Moment:
    """What a store has at one moment, the service's own tables included."""

    tables: MemoryTables
    business: bytes

    @classmethod
    def of(cls, store: MemoryStore) -> Moment:
        held = store._tables
        return cls(MemoryTables(*(dict(getattr(held, table.name)) for table in fields(held))), store.connection.serialize())

    def return_to(self, store: MemoryStore) -> None:
        store.timeline = str(int(store.timeline) + 1)
        store._tables = self.tables
        store.connection.deserialize(self.business)


@EXTERNAL
@seeds(20, fast=2)
def test_a_lane_goes_on_from_what_is_left_or_stops_where_that_would_do_something_twice(seed: int, external: bool) -> None:
    dice = random.Random(seed)
    script = Script(failing=_failures(dice), raising=_mishaps(dice))

    with harness(script, external=external) as fleet:
        chaos = _Chaos(fleet, dice)
        for _ in range(FALLS):
            for _ in range(dice.randint(1, TURNS // 5)):
                chaos.turn()
            fall_back(fleet, chaos, dice)
        for _ in range(TURNS // 5):
            chaos.turn()
        chaos.calm()

        _everything_ended_whole(fleet, chaos.workflows, script, external=external)


def test_a_lane_that_is_given_up_before_anybody_has_noticed_is_looked_at_by_its_next_owner() -> None:
    with harness(Script(), partitions=1) as fleet:
        fleet.start(TripBooked(trip="rome"))
        fleet.settle()
        before = Moment.of(fleet.stores["agency"])
        lost = fleet.start(TripBooked(trip="oslo"))
        fleet.turn("agency")

        before.return_to(fleet.stores["agency"])
        fleet.deploy(fleet.participants["agency"])
        fleet.turn("agency")

        [stopped] = fleet.stopped()["agency"]
        assert f"about workflow {lost}, but this database knows 0" in str(stopped)


def test_a_lane_that_was_left_in_order_is_looked_at_where_its_next_owner_was_lost_before_kafka_heard_of_it() -> None:
    with harness(Script(), partitions=1) as fleet:
        fleet.start(TripBooked(trip="rome"))
        fleet.settle()
        fleet.deploy(fleet.participants["agency"])
        before = Moment.of(fleet.stores["agency"])
        lost = fleet.start(TripBooked(trip="oslo"))
        fleet.turn("agency")

        before.return_to(fleet.stores["agency"])
        fleet.crash("agency")
        fleet.turn("agency")

        [stopped] = fleet.stopped()["agency"]
        assert f"about workflow {lost}, but this database knows 0" in str(stopped)


def test_a_lane_whose_last_claim_was_lost_is_claimed_again_under_the_same_number() -> None:
    with harness(Script(), partitions=1) as fleet:
        lanes = fleet.loops["agency"].lanes
        lanes.revoked(lanes.twins(0))
        before = Moment.of(fleet.stores["agency"])
        lanes.assigned(lanes.twins(0))
        fleet.turn("agency")
        lanes.revoked(lanes.twins(0))
        before.return_to(fleet.stores["agency"])

        lanes.assigned(lanes.twins(0))
        workflow = fleet.start(TripBooked(trip="rome"))
        fleet.settle()

        assert lanes.owned[0].lane.epoch == 2
        assert fleet.steps(workflow)["confirm"] is StepStatus.DONE


def fall_back(fleet: Harness, chaos: _Chaos, dice: random.Random) -> None:
    """One store loses its latest transactions; nobody is started again. Where lanes stop, somebody makes it anew."""
    name = dice.choice(list(fleet.stores))
    before = Moment.of(fleet.stores[name])
    for _ in range(dice.randint(1, LOST)):
        chaos.turn()
    before.return_to(fleet.stores[name])
    for _ in range(3):
        fleet.advance(FENCED_PAUSE)
    if any(fleet.stopped().values()):
        put_in_place(fleet, name, rebuilt(fleet, name))
    chaos.workflows = [id for id in chaos.workflows if _is_known(fleet, id)]
