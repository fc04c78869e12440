"""Too much waits: nothing more is taken in, nothing is dropped, and what is in hand goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from saga import Participant, Retry
from saga.delivery.relay import Relay
from saga.engine.bounds import Bounds
from saga.engine.health import State
from saga.errors import StoreError
from saga.protocol.facts import WorkflowStatus
from saga.store.outbox import OutboxRow
from saga.store.port import Unit
from saga.testing.harness import Harness
from saga.transport.port import Outbound
from tests.travel import Script, TripBooked, effects, harness

Travel = Callable[..., Harness]
PATIENT = Retry(attempts=99, quick=1, first=10, longest=10)


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **options))


def measure(bounds: Bounds, unpublished: int, parked: int) -> bool:
    return bounds.measure(unpublished=unpublished, most_unpublished=100, parked=parked, most_parked=10)


def test_bounds_are_left_well_below_where_they_are_reached() -> None:
    bounds = Bounds()

    changes = [measure(bounds, 0, parked) for parked in (10, 11, 10, 9, 10)]

    assert changes == [False, True, False, True, False]


def test_both_bounds_must_be_left() -> None:
    bounds = Bounds()
    measure(bounds, 101, 11)

    assert not measure(bounds, 0, 11)
    assert not measure(bounds, 101, 0)
    assert bounds.full == "more than 100 events wait to be published"
    assert measure(bounds, 90, 9)


def test_nobody_is_told_a_number_at_which_counting_ended() -> None:
    bounds = Bounds()
    measure(bounds, 101, 11)
    beyond = bounds.full
    measure(bounds, 95, 10)

    assert beyond == "more than 100 events wait to be published and more than 10 workflows are parked; look at: saga parked"
    assert bounds.full == (
        "95 events wait to be published, and it goes on at 90 and 10 workflows are parked, and it goes on at 9; "
        "look at: saga parked"
    )


def hotels_that_fail(travel: Travel, count: int) -> tuple[Harness, Script]:
    """So many workflows parked at hotels, which takes at most four."""
    script = Script(raising={("hotel", f"t{number}"): 99 for number in range(count)})
    fleet = travel(script, retry=PATIENT)
    fleet.participants["hotels"].max_parked = 4
    for number in range(count):
        fleet.start(TripBooked(trip=f"t{number}"), workflow_id=f"w{number}")
    fleet.settle()
    return fleet, script


def parked(fleet: Harness) -> int:
    with fleet.stores["hotels"].unit() as unit:
        return unit.count_parked("travel", 1000)


def test_while_too_many_workflows_are_parked_nothing_more_is_taken_in_and_all_of_it_later(
    travel: Travel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "saga.worker")
    fleet, script = hotels_that_fail(travel, 5)
    fleet.start(TripBooked(trip="late"), workflow_id="late")
    fleet.settle()
    heard_while_full = fleet.workflow("hotels", "late")
    lanes = fleet.loops["hotels"].lanes.parts({})

    script.raising.clear()
    fleet.advance(11)

    assert heard_while_full is None
    assert {lane.state for lane in lanes} == {State.DEGRADED}
    assert "nothing is taken in: more than 4 workflows are parked; look at: saga parked" in lanes[0].text
    assert parked(fleet) == 0
    assert fleet.workflow("hotels", "late").status is WorkflowStatus.COMPLETED  # type: ignore[union-attr]
    assert effects(fleet).count(("late", "hotel", "action")) == 1
    told = [record.message for record in caplog.records if "taken in" in record.message]
    assert [text.split(":")[0] for text in told] == ["nothing more is taken in", "facts are taken in again"]


def test_a_full_participant_takes_nothing_in_after_a_crash_either(travel: Travel) -> None:
    fleet, _ = hotels_that_fail(travel, 5)

    fleet.crash("hotels")
    fleet.turn("hotels")
    fleet.start(TripBooked(trip="late"), workflow_id="late")
    fleet.settle()

    assert fleet.workflow("hotels", "late") is None


def test_a_handlers_outbox_does_not_grow_beyond_its_bound_while_nothing_can_be_published(travel: Travel) -> None:
    fleet = travel(Script())
    fleet.participants["hotels"].max_backlog = 3
    fleet.broker.fault = lambda outbound: "Kafka takes nothing" if is_by_hotels(outbound) else None
    for number in range(50):
        fleet.start(TripBooked(trip="rome"), workflow_id=f"w{number}")
        for name in (*fleet.loops, *fleet.loops):
            fleet.turn(name)
    with fleet.stores["hotels"].unit() as unit:
        waiting = unit.backlog("travel", 1000)

    fleet.broker.fault = None
    fleet.advance(5)

    assert waiting == 4
    assert effects(fleet).count(("w49", "hotel", "action")) == 1
    assert fleet.workflow("hotels", "w49").status is WorkflowStatus.COMPLETED  # type: ignore[union-attr]


def is_by_hotels(outbound: Outbound) -> bool:
    return dict(outbound.headers).get("ce_source") == "hotels"


def test_what_is_on_its_way_to_kafka_is_bounded_and_the_outbox_keeps_the_rest(
    travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    send = Relay._send

    def noted(relay: Relay, rows: Sequence[OutboxRow]) -> None:
        send(relay, rows)
        seen.append(len(relay._in_flight))

    monkeypatch.setattr(Relay, "_send", noted)
    monkeypatch.setattr("saga.delivery.relay.MAX_IN_FLIGHT", 6)
    monkeypatch.setattr("saga.delivery.relay.SCAN_ROWS", 3)
    fleet = travel(Script())
    for number in range(50):
        fleet.start(TripBooked(trip="rome"), workflow_id=f"w{number}")
    while fleet.turn("agency"):
        pass
    fleet.settle()  # the hotels find all of them at once

    assert 0 < max(seen) <= 6
    assert {fleet.workflow("hotels", f"w{n}").status for n in range(50)} == {WorkflowStatus.COMPLETED}  # type: ignore[union-attr]


def test_what_is_on_its_way_to_kafka_is_bounded_by_its_bytes_too(travel: Travel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    send = Relay._send

    def noted(relay: Relay, rows: Sequence[OutboxRow]) -> None:
        send(relay, rows)
        seen.append(sum(len(row.payload) for row in relay._in_flight._rows.values()))

    monkeypatch.setattr(Relay, "_send", noted)
    monkeypatch.setattr("saga.delivery.relay.MAX_BYTES", 6_000)
    fleet = travel(Script())
    for number in range(50):
        fleet.start(TripBooked(trip="rome" * 250), workflow_id=f"w{number}")
    while fleet.turn("agency"):
        pass
    fleet.settle()

    assert 1_000 < max(seen) <= 8_000  # what is there when a lane is scanned, and what is read then
    assert {fleet.workflow("hotels", f"w{n}").status for n in range(50)} == {WorkflowStatus.COMPLETED}  # type: ignore[union-attr]


def test_what_changed_is_heeded_although_the_database_went_away_in_the_moment_that_it_was_seen(
    travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Bounds.look

    def lost(bounds: Bounds, unit: Unit, participant: Participant) -> bool:
        if changed := look(bounds, unit, participant):
            raise StoreError("the connection was lost")
        return changed

    monkeypatch.setattr(Bounds, "look", lost)
    fleet, script = hotels_that_fail(travel, 5)
    fleet.advance(1)
    full = fleet.loops["hotels"].lanes.full

    script.raising.clear()
    fleet.advance(11)
    fleet.advance(1)

    assert full == "more than 4 workflows are parked; look at: saga parked"
    assert fleet.loops["hotels"].lanes.full is None
