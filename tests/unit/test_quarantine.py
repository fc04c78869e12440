"""A record at which the process dies: counted before it runs where a process has died, and not run a fourth time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from saga import Retry
from saga.engine import processor
from saga.handling.intake import Incoming
from saga.handling.quarantine import DEATHS, Caution
from saga.participant import operator
from saga.protocol.facts import StepStatus
from saga.store.dead_letter import DeadLetter, LetterState, Place, Reason
from saga.store.lane import Lane
from saga.store.memory_unit import MemoryUnit
from saga.store.port import Unit
from saga.store.workflow import Fence
from saga.testing.harness import Harness
from saga.transport.memory import MemoryConsumer
from saga.transport.port import Partition, Record
from tests.travel import Script, TripBooked, effects, harness

Travel = Callable[..., Harness]


class Died(BaseException):
    """The end of the process, as far as a test in one process can have it: nothing catches it."""


class Deadly(Script):
    """A script whose step `hotel` ends the process for the trips in `deadly`."""

    def __init__(self, *deadly: str, **scripted: Any) -> None:
        super().__init__(**scripted)
        self.deadly = {*deadly}

    def reach(self, step: str, trip: str) -> bool:
        if step in {"hotel", "free_hotel"} and trip in self.deadly:
            raise Died(trip)
        return super().reach(step, trip)


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets of one lane that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **{"partitions": 1, **options}))


def live(running: Harness, most: int = 20) -> int:
    """Turn all until nothing moves, and start the hotels again whenever they die; answers how often."""
    for deaths in range(most):
        try:
            running.settle()
        except Died:
            running.crash("hotels")
        else:
            return deaths
    raise AssertionError(f"the hotels died {most} times")


def hotel(running: Harness, workflow_id: str) -> Fence:
    workflow = running.workflow("hotels", workflow_id)
    assert workflow is not None
    return workflow.fences["hotel"]


def trials(running: Harness) -> dict[str, int]:
    [owned] = running.loops["hotels"].lanes.owned.values()
    return owned.lane.trials


def test_a_record_that_kills_is_not_run_again_after_three_counted_deaths_and_the_lane_goes_on(travel: Travel) -> None:
    running = travel(Deadly("deadly"))
    running.start(TripBooked(trip="before"), workflow_id="w1")
    running.start(TripBooked(trip="deadly"), workflow_id="w2")
    running.start(TripBooked(trip="behind"), workflow_id="w3")

    deaths = live(running)

    assert deaths == 1 + DEATHS  # the first one in ordinary running
    fence = hotel(running, "w2")
    assert operator.is_parked(fence)
    assert fence.due is None
    assert "in quarantine: the process died 3 times" in (fence.error or "")
    assert [running.steps(id)["confirm"] for id in ("w1", "w3")] == [StepStatus.DONE, StepStatus.DONE]
    assert [row for row in effects(running) if row[1] == "hotel"] == [("w1", "hotel", "action"), ("w3", "hotel", "action")]
    assert not running.stopped()


def test_a_letter_that_kills_once_it_is_requeued_is_not_taken_in_again_after_three_counted_deaths(travel: Travel) -> None:
    running = travel(Deadly("deadly"))
    for trip in ("deadly", "good"):
        running.start(TripBooked(trip=trip), workflow_id=trip)
    running.turn("agency")
    kept = [letter_of(record) for record in running.broker.logs[Partition("travel.events", 0)]]
    running.broker.logs[Partition("travel.events", 0)].clear()
    with running.stores["hotels"].unit() as unit:
        unit.bury(kept)

    deaths = live(running)

    assert deaths == 1 + DEATHS
    assert "in quarantine" in (hotel(running, "deadly").error or "")
    assert hotel(running, "good").status is StepStatus.DONE


def letter_of(record: Record) -> DeadLetter:
    """As somebody has requeued it."""
    place = Place("travel", record.topic, record.partition, record.offset)
    return DeadLetter(
        place=place,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
        reason=Reason.KEY,
        error="",
        recorded=datetime(2026, 1, 1, tzinfo=UTC),
        state=LetterState.REQUEUED,
    )


def test_a_retry_runs_it_again(travel: Travel) -> None:
    script = Deadly("deadly")
    running = travel(script)
    running.start(TripBooked(trip="deadly"), workflow_id="w1")
    live(running)

    script.deadly.clear()
    retry(running, "w1")
    running.advance(1)

    assert running.steps("w1")["confirm"] is StepStatus.DONE


def retry(running: Harness, workflow_id: str) -> None:
    with running.transaction("hotels") as tx:
        assert isinstance(tx, Unit)
        found = tx.load("travel", [workflow_id]).values()
        assert operator.retry(tx, "travel", found, running.clock.now(), None, by="ann")


def test_a_retry_that_kills_again_ends_in_quarantine_again(travel: Travel) -> None:
    running = travel(Deadly("deadly"))
    running.start(TripBooked(trip="deadly"), workflow_id="w1")
    live(running)

    retry(running, "w1")
    running.clock.advance(1)
    deaths = live(running)

    assert deaths == DEATHS  # the lane is unclean already, so the first is counted too
    assert "in quarantine" in (hotel(running, "w1").error or "")


def test_a_quarantined_workflow_still_hears_of_an_abort(travel: Travel) -> None:
    running = travel(Deadly("deadly"))
    running.start(TripBooked(trip="deadly"), workflow_id="w1")
    live(running)

    running.abort("w1", by="agency")
    running.settle()

    assert hotel(running, "w1").status is StepStatus.SKIPPED
    assert running.steps("w1")["book"] is StepStatus.COMPENSATED


def test_a_compensation_that_kills_is_stuck_and_says_why(travel: Travel) -> None:
    script = Deadly(failing={("pay", "rome")})
    running = travel(script)
    running.start(TripBooked(trip="rome"), workflow_id="w1")
    while hotel_status(running) is not StepStatus.DONE:
        running.turn("agency")
        running.turn("hotels")
    script.deadly.add("rome")

    live(running)

    fence = hotel(running, "w1")
    assert fence.status is StepStatus.STUCK
    assert "in quarantine" in (fence.error or "")


def hotel_status(running: Harness) -> StepStatus:
    return running.steps("w1")["hotel"]


def test_a_call_to_the_world_that_kills_is_not_made_again(travel: Travel) -> None:
    script = Deadly("deadly")
    running = travel(script, external=True)
    running.start(TripBooked(trip="deadly"), workflow_id="w1")
    running.start(TripBooked(trip="good"), workflow_id="w2")

    live(running)

    assert "in quarantine" in (hotel(running, "w1").error or "")
    assert running.steps("w2")["confirm"] is StepStatus.DONE


def test_a_clean_lane_counts_nothing(travel: Travel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(unit: MemoryUnit, lane: Lane) -> None:
        raise AssertionError("a start was counted")

    monkeypatch.setattr(MemoryUnit, "count", refuse)
    running = travel(Script(raising={("hotel", "rome"): 2}), retry=Retry(quick=1, first=1.0))

    running.start(TripBooked(trip="rome"), workflow_id="w1")
    running.settle()
    running.advance(5)

    assert running.steps("w1")["confirm"] is StepStatus.DONE
    assert trials(running) == {}


def test_what_cannot_have_been_in_hand_is_not_counted(travel: Travel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "READ_AHEAD", 0)
    running = travel(Script())
    running.crash("hotels")

    running.start(TripBooked(trip="rome"), workflow_id="w1")
    running.settle()

    assert running.steps("w1")["confirm"] is StepStatus.DONE
    assert trials(running) == {}


def test_after_an_end_that_was_no_records_fault_everything_runs_once(travel: Travel) -> None:
    running = travel(Script())
    for number in range(5):
        running.start(TripBooked(trip="rome"), workflow_id=f"w{number}")
    running.turn("agency")
    running.crash("hotels")

    running.settle()

    assert [row for row in effects(running) if row[1] == "hotel"] == [(f"w{n}", "hotel", "action") for n in range(5)]
    assert [*trials(running).values()] == [1]


def test_a_lane_is_careful_for_as_many_records_of_each_topic_as_may_have_been_in_hand() -> None:
    caution = Caution(Lane("travel", 0, 2, clean=False), 2)

    for offset in range(2):
        caution.passed(incoming("travel.events", offset))

    assert not caution.holds(incoming("travel.events", 2))
    assert caution.holds(incoming("travel.compensations", 2))


def test_letters_and_records_take_no_care_from_each_other() -> None:
    caution = Caution(Lane("travel", 0, 2, clean=False), 2, {"travel.events": 9})

    for offset in range(2):
        caution.passed(incoming("travel.events", offset, again=True))

    assert not caution.holds(incoming("travel.events", 2, again=True))
    assert caution.holds(incoming("travel.events", 8))
    assert not caution.holds(incoming("travel.events", 9))
    assert caution.holds(incoming("travel.compensations", 2, again=True))


def incoming(topic: str, offset: int, *, again: bool = False) -> Incoming:
    return Incoming(Record(topic, 0, offset, None, None), None, again=again)


def test_what_came_after_the_lane_was_claimed_was_in_nobodys_hands(travel: Travel) -> None:
    running = travel(Script())
    running.start(TripBooked(trip="rome"), workflow_id="w0")
    running.turn("agency")
    running.crash("hotels")
    running.settle()
    before = trials(running)
    assert len(before) == 1

    for number in range(1, 6):
        running.start(TripBooked(trip="rome"), workflow_id=f"w{number}")
    running.settle()

    assert trials(running) == before
    assert len([row for row in effects(running) if row[1] == "hotel"]) == 6


def test_starts_are_counted_over_deaths_and_forgotten_once_something_else_is_begun() -> None:
    lane = Lane("travel", 0, 2, clean=False, trials={"travel.events@7": 2, "travel.compensations@1": 1})
    caution = Caution(lane, 10)

    assert (caution.begin("travel.events@6"), lane.trials["travel.events@6"]) == (0, 1)
    assert caution.begin("travel.events@7") == 2
    assert lane.trials == {"travel.events@7": 3, "travel.compensations@1": 1}
    assert caution.begin("travel.events@8") == 0
    assert lane.trials == {"travel.events@8": 1, "travel.compensations@1": 1}


def test_timers_of_an_unclean_lane_pass_as_ever(travel: Travel) -> None:
    running = travel(Script(waiting={"rome"}))
    running.start(TripBooked(trip="rome"), workflow_id="w1")
    running.settle()
    running.crash("airline")

    running.advance(timedelta(minutes=2).total_seconds())

    assert running.steps("w1")["book"] is StepStatus.COMPENSATED


def test_what_is_taken_in_singly_comes_behind_what_was_passed_before(travel: Travel) -> None:
    running = travel(Script(waiting={"rome"}))
    running.start(TripBooked(trip="rome"), workflow_id="w1")
    for name in ("agency", "agency", "hotels", "hotels"):
        running.turn(name)
    running.crash("bank")
    consumer = running.loops["bank"].consumer
    assert isinstance(consumer, MemoryConsumer)
    consumer.held, poll = {"travel.acks"}, consumer.poll
    consumer.poll = lambda limit, timeout: poll(min(limit, 1), timeout)  # type: ignore[method-assign]

    fences = []
    for _ in range(4):  # the booking is nothing to the bank, and of the hotel's answer there is nothing to be said yet
        running.turn("bank")
        fences.append(running.stores["bank"].lanes()[0].offsets.get("travel.events", 0))

    assert fences == [0, 2, 2, 2]
