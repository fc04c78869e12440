"""Every participant acknowledges what it has taken in: once and again after a crash, but never what is parked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from saga.contracts.acknowledged import Acknowledged, Acknowledgments
from saga.contracts.avro import AvroCodec
from saga.failpoints import FailpointRaised, armed
from saga.testing.harness import Harness
from saga.transport.port import Partition
from tests.travel import Script, TripBooked, harness

Travel = Callable[..., Harness]
EVENTS, ACKS = "travel.events", "travel.acks"
ALL = ("agency", "hotels", "airline", "bank")


@pytest.fixture
def travel() -> Iterator[Travel]:
    opened: list[Harness] = []

    def make(script: Script, **options: Any) -> Harness:
        opened.append(harness(script, partitions=1, **options))
        return opened[-1]

    yield make
    for fleet in opened:
        fleet.close()


def told(fleet: Harness) -> list[Acknowledged]:
    """The acknowledgments on the topic."""
    codec = AvroCodec(fleet.saga)
    log = fleet.broker.logs[Partition(ACKS, 0)]
    return [Acknowledged.of(codec.decode("saga.Acknowledged", record.value or b"")) for record in log]


def taken(fleet: Harness) -> Acknowledgments:
    known = Acknowledgments()
    for record in told(fleet):
        known.take(record)
    return known


def test_everybody_acknowledges_the_whole_of_every_partition(travel: Travel) -> None:
    fleet = travel(Script())
    fleet.start(TripBooked(trip="rome"))

    fleet.settle()

    end = len(fleet.broker.logs[Partition(EVENTS, 0)])
    assert {name: taken(fleet).of(name, EVENTS).spans.spans for name in ALL} == {name: [(0, end)] for name in ALL}
    assert {record.key for record in fleet.broker.logs[Partition(ACKS, 0)]} == {None}


def test_kafka_is_told_an_offset_only_when_it_is_acknowledged(travel: Travel) -> None:
    fleet = travel(Script())
    fleet.broker.fault = lambda outbound: "no room" if outbound.topic == ACKS else None
    fleet.start(TripBooked(trip="rome"))
    for _ in range(20):
        fleet.turn("agency")
        fleet.turn("hotels")
    before = fleet.broker.offsets["travel.hotels"].get(Partition(EVENTS, 0), 0)

    fleet.broker.fault = None
    fleet.advance(5)

    assert before == 0
    assert fleet.broker.offsets["travel.hotels"][Partition(EVENTS, 0)] == len(fleet.broker.logs[Partition(EVENTS, 0)])


def test_kafka_is_never_told_less_than_before_by_the_next_owner(travel: Travel) -> None:
    fleet, partition = travel(Script()), Partition(EVENTS, 0)
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    before = fleet.broker.offsets["travel.hotels"][partition]
    fleet.crash("hotels")

    told = []
    while fleet.turn("hotels"):
        told.append(fleet.broker.offsets["travel.hotels"][partition])

    assert set(told) == {before}


def test_what_was_committed_and_not_acknowledged_is_acknowledged_by_the_next_owner(travel: Travel) -> None:
    fleet = travel(Script())
    fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    with armed("unit.committed:raise:1"), pytest.raises(FailpointRaised):
        fleet.turn("hotels")
    before = taken(fleet).missing(["hotels"], EVENTS, 0)

    fleet.crash("hotels")
    fleet.settle()

    assert before == ["hotels"]
    assert taken(fleet).missing(["hotels"], EVENTS, 0) == []


def test_a_parked_event_is_an_exception_until_it_is_handled(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 5}))
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    parked, missing = taken(fleet).of("hotels", EVENTS).parked, taken(fleet).missing(["hotels"], EVENTS, 0)

    for _ in range(4):
        fleet.advance(301)

    assert (parked, missing) == ({0}, ["hotels"])
    assert taken(fleet).missing(["hotels"], EVENTS, 0) == []
    assert (0, 1) in [(record.begin, record.end) for record in told(fleet) if record.participant == "hotels"]


def test_a_new_owner_goes_on_holding_back_what_is_parked(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 5}))
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    fleet.crash("hotels")
    fleet.settle()
    held = taken(fleet).missing(["hotels"], EVENTS, 0)
    for _ in range(4):
        fleet.advance(301)

    assert held == ["hotels"]
    assert taken(fleet).missing(["hotels"], EVENTS, 0) == []


def test_what_came_twice_is_acknowledged_again_and_said_to_be_a_duplicate(travel: Travel) -> None:
    fleet = travel(Script())
    fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    fleet.turn("hotels")
    log = fleet.broker.logs[Partition(EVENTS, 0)]

    again = len(log)
    log.append(log[0]._replace(offset=again))
    fleet.settle()

    assert (again, "duplicate") in [one for record in told(fleet) for one in record.exceptions]
    assert taken(fleet).missing(["hotels"], EVENTS, again) == []


def test_what_a_lane_never_saw_is_not_acknowledged(travel: Travel) -> None:
    fleet = travel(Script())
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    lane = fleet.loops["hotels"].lanes.owned[0].lane
    lane.gaps[EVENTS] = [(1, 2)]
    fleet.broker.logs[Partition(ACKS, 0)].clear()

    with fleet.stores["hotels"].unit() as unit:
        fleet.loops["hotels"].acks.begin(lane, unit)
    fleet.loops["hotels"].relay.aside(fleet.loops["hotels"].acks.take())

    assert taken(fleet).missing(["hotels"], EVENTS, 1) == ["hotels"]
    assert taken(fleet).missing(["hotels"], EVENTS, 0) == []


def test_a_group_that_skipped_to_the_end_says_that_it_has_passed_the_gap(travel: Travel) -> None:
    fleet = travel(Script())
    fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    store, events = fleet.stores["hotels"], Partition(EVENTS, 0)
    lane = store.claim("travel", 0, 1)
    with store.unit() as unit:
        unit.advance(replace(lane, batch=lane.batch + 1, offsets={EVENTS: 1}, gaps={EVENTS: [(0, 1)]}))

    fleet.crash("hotels")
    for _ in range(3):
        fleet.turn("hotels")

    assert fleet.broker.offsets["travel.hotels"][events] == 1
    assert taken(fleet).missing(["hotels"], EVENTS, 0) == ["hotels"]
