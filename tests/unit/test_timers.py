"""Timeouts and deadlines: they wish to unwind, exactly once, never early, and the pivot decides whether they came in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from saga import Event, Participant, Refused, Retry, Saga, Transaction
from saga.contracts.topics import lane_of
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.testing.harness import Harness
from saga.transport.memory import MemoryConsumer
from saga.transport.port import Partition, Record
from tests.travel import CREATE_EFFECTS, FlightBooked, HotelFreed, Script, TripBooked, effects, harness

ALL = ("agency", "hotels", "airline", "bank")
DEADLINE, TIMEOUT = 600, 60
Travel = Callable[..., Harness]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that are closed at the end of the test; participants and harness share one clock."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **options))


def ends(fleet: Harness, workflow: str) -> set[WorkflowStatus | None]:
    found = (fleet.workflow(name, workflow) for name in ALL)
    return {end.status if end and end.closed else None for end in found}


def aborts(fleet: Harness) -> int:
    return sum(("ce_status", b"abort") in record.headers for log in fleet.facts() for record in log)


def test_a_workflow_that_is_not_done_by_its_deadline_unwinds_and_says_why(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 10**6}))
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    fleet.advance(DEADLINE - 1)
    assert ends(fleet, workflow) == {None}

    fleet.advance(1)
    assert ends(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert aborts(fleet) == 1
    closed = fleet.workflow("agency", workflow)
    assert closed is not None
    assert closed.error is not None
    assert closed.error.startswith("the deadline passed at 2030-01-01 00:10:00")


def test_a_deadline_passes_where_all_that_others_once_stated_has_aged_out(travel: Travel) -> None:
    fleet = travel(Script(waiting={"rome"}), partitions=1)
    gone = Partition("travel.compensations", 0)
    fleet.broker.logs[gone] += [Record(*gone, offset, b"old", b"") for offset in range(3)]
    fleet.broker.begins[gone] = 3
    for name in ALL:  # all are new
        fleet.stores[name] = fleet.new_store()
        with fleet.transaction(name) as tx:
            tx.execute(CREATE_EFFECTS)
        fleet.crash(name)
    fleet.settle()
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    fleet.advance(DEADLINE)

    assert ends(fleet, workflow) == {WorkflowStatus.COMPENSATED}


def test_a_deadline_that_passes_after_the_pivot_aborts_nothing(travel: Travel) -> None:
    fleet = travel(Script())
    workflow = fleet.start(TripBooked(trip="rome"))
    for name in ("agency", "hotels", "airline", "hotels", "airline", "bank", "bank"):
        fleet.turn(name)

    fleet.clock.advance(DEADLINE)
    fleet.settle()

    assert ends(fleet, workflow) == {WorkflowStatus.COMPLETED}
    assert aborts(fleet) == 0


def test_a_deadline_does_not_pass_before_everything_that_came_in_time_is_taken_in(travel: Travel) -> None:
    fleet = travel(Script(), partitions=1)
    workflow = fleet.start(TripBooked(trip="rome"))
    for name in ("agency", "hotels", "airline", "hotels", "airline", "bank", "bank"):
        fleet.turn(name)
    topics = [p for p in fleet.broker.logs if p.topic == "travel.events"]
    fleet.loops["agency"].consumer.pause(topics)

    fleet.clock.advance(DEADLINE)
    for _ in range(5):
        fleet.turn("agency")
    assert aborts(fleet) == 0

    fleet.loops["agency"].consumer.resume(topics)
    fleet.settle()
    assert ends(fleet, workflow) == {WorkflowStatus.COMPLETED}


def busy(fleet: Harness, participant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it is asked where the events end, one more record is there: its lane never stands still at the end."""
    consumer, log = fleet.loops[participant].consumer, fleet.broker.logs[Partition("travel.events", 0)]
    ends = consumer.ends

    def growing(partitions: Iterable[Partition]) -> dict[Partition, int]:
        log.append(log[0]._replace(offset=len(log)))
        return ends(partitions)

    monkeypatch.setattr(consumer, "ends", growing)


