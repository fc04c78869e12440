"""Transactions whose COMMIT is under way: what may follow from them, and when."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from saga import Event, Participant, Transaction
from saga.contracts.topics import saga_topics
from saga.engine.loop import Loop
from saga.errors import CommitUnknown, LaneFenced, RegistryUnavailable, StatementFailed, StoreConflict, StoreError
from saga.store.memory import MemoryStore
from saga.store.memory_unit import MemoryUnit
from saga.store.port import Store
from saga.testing.clock import ManualClock
from saga.transport.memory import MemoryBroker, MemoryConsumer
from saga.transport.port import Outbound
from tests.travel import HotelBooked, HotelFreed, HotelFull, TripBooked, TripCancelled, TripConfirmed, TripPaid, saga

LANES = 2
TRIPS = [f"trip-{n:02}" for n in range(12)]


class LateUnit(MemoryUnit):
    """A unit whose answer to COMMIT is kept back."""

    late = departing = False
    outcome: StoreError | None = None

    @property
    def under_way(self) -> bool:
        return self.late

    def depart(self) -> None:
        self.departing = True

    def arrive(self) -> None:
        self.late = False
        if self.outcome is not None:
            raise self.outcome


class LateStore(MemoryStore):
    """Takes those that depart back for which there is an error in `outcomes`, unless it is one that does not know."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.outcomes: list[StoreError] = []

    def woken(self) -> bool:
        return False

    @contextmanager
    def unit(self, *, eager: bool = False) -> Iterator[MemoryUnit]:
        late: LateUnit | None = None
        try:
            with super().unit(eager=eager) as unit:
                unit.__class__ = LateUnit
                late = cast("LateUnit", unit)
                yield late
                if late.departing and self.outcomes:
                    late.outcome = self.outcomes.pop(0)
                    if not isinstance(late.outcome, CommitUnknown):
                        raise late.outcome
        except StoreError as error:
            if late is None or late.outcome is not error:
                raise
        if late is not None:
            late.late = late.departing


class Hotels:
    """The agency and the hotels; `published` is what the latter published, `booked` the trips whose handler has run."""

    def __init__(self, batch: int = 500) -> None:
        self.batch = batch
        self.clock, self.published, self.booked = ManualClock(), list[Outbound](), list[str]()
        self.broker = MemoryBroker(saga_topics("travel"), partitions=LANES, fault=self.published.append)
        self.agency, hotels = Participant("agency", saga(), clock=self.clock), Participant("hotels", saga(), clock=self.clock)

        @self.agency.compensation(of="book")
        def cancel(booked: TripBooked, tx: Transaction) -> TripCancelled:
            return TripCancelled(trip=booked.trip)

        @self.agency.step
        def confirm(paid: TripPaid, tx: Transaction) -> TripConfirmed:
            return TripConfirmed(trip=paid.trip)

        @hotels.step
        def hotel(booked: TripBooked, tx: Transaction) -> HotelBooked | HotelFull:
            self.booked.append(booked.trip)
            return HotelBooked(trip=booked.trip)

        @hotels.compensation(of=hotel)
        def free_hotel(booked: HotelBooked, tx: Transaction) -> HotelFreed:
            return HotelFreed(trip=booked.trip)

        self.store, agency_store = LateStore(self.clock), MemoryStore(self.clock)
        agency_loop, self.loop = self.joined(self.agency, agency_store), self.joined(hotels, self.store)
        with agency_store.transaction() as tx:
            for trip in TRIPS:
                self.agency.start(TripBooked(trip=trip), tx, workflow_id=trip)
        while agency_loop.turn():
            pass
        self.published.clear()

    def joined(self, participant: Participant, store: Store) -> Loop:
        loop = Loop(
            participant,
            store,
            self.broker,
            LANES,
            batch=self.batch,
            stopping=threading.Event(),
            chance=lambda: 0.5,
            clock=self.clock,
            idle_wait=0.0,
            mark_after=0.0,
        )
        loop.join()
        while loop.turn():
            pass
        return loop

    def settle(self) -> None:
        while self.loop.turn():
            pass

    @property
    def lanes(self) -> dict[int, list[str]]:
        """What was published, by lane."""
        facts = [row for row in self.published if row.key]
        return {n: [row.key.decode() for row in facts if row.key and row.partition == n] for n in {r.partition for r in facts}}

    @property
    def offsets(self) -> list[int]:
        """How far each lane is known to be."""
        return [self.loop.lanes.owned[n].lane.offsets.get("travel.events", 0) for n in range(LANES)]


