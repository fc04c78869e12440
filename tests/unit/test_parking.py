"""A workflow whose handler fails is parked, and only it: it still hears what happens, and goes on when it may."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from saga import Refused, Retry
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.workflow import Fence
from saga.testing.harness import Harness
from tests.travel import Script, TripBooked, effects, harness

ALL = ("agency", "hotels", "airline", "bank")
PATIENT = Retry(attempts=6, quick=1, first=10, longest=60)
Travel = Callable[..., Harness]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **options))


def fence(fleet: Harness, participant: str, workflow: str, step: str) -> Fence:
    found = fleet.workflow(participant, workflow)
    assert found is not None
    return found.fences[step]


def outcome(fleet: Harness, workflow: str) -> set[WorkflowStatus | None]:
    found = (fleet.workflow(name, workflow) for name in ALL)
    return {end.status if end and end.closed else None for end in found}


@pytest.mark.parametrize("external", [False, True], ids=["local", "external"])
def test_tries_are_counted_durably_and_wait_longer_each_time(travel: Travel, external: bool) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 4}), external=external, retry=PATIENT)
    workflow = fleet.start(TripBooked(trip="rome"))

    seen = []
    fleet.settle()
    while (waiting := fence(fleet, "hotels", workflow, "hotel")).due is not None:
        seen.append((waiting.attempt, waiting.due - fleet.clock.now()))
        fleet.crash("hotels")
        fleet.advance((waiting.due - fleet.clock.now()).total_seconds())

    assert seen == [(2, timedelta(seconds=5)), (3, timedelta(seconds=10)), (4, timedelta(seconds=20))]
    assert outcome(fleet, workflow) == {WorkflowStatus.COMPLETED}
    assert effects(fleet).count((workflow, "hotel", "action")) == 1


@pytest.mark.parametrize("external", [False, True], ids=["local", "external"])
def test_a_fact_tells_which_of_the_tries_led_to_it(travel: Travel, external: bool) -> None:
    script = Script(raising={("hotel", "rome"): 4, ("free_hotel", "rome"): 4}, failing={("pay", "rome")})
    fleet = travel(script, external=external, retry=PATIENT)
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    seen = []
    while outcome(fleet, workflow) != {WorkflowStatus.COMPENSATED}:
        seen.append((fence(fleet, "hotels", workflow, "hotel").status, fence(fleet, "hotels", workflow, "hotel").attempt))
        fleet.advance(60)

    said = [dict(record.headers) for log in fleet.facts() for record in log]
    tries = {(raw["ce_step"], raw["ce_status"]): int(raw["ce_attempt"] or b"") for raw in said}
    undoing = {StepStatus.DONE, StepStatus.COMPENSATING}
    assert tries[b"hotel", b"done"] == 5 == max(tried for status, tried in seen if status not in undoing) + 1
    assert tries[b"hotel", b"compensated"] == max(tried for status, tried in seen if status in undoing) + 1 > 3
    assert tries[b"flight", b"done"] == 1


def test_nothing_is_tried_before_its_time(travel: Travel) -> None:
    script = Script(raising={("hotel", "rome"): 99})
    fleet = travel(script, retry=PATIENT)
    fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    tried = script.raising["hotel", "rome"]

    fleet.advance(4.9)
    assert script.raising["hotel", "rome"] == tried

    fleet.advance(0.2)
    assert script.raising["hotel", "rome"] == tried - 1


def test_an_abort_turns_a_parked_action_into_a_tombstone_and_the_workflow_unwinds_at_once(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=PATIENT)
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    fleet.abort(workflow, by="agency")
    fleet.settle()

    assert fleet.steps(workflow)["hotel"] is StepStatus.SKIPPED
    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}


def test_a_failure_elsewhere_unwinds_a_parked_workflow(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}, failing={("flight", "rome")}), retry=PATIENT)

    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert (workflow, "hotel", "action") not in effects(fleet)


def test_when_all_tries_are_spent_an_operator_is_waited_for_and_can_have_it_tried_again(travel: Travel) -> None:
    script = Script(raising={("hotel", "rome"): 99})
    fleet = travel(script, retry=Retry(attempts=2, quick=1))
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    fleet.advance(500)
    assert (fence(fleet, "hotels", workflow, "hotel").attempt, fence(fleet, "hotels", workflow, "hotel").due) == (2, None)

    script.raising.clear()
    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].retry(workflow, tx)
    fleet.settle()

    assert outcome(fleet, workflow) == {WorkflowStatus.COMPLETED}


def test_what_is_not_parked_cannot_be_retried(travel: Travel) -> None:
    fleet = travel(Script())
    workflow = fleet.start(TripBooked(trip="rome"))

    with fleet.transaction("agency") as tx, pytest.raises(Refused, match="is not parked here"):
        fleet.participants["agency"].retry(workflow, tx)


def test_a_step_that_may_fail_does_so_when_its_tries_are_spent(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=Retry(attempts=2, quick=1), on_error="fail")

    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    assert fleet.steps(workflow)["hotel"] is StepStatus.FAILED
    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    types = {dict(r.headers)["ce_type"] for log in fleet.facts() for r in log}
    assert b"saga.StepFailed" in types


@pytest.mark.parametrize("on_stuck", ["wait", "continue"])
def test_a_compensation_that_spends_its_tries_is_stuck_until_an_operator_acts(travel: Travel, on_stuck: str) -> None:
    script = Script(failing={("pay", "rome")}, raising={("free_hotel", "rome"): 99})
    fleet = travel(script, retry=Retry(attempts=3, quick=2), on_stuck=on_stuck)
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()
    assert fleet.steps(workflow)["hotel"] is StepStatus.STUCK
    agency = fleet.workflow("agency", workflow)
    assert agency is not None
    assert (agency.closed is not None) == (on_stuck == "continue")

    script.raising.clear()
    with fleet.transaction("hotels") as tx:
        if on_stuck == "wait":
            fleet.participants["hotels"].retry(workflow, tx)
    fleet.settle()

    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert ((workflow, "hotel", "compensation") in effects(fleet)) == (on_stuck == "wait")


def test_a_compensation_that_gets_stuck_again_says_so_in_an_event_of_its_own(travel: Travel) -> None:
    script = Script(failing={("pay", "rome")}, raising={("free_hotel", "rome"): 99})
    fleet = travel(script, retry=Retry(attempts=3, quick=2), on_stuck="wait")
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].retry(workflow, tx)
    fleet.settle()

    told = [dict(record.headers) for log in fleet.facts() for record in log]
    stuck = [headers["ce_id"] for headers in told if headers["ce_status"] == b"stuck"]
    assert len(stuck) == len(set(stuck)) == 2


def test_parked_workflows_hold_up_nobody_else(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", f"trip {n}"): 99 for n in range(0, 60, 10)}), partitions=2, retry=PATIENT)

    workflows = [fleet.start(TripBooked(trip=f"trip {number}"), workflow_id=f"w{number:02}") for number in range(60)]
    fleet.settle()

    open_ = {workflow for workflow in workflows if outcome(fleet, workflow) != {WorkflowStatus.COMPLETED}}
    assert open_ == {f"w{number:02}" for number in range(0, 60, 10)}
    assert not fleet.stopped()


def test_one_that_fails_among_many_makes_no_handler_run_more_than_twice(travel: Travel) -> None:
    script = Script(raising={("hotel", "trip 60"): 99})
    fleet = travel(script, partitions=1, retry=Retry(attempts=9, quick=0))
    for number in range(100):
        fleet.start(TripBooked(trip=f"trip {number}"), workflow_id=f"w{number:03}")

    fleet.turn("agency")
    fleet.turn("hotels")

    tried = Counter(script.reached["hotel"])
    assert len(tried) == 100
    assert max(tried.values()) == 2
    assert [trip for trip, count in tried.items() if count == 1] == [f"trip {number}" for number in range(61, 100)]


@pytest.mark.parametrize("said", ["no file 'm\udcfcnchen.csv'", "no \0 here"], ids=["no text", "NUL"])
def test_whatever_an_exception_says_can_be_kept_by_any_database(
    travel: Travel, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "saga")  # what is captured goes from process to process, which takes text alone
    fleet = travel(Script(raising={("hotel", "rome"): 99}, error=lambda _: OSError(said)), retry=PATIENT)
    workflow = fleet.start(TripBooked(trip="rome"))
    fleet.settle()

    error = fence(fleet, "hotels", workflow, "hotel").error
    assert error is not None
    assert error.encode().startswith(b"OSError: no ")
    assert "\0" not in error
