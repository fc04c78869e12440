"""What an operator does about parked workflows: every verb ends the trouble, or refuses and says what to do instead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from saga import DefinitionError, Event, Refused, Retry
from saga.participant.handler import Act
from saga.protocol.facts import StepStatus, WorkflowStatus
from saga.testing.harness import Harness
from tests.travel import (
    FlightBooked,
    FlightFreed,
    HotelBooked,
    HotelFreed,
    HotelFull,
    Script,
    TripBooked,
    TripConfirmed,
    effects,
    harness,
)

HOPELESS = Retry(attempts=1)
PATIENT = Retry(attempts=9, quick=0, first=10)
Travel = Callable[..., Harness]


@pytest.fixture
def travel() -> Iterator[Travel]:
    """Makes fleets that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(harness(*arguments, **options))


def begun(fleet: Harness) -> str:
    """A trip to Rome, as far as it comes by itself."""
    workflow = fleet.start(TripBooked(trip="rome"), workflow_id="w1")
    fleet.settle()
    return workflow


def outcome(fleet: Harness, workflow: str) -> set[WorkflowStatus | None]:
    found = (fleet.workflow(name, workflow) for name in fleet.stores)
    return {end.status if end and end.closed else None for end in found}


def skip(fleet: Harness, by: str, step: str, workflow: str = "w1") -> None:
    with fleet.transaction(by) as tx:
        fleet.participants[by].skip(workflow, step, tx, reason="no room in town", by="alice")
    fleet.settle()


def resolve(fleet: Harness, by: str, step: str, event: Event, workflow: str = "w1") -> None:
    with fleet.transaction(by) as tx:
        fleet.participants[by].resolve(workflow, step, event, tx, reason="seen on their screen", by="alice")
    fleet.settle()


def records(fleet: Harness, participant: str, name: str) -> list[dict[str, Any]]:
    """The control records of this type that the participant has stated."""
    kind = ("ce_type", name.encode()), ("ce_source", participant.encode())
    found = [record for log in fleet.facts() for record in log if all(header in record.headers for header in kind)]
    return [fleet.participants[participant].codec.decode(name, record.value or b"") for record in found]


def test_nobody_states_anything_in_the_database_of_another(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    workflow = begun(fleet)

    with (
        pytest.raises(DefinitionError, match=r"database of participant 'hotels'; expected that of 'airline'"),
        fleet.transaction("hotels") as tx,
    ):
        fleet.participants["airline"].abort(workflow, tx, reason="a database too far", by="alice")
    fleet.settle()

    assert records(fleet, "airline", "saga.AbortRequested") == []
    assert outcome(fleet, workflow) == {None}


# --- skip


@pytest.mark.parametrize("retry", [HOPELESS, PATIENT], ids=["waits for an operator", "waits for its time"])
def test_a_parked_action_that_is_skipped_unwinds_the_workflow(travel: Travel, retry: Retry) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=retry)
    workflow = begun(fleet)

    skip(fleet, "hotels", "hotel")

    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert fleet.steps(workflow)["hotel"] is StepStatus.SKIPPED
    assert (workflow, "flight", "compensation") in effects(fleet)
    assert (workflow, "hotel", "compensation") not in effects(fleet)


def test_the_facts_of_a_skip_and_the_log_say_who_and_why(travel: Travel, caplog: pytest.LogCaptureFixture) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    skip(fleet, "hotels", "hotel")

    assert records(fleet, "hotels", "saga.StepSkipped") == [
        {"step": "hotel", "reason": "no room in town", "requested_by": "alice"}
    ]
    assert records(fleet, "hotels", "saga.AbortRequested") == [{"reason": "no room in town", "requested_by": "alice"}]
    assert "skip of step hotel of travel workflow w1, by alice: no room in town" in caplog.text


def test_the_pivot_is_not_skipped_but_aborted_or_resolved(travel: Travel) -> None:
    fleet = travel(Script(raising={("pay", "rome"): 99}), retry=HOPELESS)
    workflow = begun(fleet)

    with pytest.raises(Refused, match=r"it is the pivot.*abort the workflow, or resolve with travel.TripPaid"):
        skip(fleet, "bank", "pay")

    fleet.abort(workflow, by="agency")
    fleet.settle()
    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}


def test_nothing_after_the_pivot_is_skipped(travel: Travel) -> None:
    fleet = travel(Script())
    begun(fleet)
    fleet.start(TripBooked(trip="oslo"), workflow_id="w2")

    with pytest.raises(Refused, match=r"after the pivot.*retry it, or resolve it with travel.TripConfirmed"):
        skip(fleet, "agency", "confirm", "w2")