def test_a_lane_to_which_ever_more_comes_has_its_timeouts_all_the_same(travel: Travel, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = travel(Script(waiting={"rome"}), partitions=1)
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    busy(fleet, "airline", monkeypatch)

    fleet.clock.advance(TIMEOUT)
    for _ in range(20):
        fleet.clock.advance(0.5)
        fleet.turn("airline")

    assert fleet.steps(workflow)["flight"] is not StepStatus.RUNNING
    assert aborts(fleet) == 1


def test_a_deadline_that_passed_later_than_what_is_read_waits_until_more_is_read(
    travel: Travel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saga.engine.loop.READ_AHEAD", 1)
    fleet = travel(Script(waiting={"oslo"}), partitions=1)
    agency, log = fleet.loops["agency"], fleet.broker.logs[Partition("travel.events", 0)]
    fleet.start(TripBooked(trip="oslo"))
    fleet.clock.advance(1)
    in_time = fleet.start(TripBooked(trip="rome"))
    fleet.turn("agency")
    fleet.turn("agency")
    agency.batch = 1
    fleet.clock.advance(DEADLINE - 1)
    log.append(log[0]._replace(offset=len(log)))
    agency.agenda.see_to_it(agency.consumer)  # sees one record more, which it has not read
    for _ in range(20):
        for name in ("hotels", "airline", "bank"):
            fleet.turn(name)
    assert fleet.steps(in_time)["pay"] is StepStatus.DONE

    fleet.clock.advance(2)
    fleet.settle()

    assert ends(fleet, in_time) == {WorkflowStatus.COMPLETED}
    assert aborts(fleet) == 1


def test_a_deadline_that_passes_while_the_initiator_is_down_is_seen_to_when_it_is_back(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 10**6}))
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    fleet.clock.advance(2 * DEADLINE)
    fleet.crash("agency")
    fleet.settle()

    assert ends(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert aborts(fleet) == 1


def test_a_step_that_waits_for_the_world_too_long_is_withdrawn_and_a_late_answer_is_refused(travel: Travel) -> None:
    fleet = travel(Script(waiting={"rome"}))
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    fleet.advance(TIMEOUT - 1)
    assert fleet.steps(workflow)["flight"] is StepStatus.RUNNING

    fleet.advance(1)
    assert fleet.steps(workflow)["flight"] is StepStatus.COMPENSATED
    assert ends(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert (workflow, "flight", "compensation") in effects(fleet)
    with fleet.transaction("airline") as tx, pytest.raises(Refused):
        fleet.participants["airline"].resolve(workflow, "flight", FlightBooked(trip="rome"), tx)


def test_an_answer_of_the_world_that_comes_in_time_ends_the_wait(travel: Travel) -> None:
    fleet = travel(Script(waiting={"rome"}))
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    fleet.advance(TIMEOUT - 1)
    with fleet.transaction("airline") as tx:
        fleet.participants["airline"].resolve(workflow, "flight", FlightBooked(trip="rome"), tx)
    fleet.settle()
    fleet.advance(TIMEOUT)

    assert ends(fleet, workflow) == {WorkflowStatus.COMPLETED}
    assert aborts(fleet) == 0


def stuck_trip(travel: Travel) -> tuple[Harness, str]:
    """A trip that unwinds, and of which the hotel cannot be undone; an hour is given for that."""
    script = Script(failing={("pay", "rome")}, raising={("free_hotel", "rome"): 10**6})
    fleet = travel(script, retry=Retry(attempts=2, quick=2), unwind="PT1H")
    workflow = fleet.start(TripBooked(trip="rome"), workflow_id="w1")
    fleet.settle()
    return fleet, workflow


def stated(fleet: Harness) -> int:
    return sum(any(name == "ce_status" for name, _ in record.headers) for log in fleet.broker.logs.values() for record in log)


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "saga.timers" and r.levelname == "ERROR"]


def test_an_unwinding_that_lasts_too_long_is_an_alarm_that_names_who_is_awaited_and_decides_nothing(
    travel: Travel, caplog: pytest.LogCaptureFixture
) -> None:
    fleet, workflow = stuck_trip(travel)

    fleet.advance(3599)
    assert alarms(caplog) == []
    before = stated(fleet)
    fleet.advance(1)
    fleet.crash("agency")
    fleet.advance(7200)

    awaited = "unwinding has lasted for more than 1:00:00; awaited: hotel by hotels, which is stuck"
    agency = fleet.workflow("agency", workflow)
    assert alarms(caplog) == [f"workflow w1: {awaited}"]
    assert agency is not None
    assert agency.error is not None
    assert agency.error.endswith(awaited)
    assert (ends(fleet, workflow), stated(fleet)) == ({None}, before)


def test_an_unwinding_that_ends_in_time_raises_no_alarm(travel: Travel, caplog: pytest.LogCaptureFixture) -> None:
    fleet, workflow = stuck_trip(travel)

    fleet.advance(3599)
    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].resolve(workflow, "hotel", HotelFreed(trip="rome"), tx, by="alice")
    fleet.settle()
    fleet.advance(7200)

    assert ends(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert alarms(caplog) == []


def test_only_the_initiator_watches_the_unwinding(travel: Travel) -> None:
    fleet, workflow = stuck_trip(travel)

    found = {name: fleet.workflow(name, workflow) for name in ALL}

    assert [name for name, known in found.items() if known and known.unwind_by] == ["agency"]


def test_a_parked_step_times_out_into_a_tombstone(travel: Travel) -> None:
    fleet = travel(Script(raising={("flight", "rome"): 10**6}))
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    fleet.advance(TIMEOUT)

    assert fleet.steps(workflow)["flight"] is StepStatus.SKIPPED
    assert ends(fleet, workflow) == {WorkflowStatus.COMPENSATED}


class Sent(Event):
    """A parcel is on its way: the pivot."""


class Arrived(Event):
    """A parcel has arrived."""


class Billed(Event):
    """It is paid for."""


def parcels() -> Harness:
    """A pivot, a step after it, and one that knows of that step alone, has a minute, and raises."""
    steps: dict[str, dict[str, Any]] = {
        "send": {"by": "shop", "emits": ["Sent"], "pivot": True},
        "arrive": {"by": "carrier", "on": ["Sent"], "emits": ["Arrived"]},
        "bill": {"by": "billing", "on": ["Arrived"], "emits": ["Billed"], "timeout": "PT1M"},
    }
    fields = [{"name": n, "type": ["null", *s["emits"]], "default": None, "step": s} for n, s in steps.items()]
    record: dict[str, Any] = {"type": "record", "namespace": "parcels", "fields": []}
    events = [{**record, "name": name} for name in ("Sent", "Arrived", "Billed")]
    about = {"name": "parcels", "version": 1, "owner": "shop", "deadline": "PT10M"}
    saga = Saga.of(*events, {**record, "name": "Parcel", "saga": about, "fields": fields})
    shop, carrier, billing = (Participant(name, saga) for name in ("shop", "carrier", "billing"))

    @carrier.step
    def arrive(sent: Sent, tx: Transaction) -> Arrived:
        return Arrived()

    @billing.step(retry=Retry(attempts=99, quick=0, first=1000, longest=1000))
    def bill(arrived: Arrived, tx: Transaction) -> Billed:
        raise RuntimeError("no paper")

    return Harness(shop, carrier, billing, partitions=1)


def test_a_timeout_after_the_pivot_makes_the_step_stuck_and_wishes_nothing() -> None:
    with parcels() as fleet:
        workflow = fleet.start(Sent())
        fleet.settle()

        fleet.advance(TIMEOUT)

        assert fleet.steps(workflow)["bill"] is StepStatus.STUCK
        stated = [dict(record.headers)["ce_status"] for log in fleet.facts() for record in log]
        assert stated == [b"done", b"done", b"stuck"]


def test_a_lane_that_is_behind_keeps_the_timeouts_of_no_other_waiting(travel: Travel) -> None:
    fleet = travel(Script(waiting={"rome"}), partitions=2)
    airline, events = fleet.loops["airline"], Partition("travel.events", 0)
    airline.agenda.batch = 3
    ids = [f"w{number}" for number in range(20)]
    for workflow in [id for id in ids if lane_of(id, 2) == 0][:4]:
        fleet.start(TripBooked(trip="rome"), workflow_id=workflow)
    fleet.settle()
    fleet.clock.advance(1)
    other = fleet.start(TripBooked(trip="rome"), workflow_id=next(id for id in ids if lane_of(id, 2) == 1))
    fleet.settle()
    airline.consumer.pause([events])
    log = fleet.broker.logs[events]
    log.append(log[0]._replace(offset=len(log)))

    for _ in range(2):
        fleet.advance(TIMEOUT)

    assert ends(fleet, other) == {WorkflowStatus.COMPENSATED}


def test_what_is_due_is_tried_again_although_nobody_says_whether_timeouts_have_passed(travel: Travel) -> None:
    script = Script(waiting={"rome"}, raising={("flight", "oslo"): 3})
    fleet = travel(script, retry=Retry(attempts=9, quick=1, first=TIMEOUT, longest=TIMEOUT), chance=lambda: 0.99)
    fleet.start(TripBooked(trip="rome"))
    parked = fleet.start(TripBooked(trip="oslo"))
    fleet.settle()
    airline = fleet.loops["airline"].consumer
    assert isinstance(airline, MemoryConsumer)
    before = fleet.steps(parked)["flight"]

    airline.unreachable = True
    for _ in range(3):
        fleet.clock.advance(TIMEOUT)
        fleet.turn("airline")

    assert (before, fleet.steps(parked)["flight"]) == (StepStatus.IDLE, StepStatus.DONE)
