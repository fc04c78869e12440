"""A rebuild of topics whose beginnings are gone: what it cannot know any more is not taken for news by the worker to come."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest

from saga.contracts.topics import fact_topics
from saga.failpoints import Failpoint, FailpointRaised, armed
from saga.replay.aged import forgotten
from saga.store.dead_letter import DeadLetter, LetterSearch, Reason
from saga.testing.harness import Harness
from saga.transport.port import Partition, Record
from tests.rebuilding import begun, gone_on, put_in_place, rebuilt, stored
from tests.travel import Script, TripBooked, effects, harness, saga

MONTH = timedelta(days=30)

Logs = dict[Partition, list[Record]]


def aged(fleet: Harness) -> Logs:
    """A trip of each lane is lived, their records age out, and other trips follow; answers the records that are gone."""
    for trip in ("rome", "wien"):
        fleet.start(TripBooked(trip=trip), workflow_id=trip)
    fleet.settle()
    gone = {where: [*log] for where, log in fleet.broker.logs.items() if where.topic in fact_topics("travel")}
    fleet.advance(MONTH.total_seconds())
    for number in range(8):
        fleet.start(TripBooked(trip=f"new {number}"), workflow_id=f"new {number}")
    fleet.settle()
    fleet.broker.begins.update({where: len(log) for where, log in gone.items()})
    return gone


def sent_again(fleet: Harness, records: Logs) -> None:
    """Those of the agency are on their topics once more, behind all that is there: its outbox was restored from a backup."""
    for where, log in records.items():
        end, own = len(fleet.broker.logs[where]), [record for record in log if ("ce_source", b"agency") in record.headers]
        fleet.broker.logs[where] += [record._replace(offset=end + number) for number, record in enumerate(own)]


def letters(fleet: Harness, name: str) -> list[DeadLetter]:
    with fleet.stores[name].unit() as unit:
        return unit.letters(LetterSearch(), 1000)


def stops_after(times: int) -> Callable[[], bool]:
    """Tells to stop once it was asked so often."""
    asked = count(1)
    return lambda: next(asked) > times


def test_what_has_aged_out_and_is_sent_again_does_not_run_again() -> None:
    with harness(Script()) as fleet:
        gone = aged(fleet)
        put_in_place(fleet, "hotels", rebuilt(fleet, "hotels"))
        before = effects(fleet)

        sent_again(fleet, gone)
        fleet.settle()

        assert effects(fleet) == before
        assert {letter.reason for letter in letters(fleet, "hotels")} == {Reason.PRUNED}


def test_what_began_since_runs_as_ever() -> None:
    with harness(Script()) as fleet:
        aged(fleet)
        put_in_place(fleet, "hotels", rebuilt(fleet, "hotels"))

        fleet.start(TripBooked(trip="bonn"), workflow_id="bonn")
        fleet.settle()

        assert ("bonn", "hotel", "action") in effects(fleet)
        assert letters(fleet, "hotels") == []


def test_what_may_be_at_work_as_its_records_are_deleted_is_taken_in() -> None:
    with harness(Script()) as fleet:
        aged(fleet)
        fleet.start(TripBooked(trip="bonn"), workflow_id="bonn")
        while fleet.turn("agency"):
            pass
        for name in ("hotels", "airline"):
            with armed(f"{Failpoint.UNIT_COMMITTED}:raise:1"), suppress(FailpointRaised):
                while True:
                    fleet.turn(name)
            fleet.crash(name)
        fleet.broker.begins.update({where: len(log) for where, log in fleet.broker.logs.items()})

        put_in_place(fleet, "bank", rebuilt(fleet, "bank"))
        fleet.settle()

        assert ("bonn", "pay", "action") in effects(fleet)
        assert letters(fleet, "bank") == []


def test_a_lane_of_which_nothing_is_left_knows_it_as_well() -> None:
    with harness(Script()) as fleet:
        aged(fleet)
        fleet.broker.begins.update({where: len(log) for where, log in fleet.broker.logs.items()})

        store = rebuilt(fleet, "hotels")

        assert {lane.pruned for lane in store.lanes()} == {fleet.clock.now() - timedelta(days=1, minutes=10)}


def test_topics_that_are_whole_have_forgotten_nothing() -> None:
    with harness(Script()) as fleet:
        aged(fleet)
        fleet.broker.begins.clear()

        assert {lane.pruned for lane in rebuilt(fleet, "hotels").lanes()} == {None}


def test_whoever_goes_on_with_a_rebuild_remembers_it() -> None:
    with harness(Script()) as fleet:
        aged(fleet)
        killed = begun(fleet, "hotels", batch=1)
        killed.catch_up(stops_after(2))

        first = {lane.number: lane.pruned for lane in stored(killed).lanes()}
        gone_on(fleet, "hotels", killed).catch_up()

        assert None not in first.values()
        assert {lane.number: lane.pruned for lane in stored(killed).lanes()} == first


@pytest.mark.parametrize("deadline", [None, timedelta(minutes=10)])
def test_without_a_deadline_nobody_knows_what_is_over(deadline: timedelta | None) -> None:
    with harness(Script()) as fleet:
        gone = [where for where, log in aged(fleet).items() if log]
        sagas = [replace(saga(), deadline=deadline), saga()]

        found = forgotten(fleet.broker, gone, sagas, fleet.clock.now())

        assert (found is None) is (deadline is None)