def test_a_call_to_the_world_may_have_had_its_effect_and_is_not_skipped(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), external=True, retry=HOPELESS)
    begun(fleet)

    with pytest.raises(Refused, match=r"find out what it did, and resolve the step with travel.HotelBooked or"):
        skip(fleet, "hotels", "hotel")


@pytest.mark.parametrize(
    ("script", "step", "why"),
    [
        (Script(), "flight", "it is done; abort"),
        (Script(waiting={"rome"}), "flight", "it waits for its outcome: resolve it with travel.FlightBooked or"),
    ],
    ids=["done", "pending"],
)
def test_what_is_not_parked_is_not_skipped(travel: Travel, script: Script, step: str, why: str) -> None:
    script.raising["hotel", "rome"] = 99
    fleet = travel(script, retry=HOPELESS)
    begun(fleet)

    with pytest.raises(Refused, match=why):
        skip(fleet, "airline", step)


def test_a_compensation_is_not_skipped(travel: Travel) -> None:
    fleet = travel(Script(failing={("pay", "rome")}, raising={("free_hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    with pytest.raises(Refused, match=r"it is being undone: retry its compensation, or resolve it with travel.HotelFreed"):
        skip(fleet, "hotels", "hotel")


def test_a_skip_comes_once(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99, ("free_hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].skip("w1", "hotel", tx, reason="no room")
        with pytest.raises(Refused, match="it is skipped already"):
            fleet.participants["hotels"].skip("w1", "hotel", tx, reason="no room")


def test_a_step_of_others_cannot_be_skipped(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    with pytest.raises(DefinitionError, match="it belongs to 'hotels'"):
        skip(fleet, "bank", "hotel")


# --- resolve


@pytest.mark.parametrize("external", [False, True], ids=["local", "external"])
@pytest.mark.parametrize(
    ("event", "end"),
    [
        (HotelBooked(trip="rome", room="7"), WorkflowStatus.COMPLETED),
        (HotelFull(trip="rome"), WorkflowStatus.COMPENSATED),
    ],
    ids=["done", "failed"],
)
def test_the_outcome_of_a_parked_action_is_stated(travel: Travel, external: bool, event: Event, end: WorkflowStatus) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), external=external, retry=HOPELESS)
    workflow = begun(fleet)

    resolve(fleet, "hotels", "hotel", event)

    assert outcome(fleet, workflow) == {end}
    assert (workflow, "hotel", "action") not in effects(fleet)


def test_what_was_found_done_in_the_world_is_undone_if_the_workflow_unwinds_already(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), external=True, retry=HOPELESS)
    workflow = begun(fleet)
    fleet.abort(workflow, by="agency")
    fleet.settle()
    assert outcome(fleet, workflow) == {None}

    resolve(fleet, "hotels", "hotel", HotelBooked(trip="rome"))

    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert (workflow, "hotel", "compensation") in effects(fleet)


@pytest.mark.parametrize("patience", [HOPELESS, PATIENT], ids=["stuck", "parked"])
def test_a_compensation_that_was_done_by_hand_is_stated(travel: Travel, patience: Retry) -> None:
    fleet = travel(Script(failing={("pay", "rome")}, raising={("free_hotel", "rome"): 99}), retry=patience)
    workflow = begun(fleet)
    assert outcome(fleet, workflow) == {None}

    resolve(fleet, "hotels", "hotel", HotelFreed(trip="rome"))

    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}
    assert (workflow, "hotel", "compensation") not in effects(fleet)


def test_a_stuck_step_after_the_pivot_is_stated_and_ends_the_workflow(travel: Travel) -> None:
    fleet = travel(Script())
    handlers = fleet.participants["agency"].handlers
    confirm = handlers[1, "confirm", Act.ACTION]
    handlers[1, "confirm", Act.ACTION] = replace(confirm, function=lambda paid, tx: 1 / 0, retry=HOPELESS)
    workflow = begun(fleet)
    assert fleet.steps(workflow)["confirm"] is StepStatus.STUCK

    resolve(fleet, "agency", "confirm", TripConfirmed(trip="rome"))

    assert outcome(fleet, workflow) == {WorkflowStatus.COMPLETED}


def test_a_workflow_that_has_ended_is_left_alone(travel: Travel) -> None:
    fleet = travel(Script())
    begun(fleet)

    with pytest.raises(Refused, match="it ended completed"):
        resolve(fleet, "agency", "confirm", TripConfirmed(trip="rome"))
    with pytest.raises(Refused, match="it ended completed"):
        skip(fleet, "hotels", "hotel")


def test_the_other_half_of_the_step_is_not_what_waits(travel: Travel) -> None:
    acting = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    undoing = travel(Script(failing={("pay", "rome")}, raising={("free_hotel", "rome"): 99}), retry=HOPELESS)
    begun(acting)
    begun(undoing)

    with pytest.raises(Refused, match=r"its action; expected travel.HotelBooked or travel.HotelFull"):
        resolve(acting, "hotels", "hotel", HotelFreed(trip="rome"))
    with pytest.raises(Refused, match=r"its compensation; expected travel.HotelFreed"):
        resolve(undoing, "hotels", "hotel", HotelBooked(trip="rome"))


def test_an_event_of_another_step_is_wrong_use(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    with pytest.raises(DefinitionError, match=r"cannot end with travel.FlightFreed; expected travel.HotelBooked or"):
        resolve(fleet, "hotels", "hotel", FlightFreed(trip="rome"))


@pytest.mark.parametrize(
    ("event", "told"), [(None, "NoneType"), ({"trip": "rome"}, "dict"), (HotelBooked, "the class HotelBooked")]
)
def test_what_is_no_event_is_wrong_use(travel: Travel, event: Any, told: str) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    for use in (lambda: resolve(fleet, "hotels", "hotel", event), lambda: fleet.start(event)):
        with pytest.raises(DefinitionError, match=f"found {told} in place of an event; expected an object of a class"):
            use()


def test_what_is_done_and_not_parked_waits_for_nothing(travel: Travel) -> None:
    fleet = travel(Script(raising={("pay", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    with pytest.raises(Refused, match="is done, not waiting for an outcome"):
        resolve(fleet, "hotels", "hotel", HotelBooked(trip="rome"))


@pytest.mark.parametrize(
    ("event", "other", "standing"),
    [
        (HotelBooked(trip="rome"), HotelFull(trip="rome"), "done"),
        (HotelBooked(trip="rome"), HotelFreed(trip="rome"), "done"),
        (HotelFull(trip="rome"), HotelBooked(trip="rome"), "failed"),
    ],
    ids=["done, then failed", "done, then undone", "failed, then done"],
)
def test_a_step_is_resolved_once_be_there_a_worker_or_not(travel: Travel, event: Event, other: Event, standing: str) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    workflow = begun(fleet)
    hotels = fleet.participants["hotels"]
    with fleet.transaction("hotels") as tx:
        hotels.resolve(workflow, "hotel", event, tx, reason="seen on their screen", by="alice")

    for again in (event, other):
        with pytest.raises(Refused, match=f"is {standing}, not waiting"), fleet.transaction("hotels") as tx:
            hotels.resolve(workflow, "hotel", again, tx, reason="seen on their screen", by="bob")
    with pytest.raises(Refused, match=f"it is {standing}"), fleet.transaction("hotels") as tx:
        hotels.skip(workflow, "hotel", tx, reason="no room in town", by="bob")

    fleet.settle()
    assert outcome(fleet, workflow) == {WorkflowStatus.COMPLETED if standing == "done" else WorkflowStatus.COMPENSATED}


def test_what_was_undone_by_hand_is_not_resolved_again_before_a_worker_has_seen_it(travel: Travel) -> None:
    fleet = travel(Script(failing={("pay", "rome")}, raising={("free_hotel", "rome"): 99}), retry=HOPELESS)
    workflow = begun(fleet)
    hotels = fleet.participants["hotels"]
    with fleet.transaction("hotels") as tx:
        hotels.resolve(workflow, "hotel", HotelFreed(trip="rome"), tx, reason="called them", by="alice")

    for again in (HotelFreed(trip="rome"), HotelBooked(trip="rome"), HotelFull(trip="rome")):
        with pytest.raises(Refused, match="is compensated, not waiting"), fleet.transaction("hotels") as tx:
            hotels.resolve(workflow, "hotel", again, tx, reason="called them", by="bob")

    fleet.settle()
    assert outcome(fleet, workflow) == {WorkflowStatus.COMPENSATED}


# --- the trace that is left


def test_an_abort_and_a_retry_say_who_asked(travel: Travel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "saga.operator")
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].retry("w1", tx, by="alice")
        fleet.participants["hotels"].abort("w1", tx, reason="the customer called", by="alice")
    fleet.settle()

    assert records(fleet, "hotels", "saga.AbortRequested") == [{"reason": "the customer called", "requested_by": "alice"}]
    assert [record.getMessage() for record in caplog.records if record.name == "saga.operator"] == [
        "retry of step hotel of travel workflow w1, by alice",
        "abort of travel workflow w1, by alice: the customer called",
    ]


def interventions(fleet: Harness, participant: str) -> list[tuple[str, str, str | None, str]]:
    """What the store keeps of what operators did."""
    found = fleet.workflow(participant, "w1")
    assert found is not None
    return [(act.verb, act.step, act.reason, act.by) for act in found.interventions]


def test_a_retry_and_a_resolution_leave_a_note_on_the_topics_and_in_the_store(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].retry("w1", tx, by="bob", reason="they are back")
    fleet.settle()
    resolve(fleet, "hotels", "hotel", HotelBooked(trip="rome"))

    assert records(fleet, "hotels", "saga.OperatorActed") == [
        {"verb": "retry", "step": "hotel", "event": None, "reason": "they are back", "requested_by": "bob"},
        {
            "verb": "resolve", "step": "hotel", "event": "travel.HotelBooked", "reason": "seen on their screen",
            "requested_by": "alice",
        },
    ]  # fmt: skip
    assert outcome(fleet, "w1") == {WorkflowStatus.COMPLETED}
    assert interventions(fleet, "hotels") == [
        ("retry", "hotel", "they are back", "bob"),
        ("resolve", "hotel", "seen on their screen", "alice"),
    ]
    notes = [r for log in fleet.broker.logs.values() for r in log if ("ce_status", b"note") in r.headers]
    assert {r.topic for r in notes} == {"travel.compensations"}
    assert len(notes) == 2


def test_a_skip_and_an_abort_are_kept_beside_their_facts(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    skip(fleet, "hotels", "hotel")

    assert interventions(fleet, "hotels") == [("skip", "hotel", "no room in town", "alice")]
    assert records(fleet, "hotels", "saga.OperatorActed") == []


def test_a_service_that_has_its_answer_from_the_world_is_no_operator(travel: Travel) -> None:
    fleet = travel(Script(waiting={"rome"}))
    begun(fleet)

    with fleet.transaction("airline") as tx:
        fleet.participants["airline"].resolve("w1", "flight", FlightBooked(trip="rome"), tx)
    fleet.settle()

    assert outcome(fleet, "w1") == {WorkflowStatus.COMPLETED}
    assert interventions(fleet, "airline") == []
    assert records(fleet, "airline", "saga.OperatorActed") == []


def test_a_person_who_gives_the_answer_of_the_world_is_named(travel: Travel) -> None:
    fleet = travel(Script(waiting={"rome"}))
    begun(fleet)

    resolve(fleet, "airline", "flight", FlightBooked(trip="rome"))

    assert interventions(fleet, "airline") == [("resolve", "flight", "seen on their screen", "alice")]


@pytest.mark.parametrize("record", [False, True])
def test_the_recording_handler_runs_for_a_stated_outcome_where_that_is_asked(travel: Travel, record: bool) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), external=True, retry=HOPELESS)
    begun(fleet)

    with fleet.transaction("hotels") as tx:
        fleet.participants["hotels"].resolve("w1", "hotel", HotelBooked(trip="rome"), tx, by="alice", record=record)
    fleet.settle()

    assert outcome(fleet, "w1") == {WorkflowStatus.COMPLETED}
    assert (("w1", "hotel", "action") in effects(fleet)) == record


def test_a_recording_that_fails_leaves_everything_as_it_was(travel: Travel) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), external=True, retry=HOPELESS)
    begun(fleet)
    with fleet.transaction("hotels") as tx:
        tx.execute("DROP TABLE effects")

    with (
        pytest.raises(Refused, match=r"keep \(recording of step 'hotel'\) failed.*no such table"),
        fleet.transaction("hotels") as tx,
    ):
        fleet.participants["hotels"].resolve("w1", "hotel", HotelBooked(trip="rome"), tx, by="alice", record=True)

    assert fleet.steps("w1")["hotel"] is StepStatus.RUNNING
    assert records(fleet, "hotels", "saga.OperatorActed") == []


def test_a_resolution_is_in_the_log(travel: Travel, caplog: pytest.LogCaptureFixture) -> None:
    fleet = travel(Script(raising={("hotel", "rome"): 99}), retry=HOPELESS)
    begun(fleet)

    resolve(fleet, "hotels", "hotel", HotelFull(trip="rome"))

    assert "resolve of step hotel of travel workflow w1 with travel.HotelFull, by alice: seen on their screen" in caplog.text