@pytest.fixture
def hotels() -> Iterator[Hotels]:
    hotels = Hotels()
    yield hotels
    hotels.loop.abandon()


def test_nothing_follows_from_a_transaction_before_its_commit_is_known(hotels: Hotels) -> None:
    hotels.loop.turn()
    under_way, published, offsets = set(hotels.loop.processor.units.departed), set(hotels.lanes), hotels.offsets
    hotels.settle()

    assert len(under_way) == 1  # the other lane's had to arrive before this one could depart
    assert published == {0, 1} - under_way
    assert [number for number in range(LANES) if offsets[number] == 0] == [*under_way]
    assert sorted(trip for trips in hotels.lanes.values() for trip in trips) == sorted(TRIPS)


def test_the_parts_of_one_lane_follow_each_other_although_the_first_is_taken_back() -> None:
    hotels = Hotels(batch=2)
    hotels.store.outcomes.append(StoreConflict("another was in the way"))

    hotels.settle()
    hotels.loop.abandon()

    assert len(hotels.booked) == len(TRIPS) + 2
    assert sorted(trip for trips in hotels.lanes.values() for trip in trips) == sorted(TRIPS)
    assert all(trips == [trip for trip in TRIPS if trip in trips] for trips in hotels.lanes.values())


@pytest.mark.parametrize("error", [StoreConflict("another was in the way"), StatementFailed("something was wrong")])
def test_one_that_is_taken_back_is_done_again_in_its_order(hotels: Hotels, error: StoreError) -> None:
    hotels.store.outcomes.append(error)

    hotels.settle()

    again = [trip for trip in TRIPS if hotels.booked.count(trip) == 2]
    assert again
    assert sorted(trip for trips in hotels.lanes.values() for trip in trips) == sorted(TRIPS)
    assert all(trips == [trip for trip in TRIPS if trip in trips] for trips in hotels.lanes.values())


def test_one_whose_end_is_unknown_is_looked_up_and_not_repeated(hotels: Hotels) -> None:
    hotels.store.outcomes.append(CommitUnknown("the line was cut"))

    hotels.settle()

    assert sorted(hotels.booked) == sorted(TRIPS)
    assert sorted(trip for trips in hotels.lanes.values() for trip in trips) == sorted(TRIPS)


def test_a_fenced_one_costs_its_own_lane_and_no_other(hotels: Hotels) -> None:
    hotels.store.outcomes.append(LaneFenced("travel", 0, 1))

    hotels.loop.turn()
    hotels.loop.turn()

    assert len(hotels.lanes) == 1
    assert len(hotels.loop.lanes.refused) == 1


def test_what_is_under_way_when_the_lanes_are_given_up_is_published_first(hotels: Hotels) -> None:
    hotels.loop.turn()
    assert hotels.loop.processor.units.departed

    hotels.loop.leave()

    assert sorted(trip for trips in hotels.lanes.values() for trip in trips) == sorted(TRIPS)
    assert hotels.store.pending("travel", 0, 10) == hotels.store.pending("travel", 1, 10) == []


def test_what_cannot_be_done_again_when_the_lanes_are_given_up_is_left_to_the_next_owner(
    hotels: Hotels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unanswered(*_: object) -> list[Event | None]:
        raise RegistryUnavailable("no answer")

    hotels.store.outcomes.append(StoreConflict("another was in the way"))
    hotels.loop.turn()
    assert hotels.loop.processor.units.departed
    monkeypatch.setattr(hotels.loop.processor.invocation, "arguments", unanswered)

    hotels.loop.leave()

    assert sorted(lane.clean for lane in hotels.store.lanes()) == [False, True]


def test_a_lane_that_was_fenced_keeps_no_other_from_being_given_up_in_order(hotels: Hotels) -> None:
    hotels.store.outcomes.append(LaneFenced("travel", 0, 1))
    hotels.loop.turn()

    hotels.loop.leave()

    [tidy] = [lane.number for lane in hotels.store.lanes() if lane.clean]
    assert hotels.lanes.keys() == {tidy}
    assert hotels.store.pending("travel", tidy, 10) == []


def test_nothing_follows_for_a_lane_that_was_taken_away_meanwhile(hotels: Hotels) -> None:
    hotels.loop.turn()
    (number,) = hotels.loop.processor.units.departed
    assert isinstance(hotels.loop.consumer, MemoryConsumer)

    hotels.loop.lanes.lost([twin for n in range(LANES) for twin in hotels.loop.lanes.twins(n)])
    hotels.loop.turn()

    assert number not in hotels.lanes
    assert hotels.loop.processor.units.departed == {}
    assert hotels.store.pending("travel", number, 10) != []
