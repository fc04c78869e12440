"""Handlers that take long: their transaction is ended after a second of them, and what is left is another one's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from saga.contracts.topics import lane_of
from saga.handling import external
from saga.protocol.facts import WorkflowStatus
from saga.testing.clock import ManualClock
from saga.testing.harness import Harness
from saga.transport.port import Partition
from tests.travel import CREATE_EFFECTS, Script, TripBooked, effects, fleet
from tests.unit.test_quarantine import letter_of

TRIPS = [f"t{number}" for number in range(10)]


@dataclass
class Slow(Script):
    """Each call for the hotels takes `seconds`; the process dies in the one for the trip that is `deadly`."""

    clock: ManualClock | None = None
    seconds: float = 0.4
    deadly: str | None = None

    def reach(self, step: str, trip: str) -> bool:
        if step == "hotel":
            assert self.clock is not None
            self.clock.sleep(self.seconds)
        if (step, trip) == ("hotel", self.deadly):
            raise KeyboardInterrupt
        return super().reach(step, trip)


@pytest.fixture
def script() -> Slow:
    return Slow()


@contextmanager
def waiting(script: Slow, partitions: int, *, external: bool = False) -> Iterator[Harness]:
    """Ten trips wait for the hotels."""
    with Harness(*fleet(script, external=external), partitions=partitions) as running:
        script.clock = running.clock
        for name in running.stores:
            with running.transaction(name) as tx:
                tx.execute(CREATE_EFFECTS)
        for trip in TRIPS:
            running.start(TripBooked(trip=trip), workflow_id=trip)
        for _ in range(5):
            running.turn("agency")
        yield running


@pytest.fixture
def running(script: Slow) -> Iterator[Harness]:
    with waiting(script, partitions=1) as running:
        yield running


def batches(running: Harness) -> int:
    [lane] = running.stores["hotels"].lanes()
    return lane.batch


def test_transactions_end_after_a_second_of_handlers_none_of_which_runs_twice(running: Harness, script: Slow) -> None:
    before = batches(running)
    running.turn("hotels")

    assert batches(running) - before == 4
    assert script.reached["hotel"] == TRIPS
    running.settle()
    assert effects(running).count(("t9", "agency", "action")) <= 1
    assert [workflow for workflow, step, act in effects(running) if (step, act) == ("hotel", "action")] == TRIPS


def test_quick_ones_share_one(running: Harness, script: Slow) -> None:
    script.seconds = 0.05
    before = batches(running)
    running.turn("hotels")

    assert batches(running) - before == 1


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "left by a crash"])
def test_a_turn_ends_after_ten_seconds_of_handlers_and_the_next_one_goes_on(
    running: Harness, script: Slow, *, clean: bool
) -> None:
    if not clean:
        running.crash("hotels")
    script.seconds = 3.0
    running.turn("hotels")
    reached = [*script.reached["hotel"]]
    running.turn("hotels")

    assert reached == TRIPS[:4]
    assert script.reached["hotel"] == TRIPS[:8]
    running.settle()
    assert script.reached["hotel"] == TRIPS
    assert [running.workflow("agency", trip).status for trip in TRIPS] == [WorkflowStatus.COMPLETED] * len(TRIPS)  # type: ignore[union-attr]


def test_a_turn_ends_after_ten_seconds_of_handlers_that_fail_too_behind_the_first_that_was_tried_enough(
    running: Harness, script: Slow
) -> None:
    script.seconds, script.raising = 3.0, {("hotel", trip): 100 for trip in TRIPS}
    running.turn("hotels")

    assert script.reached["hotel"] == ["t0"] * 4
    script.raising.clear()
    running.settle()
    assert sorted(workflow for workflow, step, act in effects(running) if (step, act) == ("hotel", "action")) == TRIPS


def test_what_is_due_at_once_keeps_a_turn_no_longer_than_one_of_them_takes(running: Harness, script: Slow) -> None:
    script.seconds, script.raising = 0.0, {("hotel", trip): 100 for trip in TRIPS}
    running.turn("hotels")
    script.seconds, before = 3.0, len(script.reached["hotel"])
    script.raising.clear()
    running.clock.advance(1.0)
    running.turn("hotels")

    assert len(script.reached["hotel"]) == before + 1
    running.settle()
    assert sorted(workflow for workflow, step, act in effects(running) if (step, act) == ("hotel", "action")) == TRIPS


def test_so_do_dead_letters_that_are_taken_in_again(running: Harness, script: Slow) -> None:
    log = running.broker.logs[Partition("travel.events", 0)]
    with running.stores["hotels"].unit() as unit:
        unit.bury([letter_of(record) for record in log])
    log.clear()
    script.seconds = 3.0
    running.turn("hotels")

    assert script.reached["hotel"] == TRIPS[:1]
    running.settle()
    assert script.reached["hotel"] == TRIPS


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "left by a crash"])
def test_a_turn_begins_no_call_to_the_world_after_ten_seconds_and_the_next_one_goes_on(
    script: Slow, monkeypatch: pytest.MonkeyPatch, *, clean: bool
) -> None:
    monkeypatch.setattr(external, "CONCURRENT_CALLS", 1)
    with waiting(script, partitions=1, external=True) as running:
        script.seconds = 3.0
        running.turn("hotels")
        reached = [*script.reached["hotel"]]
        if not clean:
            running.crash("hotels")
        running.turn("hotels")

        assert reached == TRIPS[:4]
        assert script.reached["hotel"] == TRIPS[:8]
        running.settle()
        assert script.reached["hotel"] == TRIPS
        assert set(script.calls.values()) == {1}
        assert [running.workflow("agency", trip).status for trip in TRIPS] == [WorkflowStatus.COMPLETED] * len(TRIPS)  # type: ignore[union-attr]


def test_a_lane_behind_a_slow_one_is_not_forgotten(script: Slow) -> None:
    script.seconds = 11.0
    with waiting(script, partitions=2) as running:
        running.turn("hotels")

        assert {lane_of(trip, 2) for trip in script.reached["hotel"]} == {0, 1}
        assert len(script.reached["hotel"]) == 2


def test_who_is_to_end_begins_nothing_for_its_other_lanes(script: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting(script, partitions=2) as running:
        loop = running.loops["hotels"]
        script.seconds = 11.0
        with monkeypatch.context() as patch:
            patch.setattr(ManualClock, "sleep", lambda *_: loop.stopping.set())  # SIGTERM comes while the first is handled
            running.turn("hotels")

        assert {lane_of(trip, 2) for trip in script.reached["hotel"]} == {lane_of(script.reached["hotel"][0], 2)}
        loop.leave()
        running.crash("hotels")
        running.settle()
        assert [running.workflow("agency", trip).status for trip in TRIPS] == [WorkflowStatus.COMPLETED] * len(TRIPS)  # type: ignore[union-attr]


def test_what_was_done_before_the_process_dies_is_done(running: Harness, script: Slow) -> None:
    script.deadly = "t7"
    with pytest.raises(KeyboardInterrupt):
        running.turn("hotels")

    assert [workflow for workflow, step, _ in effects(running) if step == "hotel"] == TRIPS[:6]

    script.deadly = None
    running.crash("hotels")
    running.settle()
    assert [workflow for workflow, step, act in effects(running) if (step, act) == ("hotel", "action")] == TRIPS
