"""A compensation that was passed over or stated by hand is an exception, and everybody who hears of the end hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from saga import Event, Retry
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.store.archive import Search
from saga.testing.harness import Harness
from tests.travel import FlightFreed, FlightFull, HotelFreed, Script, TripBooked, harness

FIVE = Retry(attempts=5, quick=2, first=1, longest=2)
Travel = Callable[..., Harness]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that try five times, and closes them at the end."""
    with ExitStack() as stack:
        yield lambda script, retry=FIVE, **options: stack.enter_context(harness(script, retry=retry, **options))


def broken(*steps: str) -> Script:
    """A trip to Rome unwinds from the pivot, and these handlers fail until the script forgets it."""
    return Script(failing={("pay", "rome")}, raising=dict.fromkeys(((step, "rome") for step in steps), 99))


def unwound(fleet: Harness) -> str:
    """As far as it comes by itself, all tries included."""
    workflow = fleet.start(TripBooked(trip="rome"), workflow_id="w1")
    fleet.settle()
    for _ in range(FIVE.attempts):
        fleet.advance(2)
    return workflow


def resolve(fleet: Harness, by: str, step: str, event: Event) -> None:
    with fleet.transaction(by) as tx:
        fleet.participants[by].resolve("w1", step, event, tx, reason="done by hand", by="alice")
    fleet.settle()


def ends(fleet: Harness) -> dict[str, tuple[WorkflowStatus, frozenset[str]] | None]:
    found = {name: fleet.workflow(name, "w1") for name in fleet.stores}
    return {name: (end.status, end.exceptions) if end and end.closed else None for name, end in found.items()}


def all_end_with(fleet: Harness, *exceptions: str) -> bool:
    return ends(fleet) == dict.fromkeys(fleet.stores, (WorkflowStatus.COMPENSATED, frozenset(exceptions)))


def test_a_compensation_that_fails_five_times_and_is_resolved_by_an_operator_ends_compensated_with_exceptions(
    travel: Travel,
) -> None:
    fleet = travel(broken("free_hotel"))
    workflow = unwound(fleet)
    assert fleet.steps(workflow)["hotel"] is StepStatus.STUCK
    assert set(ends(fleet).values()) == {None}

    resolve(fleet, "hotels", "hotel", HotelFreed(trip="rome"))

    assert all_end_with(fleet, "hotel")
    assert [one.workflow.id for one in fleet.stores["bank"].search(Search(with_exceptions=True), 9)] == [workflow]


def test_a_compensation_that_succeeds_at_last_is_no_exception(travel: Travel) -> None:
    script = broken("free_hotel")
    fleet = travel(script)
    workflow = unwound(fleet)

    script.raising.clear()
    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].retry(workflow, tx)
    fleet.settle()

    assert all_end_with(fleet)
    assert fleet.stores["bank"].search(Search(with_exceptions=True), 9) == []


def test_a_compensation_that_is_passed_over_is_an_exception(travel: Travel) -> None:
    fleet = travel(broken("free_hotel"), on_stuck="continue")

    unwound(fleet)

    assert all_end_with(fleet, "hotel")


def test_what_was_passed_over_and_is_undone_later_stays_an_exception(travel: Travel) -> None:
    script = broken("free_hotel", "free_flight")
    fleet = travel(script, on_stuck="continue")
    workflow = unwound(fleet)
    assert set(ends(fleet).values()) == {None}

    script.raising.clear()
    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].retry(workflow, tx)
    fleet.settle()
    assert fleet.steps(workflow)["hotel"] is StepStatus.COMPENSATED
    with fleet.transaction("airline") as tx:
        fleet.participants["airline"].retry(workflow, tx)
    fleet.settle()

    assert all_end_with(fleet, "hotel")


@pytest.mark.parametrize("first", ["hotel", "flight"])
def test_exceptions_of_two_branches_meet_at_the_root(travel: Travel, first: str) -> None:
    fleet = travel(broken("free_hotel", "free_flight"))
    unwound(fleet)
    acts = [("hotels", "hotel", HotelFreed(trip="rome")), ("airline", "flight", FlightFreed(trip="rome"))]

    for owner, step, event in acts if first == "hotel" else reversed(acts):
        resolve(fleet, owner, step, event)

    assert all_end_with(fleet, "flight", "hotel")


def test_a_stated_outcome_of_an_action_is_no_exception(travel: Travel) -> None:
    fleet = travel(broken("flight"), retry=Retry(attempts=1))
    unwound(fleet)

    resolve(fleet, "airline", "flight", FlightFull(trip="rome"))

    assert all_end_with(fleet)
