"""Workflows that begin in the middle: what was done before the saga was there is stated, and the saga goes on from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from saga import ContractError, DefinitionError, Refused
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.testing.harness import Harness
from tests.rebuilding import put_in_place, rebuilt, unlike
from tests.travel import Script, TripBooked, effects, harness

ALL = ("agency", "hotels", "airline", "bank")
Travel = Callable[..., Harness]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **options))


def adopt(fleet: Harness, participant: str, step: str, event: str, **more: Any) -> bool:
    fields = {"trip": "rome", **({"room": "12"} if event == "HotelBooked" else {})}
    with fleet.transaction(participant) as tx:
        return fleet.participants[participant].adopt("legacy", step, event, fields, tx, **more)


def outcome(fleet: Harness) -> set[WorkflowStatus | None]:
    found = (fleet.workflow(name, "legacy") for name in ALL)
    return {end.status if end and end.closed else None for end in found}


def test_an_adopted_workflow_goes_on_from_where_the_business_stands(travel: Travel) -> None:
    fleet = travel(Script())

    adopt(fleet, "hotels", "hotel", "HotelBooked")
    fleet.settle()
    adopt(fleet, "agency", "book", "TripBooked")
    fleet.settle()

    assert outcome(fleet) == {WorkflowStatus.COMPLETED}
    assert [step for _, step, _ in effects(fleet)] == ["confirm", "flight", "pay"]


def test_what_was_adopted_is_undone_by_its_compensation_with_the_event_that_was_given(travel: Travel) -> None:
    fleet = travel(Script(failing={("flight", "rome")}))

    adopt(fleet, "hotels", "hotel", "HotelBooked")
    adopt(fleet, "agency", "book", "TripBooked")
    fleet.settle()

    assert outcome(fleet) == {WorkflowStatus.COMPENSATED}
    assert ("legacy", "hotel", "compensation") in effects(fleet)
    assert fleet.steps("legacy")["hotel"] is StepStatus.COMPENSATED


def test_what_is_known_is_left_alone(travel: Travel) -> None:
    fleet = travel(Script())
    adopt(fleet, "agency", "book", "TripBooked")
    fleet.settle()

    assert not adopt(fleet, "agency", "book", "TripBooked")
    assert not adopt(fleet, "hotels", "hotel", "HotelBooked")
    fleet.settle()

    assert effects(fleet).count(("legacy", "hotel", "action")) == 1


def test_what_is_no_outcome_of_an_own_step_is_refused(travel: Travel) -> None:
    fleet = travel(Script())

    with pytest.raises(DefinitionError, match=r"step 'hotel' is not done with travel.HotelFull; expected travel.HotelBooked"):
        adopt(fleet, "hotels", "hotel", "HotelFull")
    with pytest.raises(DefinitionError, match=r"'hotels' has no step 'flight' .+ it belongs to 'airline'"):
        adopt(fleet, "hotels", "flight", "FlightBooked")
    with pytest.raises(DefinitionError, match="has no gate 'insurance'"):
        adopt(fleet, "hotels", "hotel", "HotelBooked", gates=["insurance"])
    with fleet.transaction("hotels") as tx, pytest.raises(ContractError):
        fleet.participants["hotels"].adopt("legacy", "hotel", "HotelBooked", {"trip": 7}, tx)


def test_gates_are_those_that_are_given(travel: Travel) -> None:
    fleet = travel(Script(), versions=(2,), gate="insurance")

    adopt(fleet, "hotels", "hotel", "HotelBooked", gates=["insurance"])
    adopt(fleet, "agency", "book", "TripBooked", gates=["insurance"])
    fleet.settle()

    assert outcome(fleet) == {WorkflowStatus.COMPLETED}
    assert ("legacy", "insure", "action") in effects(fleet)


@pytest.mark.parametrize("id", ["", "x" * 600, "a\0b"], ids=["empty", "long", "with NUL"])
def test_an_id_that_others_could_not_keep_is_refused(travel: Travel, id: str) -> None:
    fleet = travel(Script())
    agency = fleet.participants["agency"]

    with fleet.transaction("agency") as tx, pytest.raises(DefinitionError, match="expected 1 to 512 without NUL"):
        agency.adopt(id, "book", "TripBooked", {"trip": "rome"}, tx)
    with fleet.transaction("agency") as tx, pytest.raises(DefinitionError, match="expected 1 to 512 without NUL"):
        agency.start_many({id: TripBooked(trip="rome")}, tx)


def test_a_workflow_is_adopted_in_one_version(travel: Travel) -> None:
    fleet = travel(Script(), versions=(1, 2))
    with fleet.transaction("airline") as tx:
        fleet.participants["airline"].adopt("legacy", "flight", "FlightBooked", {"trip": "rome", "seat": "4A"}, tx, version=1)

    with pytest.raises(Refused, match="in version 2 with the gates '': it runs in version 1"):
        adopt(fleet, "airline", "insure", "TripInsured")


@pytest.mark.parametrize("ended", [False, True], ids=["under way", "ended"])
def test_a_rebuild_keeps_the_deadline_that_each_began_with(travel: Travel, ended: bool) -> None:
    """The hotel's records were imported long before the agency's, with which the workflow was set going."""
    fleet = travel(Script(waiting=set() if ended else {"rome"}))
    adopt(fleet, "hotels", "hotel", "HotelBooked")
    fleet.advance(700)
    adopt(fleet, "agency", "book", "TripBooked")
    fleet.settle()

    for name in ("agency", "hotels"):
        live, made = fleet.stores[name], rebuilt(fleet, name)
        assert unlike(live, made) == []
        put_in_place(fleet, name, made)
    fleet.advance(1)
    assert outcome(fleet) == {WorkflowStatus.COMPLETED if ended else None}
    assert fleet.steps("legacy")["book"] is StepStatus.DONE
